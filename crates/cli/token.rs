//! `lineament token`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use feature::{Span, Timestamp};
use server::{NewToken, create_token};
use serving::{Error, Kind, Result};
use storage::environment::Clock;

/// Tokens that callers of a server need
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Create(Create),
}

/// Make a token, and add its digest to the file that `lineament serve --tokens` reads. To take it back, take its entry out
#[derive(Args)]
struct Create {
    /// In whose name its bearer calls: it stands in the log with all that the call writes
    #[arg(long, value_name = "NAME")]
    principal: String,
    /// The file; made where there is none
    #[arg(long, value_name = "FILE", default_value = "tokens.toml")]
    tokens: PathBuf,
    /// How long it counts, as 90d, or until when, as 2027-01-01T00:00:00Z; for ever where not said
    #[arg(long, value_name = "SPAN|INSTANT")]
    expires: Option<String>,
    /// A role of the principal; may be given several times
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
}

pub fn run(arguments: Arguments) -> Result<ExitCode> {
    let Verb::Create(Create { principal, tokens, expires, role }) = arguments.verb;
    let expires = expires.map(|text| expiry(&text, Clock::System.now())).transpose()?;
    let wanted = NewToken { principal, expires, roles: role };
    let token =
        create_token(&tokens, &wanted).map_err(|error| Error::new(Kind::Invalid, error.to_string()))?;
    // The token alone goes to standard output, so that it can be handed on without being shown.
    println!("{token}");
    let until = expires.map_or_else(|| "for ever".to_owned(), |expires| format!("until {expires}"));
    eprintln!(
        "`{}` may call with it {until}; it is not shown again, and {} holds its digest alone",
        wanted.principal,
        tokens.display()
    );
    Ok(ExitCode::SUCCESS)
}

fn expiry(text: &str, now: Timestamp) -> Result<Timestamp> {
    let wrong = |why: &str| {
        Error::new(
            Kind::Invalid,
            format!(
                "--expires `{text}`: {why}; write how long, as 90d, or until when, as 2027-01-01T00:00:00Z"
            ),
        )
    };
    let expires = match text.parse::<Span>() {
        Ok(span) => now.micros().checked_add(span.micros()).map(Timestamp),
        Err(_) => Some(text.parse().map_err(|_| wrong("it is neither a span nor an instant"))?),
    };
    expires.filter(|expires| *expires > now).ok_or_else(|| wrong("the token would never count"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiries_are_spans_or_instants_to_come() {
        let now = Timestamp(1_000_000);
        assert_eq!(expiry("2s", now).unwrap(), Timestamp(3_000_000));
        assert_eq!(expiry("1970-01-01T00:00:02Z", now).unwrap(), Timestamp(2_000_000));
        for text in ["", "soon", "0s", "1970-01-01T00:00:01Z", "9223372036854775807us", "-1d"] {
            assert!(expiry(text, now).unwrap_err().to_string().contains("as 90d"), "{text}");
        }
    }
}
