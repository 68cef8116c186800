//! `lineament search`

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serving::{FoundKind, Result, SearchReport, SearchRequest};

use crate::report::{self, Format};
use crate::session::Place;
use crate::table::{aligned, shortened};

/// Find features, feature views and feature services by name, description, tag, owner, unit and use, also where a word is mistyped
#[derive(Args)]
pub struct Arguments {
    /// What to look for: wind speed, weather.temp. With where it must stand, if that matters: tag:pii, owner:ann, unit:mph,
    /// use:delay, view:weather, name:…, description:…
    #[arg(required = true)]
    words: Vec<String>,
    /// Find this kind alone
    #[arg(long, value_enum)]
    kind: Option<Sought>,
    /// How many to show, the best first; 1,000 at most
    #[arg(long, default_value_t = 20)]
    limit: usize,
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Sought {
    Feature,
    View,
    Service,
}

impl From<Sought> for FoundKind {
    fn from(sought: Sought) -> Self {
        match sought {
            Sought::Feature => Self::Feature,
            Sought::View => Self::FeatureView,
            Sought::Service => Self::FeatureService,
        }
    }
}

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let request = SearchRequest {
        words: arguments.words.join(" "),
        kind: arguments.kind.map(Into::into),
        limit: Some(arguments.limit),
    };
    let report = place.open().await?.search(&request, &place.author()).await?;
    report::print(&report, arguments.format, print)?;
    Ok(if report.found.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(report: &SearchReport) {
    if report.found.is_empty() {
        println!("nothing has these words (as of sequence {})", report.sequence);
        return;
    }
    let head = ["name", "kind", "unit", "owner", "tags", "uses", "description", "matched"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    let cell = |text: &Option<String>| shortened(text.as_deref().unwrap_or_default());
    for one in &report.found {
        lines.push(vec![
            one.thing.name.clone(),
            one.thing.kind.name().replace('_', " "),
            cell(&one.thing.unit),
            cell(&one.thing.owner),
            shortened(&one.thing.tags.join(", ")),
            shortened(&one.uses.join(", ")),
            cell(&one.thing.description),
            one.matched.join(", "),
        ]);
    }
    print!("{}", aligned(&lines, &[]));
    if !report.complete {
        println!("… and more; --limit shows more, further words fewer");
    }
}
