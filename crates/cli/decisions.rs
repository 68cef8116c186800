//! `lineament decisions`

use std::process::ExitCode;

use clap::Args;
use serving::{Query, Result};

use crate::session::Place;
use crate::table;

/// List who decided what and why, the newest last: definitions applied, things withdrawn, held, deprecated, approved. The same is in
/// `lineament.decisions`
#[derive(Args)]
pub struct Arguments {
    /// Of this kind alone, as apply, withdraw, hold, deprecate, approve, policies
    #[arg(long)]
    kind: Option<String>,
    /// About this alone, as weather@2; with all its versions where none is named
    #[arg(long)]
    of: Option<String>,
    /// By this person alone
    #[arg(long)]
    who: Option<String>,
    /// How many to show, of the newest
    #[arg(long, default_value_t = 50)]
    rows: usize,
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let serving = place.open().await?;
    let author = place.author();
    let retrieval = serving.retrieve(Query::sql(statement(&arguments)), &author).await?;
    let schema = retrieval.schema.clone();
    let batches = retrieval.collect().await?;
    serving.flush(&author).await?;
    table::print(&schema, &batches, arguments.rows)?;
    Ok(ExitCode::SUCCESS)
}

fn statement(arguments: &Arguments) -> String {
    let literal = |text: &String| format!("'{}'", text.replace('\'', "''"));
    let mut conditions = Vec::new();
    conditions.extend(arguments.kind.as_ref().map(|kind| format!("kind = {}", literal(kind))));
    conditions.extend(arguments.who.as_ref().map(|who| format!("principal = {}", literal(who))));
    conditions.extend(arguments.of.as_ref().map(|of| {
        let of = literal(of);
        format!("(subject = {of} OR split_part(subject, '@', 1) = {of} OR id = {of})")
    }));
    let kept = if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") };
    format!(
        "SELECT * FROM (SELECT sequence, committed_at, principal, kind, subject, id, reason FROM lineament.decisions WHERE {kept} \
         ORDER BY sequence DESC, kind DESC, subject DESC LIMIT {}) AS newest ORDER BY sequence, kind, subject",
        arguments.rows
    )
}

#[cfg(test)]
mod tests {
    use super::{Arguments, statement};

    #[test]
    fn what_is_asked_for_is_a_text_and_no_sql() {
        let arguments = Arguments {
            kind: Some("hold".to_owned()),
            of: None,
            who: Some("o'brien' OR true".to_owned()),
            rows: 3,
        };
        let sql = statement(&arguments);
        assert!(sql.contains("WHERE kind = 'hold' AND principal = 'o''brien'' OR true' "), "{sql}");
    }
}
