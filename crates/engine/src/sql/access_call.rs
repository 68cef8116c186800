//! The arguments of `access`.

use std::collections::BTreeSet;

use datafusion::sql::sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr};
use feature::name::nearest;
use feature::policy::{Action, Purpose};
use feature::{Sequence, Timestamp};

use super::calls::{instant, number, text, texts};
use super::time_travel::normalized;
use crate::access::{AccessQuestion, Moment};

const USAGE: &str = "write access('weather.temp', principal => 'ann'); it also takes roles => ['analyst'], groups => ['nyc'], \
     purpose => 'train', action => 'read', at => TIMESTAMP '2024-03-01T00:00:00Z' (or the sequence of an entry)";

const ARGUMENTS: [&str; 6] = ["principal", "roles", "groups", "purpose", "action", "at"];

/// # Errors
/// What is wrong with an argument, and how the call is written.
pub fn parse(args: &[FunctionArg]) -> Result<AccessQuestion, String> {
    let wrong = |why: String| format!("{why}; {USAGE}");
    let mut question = AccessQuestion {
        reference: String::new(),
        principal: String::new(),
        roles: None,
        groups: Vec::new(),
        purpose: Purpose::default(),
        action: Action::Read,
        at: Moment::default(),
    };
    let mut given = BTreeSet::new();
    for arg in args {
        let (name, value) = match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) if question.reference.is_empty() => {
                question.reference = text(value)
                    .ok_or_else(|| wrong("access begins with the name of a view or a feature".to_owned()))?;
                continue;
            }
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => (normalized(name), value),
            other => return Err(wrong(format!("`{other}` is not an argument that access takes"))),
        };
        if !given.insert(name.clone()) {
            return Err(wrong(format!("`{name}` is given twice")));
        }
        let told = |found: Option<String>| found.ok_or_else(|| wrong(format!("{name} is not a text")));
        let list =
            |found: Option<Vec<String>>| found.ok_or_else(|| wrong(format!("{name} is not a list of texts")));
        match name.as_str() {
            "principal" => question.principal = told(text(value))?,
            "roles" => question.roles = Some(list(texts(value))?),
            "groups" => question.groups = list(texts(value))?,
            "purpose" => {
                question.purpose = told(text(value))?
                    .parse()
                    .map_err(|error: feature::policy::UnknownPurpose| wrong(error.to_string()))?;
            }
            "action" => {
                let action = told(text(value))?;
                question.action = Action::parse(&action).ok_or_else(|| {
                    wrong(format!(
                        "`{action}` is not an action; actions are {}",
                        Action::ALL.map(Action::as_str).join(", ")
                    ))
                })?;
            }
            "at" => question.at = moment(value).map_err(wrong)?,
            other => {
                let near = nearest(other, ARGUMENTS)
                    .map(|near| format!(" (did you mean `{near}`?)"))
                    .unwrap_or_default();
                return Err(wrong(format!("access has no argument `{other}`{near}")));
            }
        }
    }
    if question.reference.is_empty() {
        return Err(wrong("access lacks the view or feature that it is about".to_owned()));
    }
    if question.principal.is_empty() {
        return Err(wrong("access lacks the principal that it is about".to_owned()));
    }
    Ok(question)
}

fn moment(value: &Expr) -> Result<Moment, String> {
    if let Some(sequence) = number(value) {
        return Ok(Moment::Sequence(Sequence(sequence)));
    }
    let told = instant(value).ok_or_else(|| "at is neither an instant nor a sequence".to_owned())?;
    told.parse::<Timestamp>().map(Moment::Instant).map_err(|error| format!("at: {error}"))
}
