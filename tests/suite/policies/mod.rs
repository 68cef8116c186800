//! Policies: what is seen of a store that is governed, by every way that values leave by.

mod applied;
mod differential;
mod search;
mod system_views;
mod ways_out;

use catalog::Author;
use feature::definition::Definitions;
use feature::policy::PolicyFile;
use serving::Serving;

use super::stores::author;

/// Somebody with a role.
pub fn with_role(role: &str) -> Author {
    Author { principal: "ann".to_owned(), roles: vec![role.to_owned()], ..author() }
}

fn file(text: &str) -> Vec<PolicyFile> {
    vec![PolicyFile { name: "base.cedar".to_owned(), text: text.to_owned() }]
}

/// Everything to the tester, who makes the store of a test.
pub const TESTER: &str = "permit(principal == User::\"tester\", action, resource);\n";

pub async fn apply(serving: &Serving, text: &str, by: &Author) -> serving::Result<()> {
    serving.apply_policies(&file(text), &Definitions::default(), by).await.map(|_| ())
}

pub async fn govern(serving: &Serving, text: &str) {
    apply(serving, &format!("{TESTER}{text}"), &author()).await.unwrap();
}
