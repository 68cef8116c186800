//! `lineament lineage`

use std::process::ExitCode;

use catalog::Author;
use clap::{Args, ValueEnum};
use serving::{
    Error, KeptReport, KeptStep, Kind, LineageReport, LineageRequest, LineageStep, Result, Serving,
};

use crate::report;
use crate::session::Place;
use crate::table::grouped;

/// Draw where something came from, and what came of it
#[derive(Args)]
pub struct Arguments {
    /// A batch, a training set, a run, weather@3, weather@3.temp, delay/3, a deployment: by name or id
    node: String,
    /// Only where it came from
    #[arg(long, conflicts_with = "down")]
    up: bool,
    /// Only what came of it
    #[arg(long)]
    down: bool,
    /// What is kept and needs it, so that it must stay: deployments in force first
    #[arg(long, conflicts_with_all = ["up", "down", "depth", "authority"])]
    kept_by: bool,
    /// How many edges far
    #[arg(long)]
    depth: Option<u32>,
    /// As of an earlier sequence
    #[arg(long)]
    sequence: Option<u64>,
    /// Show every node; else the fifth and later of one kind are counted
    #[arg(long)]
    all: bool,
    #[arg(long, value_enum, default_value_t = Format::Tree)]
    format: Format,
    /// The name of this store in OpenLineage events, as lineament://NAME. Not said: its id
    #[arg(long, value_name = "NAME")]
    authority: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Tree,
    /// For Graphviz
    Dot,
    Json,
    /// Events, one a line, as `lineament emit` sends them
    Openlineage,
}

/// Lines of what keeps something.
const KEPT_SHOWN: usize = 20;
/// Nodes of one kind that are shown under another.
const SHOWN: usize = 4;

