//! The mistakes of newcomers, each with the exact message that it gets.

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Mistakes {
    mistakes: Vec<Mistake>,
}

#[derive(Deserialize)]
struct Mistake {
    mistake: String,
    files: Vec<File>,
    messages: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    name: String,
    text: String,
}

#[test]
fn each_mistake_gets_its_message() {
    let text = std::fs::read_to_string(repository("testdata/mistakes/definitions.toml")).unwrap();
    let Mistakes { mistakes } = toml::from_str(&text).unwrap();
    assert!(mistakes.len() >= 14, "{}", mistakes.len());
    let mut wrong = Vec::new();
    for Mistake { mistake, files, messages } in mistakes {
        let errors = match files.as_slice() {
            [only] => parse(&only.name, &only.text).map(|_| ()),
            several => {
                let files = several.iter().map(|file| (file.name.clone(), file.text.clone()));
                parse_files(files.collect()).map(|_| ())
            }
        };
        let found: Vec<String> = match errors {
            Ok(()) => Vec::new(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        };
        assert!(!messages.is_empty(), "{mistake}");
        if found != messages {
            wrong.push(serde_json::json!({ "mistake": mistake, "found": found }));
        }
    }
    assert!(wrong.is_empty(), "{}", serde_json::Value::from(wrong));
}
