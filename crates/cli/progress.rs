//! Progress bars, on standard error and only where a person watches.

use std::sync::Arc;

use catalog::ingest::{Progress, Stage};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serving::VerifyProgress;

/// A bar that counts rows.
pub fn rows(what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("  {prefix:<12} {bar:32} {human_pos:>9}/{human_len:<9}") {
        bar.set_style(style);
    }
    bar.set_prefix(what.to_owned());
    bar
}

/// A bar that counts objects.
pub fn objects(what: &str) -> (ProgressBar, Arc<dyn Fn(VerifyProgress) + Send + Sync>) {
    let bar = rows(what);
    let shown = bar.clone();
    let report = move |progress: VerifyProgress| {
        shown.set_length(progress.of);
        shown.set_position(progress.objects);
    };
    (bar, Arc::new(report))
}

/// A bar for one ingest.
pub fn bar(what: &str) -> (ProgressBar, Arc<dyn Fn(Progress) + Send + Sync>) {
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
    if let Ok(style) =
        ProgressStyle::with_template("  {prefix:<12} {bar:32} {human_pos:>9}/{human_len:<9} {msg}")
    {
        bar.set_style(style);
    }
    bar.set_prefix(what.to_owned());
    let shown = bar.clone();
    let report = move |progress: Progress| {
        let stage = match progress.stage {
            Stage::Reading => "reading files",
            Stage::Validating => "validating rows",
            Stage::Writing => "writing partitions",
            Stage::Committing => "committing",
        };
        shown.set_length(progress.of.max(1));
        shown.set_position(progress.rows);
        shown.set_message(stage);
    };
    (bar, Arc::new(report))
}