pub async fn run(place: &Place, arguments: Arguments) -> Result<ExitCode> {
    let (serving, author) = (place.open().await?, place.author());
    if arguments.kept_by {
        let report = serving.kept_by(&arguments.node, arguments.sequence.map(feature::Sequence)).await?;
        return print_kept_by(&report, arguments.format, if arguments.all { usize::MAX } else { KEPT_SHOWN });
    }
    let request = |up| LineageRequest {
        node: arguments.node.clone(),
        up,
        depth: arguments.depth,
        sequence: arguments.sequence.map(feature::Sequence),
    };
    let requests: Vec<LineageRequest> = [true, false]
        .into_iter()
        .filter(|up| !(if *up { arguments.down } else { arguments.up }))
        .map(request)
        .collect();
    let shown = if arguments.all { usize::MAX } else { SHOWN };
    match arguments.format {
        Format::Tree => {
            for (up, report) in &reports(&serving, &requests, &author).await? {
                print_tree(report, *up, shown);
            }
        }
        Format::Dot => print_dot(&reports(&serving, &requests, &author).await?),
        Format::Json => {
            let json: serde_json::Map<String, serde_json::Value> = reports(&serving, &requests, &author)
                .await?
                .iter()
                .map(|(up, report)| {
                    let name = if *up { "up" } else { "down" };
                    serde_json::to_value(report).map(|report| (name.to_owned(), report))
                })
                .collect::<Result<_, _>>()
                .map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
            println!("{:#}", serde_json::Value::Object(json));
        }
        Format::Openlineage => {
            serving.require_everything(&author, "lineage as OpenLineage events").await?;
            let around = serving.events_around(&requests, arguments.authority.as_deref()).await?;
            for event in &around.events {
                println!("{}", event.json);
            }
            if !around.complete {
                eprintln!("cut here: raise --depth to see more");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_kept_by(report: &KeptReport, format: Format, shown: usize) -> Result<ExitCode> {
    match format {
        Format::Tree => {}
        Format::Json => {
            report::json(report)?;
            return Ok(ExitCode::SUCCESS);
        }
        Format::Dot | Format::Openlineage => {
            let why = "what keeps something is told as a tree or as JSON; leave --format out, or say json";
            return Err(Error::new(Kind::Invalid, why.to_owned()));
        }
    }
    println!("{} {}   kept for", report.kind.replace('_', " "), report.node);
    if report.kept_by.is_empty() {
        println!("└─ nothing");
    }
    let last = report.kept_by.len().saturating_sub(1);
    for (place, kept) in report.kept_by.iter().take(shown).enumerate() {
        let branch = if place == last { "└─" } else { "├─" };
        // What it is kept for first, and then the way there.
        let mut steps = kept.path.iter().skip(1).rev();
        let step = |step: &KeptStep| format!("{} {}", step.kind.replace('_', " "), step.label);
        let kept_for = steps.next().map(step).unwrap_or_default();
        let way: Vec<String> = steps.map(step).collect();
        let way = if way.is_empty() { String::new() } else { format!("   from {}", way.join(", ")) };
        println!("{branch} {kept_for}{way}");
    }
    if report.kept_by.len() > shown {
        println!("└─ … {} more; --all shows them", grouped((report.kept_by.len() - shown) as u64));
    }
    Ok(ExitCode::SUCCESS)
}

/// What each walk found, with whether it went up.
async fn reports(
    serving: &Serving,
    requests: &[LineageRequest],
    author: &Author,
) -> Result<Vec<(bool, LineageReport)>> {
    let mut reports = Vec::new();
    for request in requests {
        reports.push((request.up, serving.lineage(request, author).await?));
    }
    Ok(reports)
}

fn print_tree(report: &LineageReport, up: bool, shown: usize) {
    let Some(start) = report.steps.first() else { return };
    let way = if up { "came from" } else { "led to" };
    println!("{} {}   {way}", start.kind.replace('_', " "), start.label);
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); report.steps.len()];
    for (place, step) in report.steps.iter().enumerate() {
        if let Some(from) = step.from {
            children[from].push(place);
        }
    }
    if report.steps.len() == 1 {
        println!("└─ nothing");
    }
    branches(report, &children, 0, "", shown);
    if !report.complete {
        println!("cut here: raise --depth to see more");
    }
    println!();
}

fn branches(report: &LineageReport, children: &[Vec<usize>], at: usize, indent: &str, shown: usize) {
    // Those of one kind together, the rest of a long list as a number.
    let mut lines: Vec<(Option<usize>, String)> = Vec::new();
    let mut kinds: Vec<(&str, Option<&str>)> = Vec::new();
    for child in &children[at] {
        let step = &report.steps[*child];
        if !kinds.contains(&(step.kind, step.edge)) {
            kinds.push((step.kind, step.edge));
        }
    }
    for (kind, edge) in kinds {
        let of_kind: Vec<usize> = children[at]
            .iter()
            .copied()
            .filter(|child| report.steps[*child].kind == kind && report.steps[*child].edge == edge)
            .collect();
        for child in of_kind.iter().take(shown) {
            lines.push((Some(*child), line(&report.steps[*child])));
        }
        if of_kind.len() > shown {
            let rest = (of_kind.len() - shown) as u64;
            let cells: u64 = of_kind[shown..].iter().filter_map(|child| report.steps[*child].cells).sum();
            let cells = if cells > 0 { format!(", {} cells", grouped(cells)) } else { String::new() };
            let edge = edge.unwrap_or_default();
            lines.push((
                None,
                format!("… {} more {} by {edge}{cells}", grouped(rest), kind.replace('_', " ")),
            ));
        }
    }
    let last = lines.len().saturating_sub(1);
    for (place, (child, text)) in lines.into_iter().enumerate() {
        let (branch, below) = if place == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        println!("{indent}{branch}{text}");
        if let Some(child) = child {
            branches(report, children, child, &format!("{indent}{below}"), shown);
        }
    }
}

fn line(step: &LineageStep) -> String {
    let mut text = format!("{} {}", step.kind.replace('_', " "), step.label);
    let edge = step.edge.unwrap_or_default().replace('_', " ");
    text.push_str(&format!("   {edge}"));
    if let Some(role) = step.role {
        text.push_str(&format!(" ({})", role.as_str()));
    }
    if let Some(cells) = step.cells {
        text.push_str(&format!(", {} cells", grouped(cells)));
    }
    text
}

fn print_dot(reports: &[(bool, LineageReport)]) {
    let name = |step: &LineageStep| format!("{:?}", format!("{}:{}", step.kind, step.id));
    println!("digraph lineage {{\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];");
    for (up, report) in reports {
        for step in &report.steps {
            let label = format!("{}\n{}", step.kind.replace('_', " "), step.label);
            println!("  {} [label={label:?}];", name(step));
            if let Some(from) = step.from.map(|from| &report.steps[from]) {
                let (tail, head) = if *up { (step, from) } else { (from, step) };
                println!("  {} -> {} [label={:?}];", name(tail), name(head), step.edge.unwrap_or_default());
            }
        }
    }
    println!("}}");
}
