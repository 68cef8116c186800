//! When the parts of streams are committed together, as options of `lineament serve`.

use std::time::Duration;

use catalog::ingest::stream::StreamSettings;
use clap::Args;

use crate::serve::bytes;

/// How parts of streams are committed together.
#[derive(Args, Clone)]
pub struct StreamGroups {
    /// How long a part waits for others to be committed with, as 250ms
    #[arg(long, env = "LINEAMENT_STREAM_WINDOW", value_name = "SPAN")]
    #[arg(default_value = "250ms", value_parser = window)]
    stream_window: Duration,
    /// Rows that are committed together at once, however short they have waited, as 8M
    #[arg(long, env = "LINEAMENT_STREAM_BYTES", value_name = "SIZE")]
    #[arg(default_value = "8M", value_parser = bytes)]
    stream_bytes: u64,
    /// Rows of all streams that may wait for their commit, as 64M; who sends more waits
    #[arg(long, env = "LINEAMENT_STREAM_WAITING", value_name = "SIZE")]
    #[arg(default_value = "64M", value_parser = bytes)]
    stream_waiting: u64,
}

impl StreamGroups {
    pub fn settings(&self) -> StreamSettings {
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        StreamSettings {
            window: self.stream_window,
            bytes: bytes(self.stream_bytes),
            waiting_bytes: bytes(self.stream_waiting),
        }
    }
}

/// A span of a minute at most.
fn window(text: &str) -> Result<Duration, String> {
    let span = text.parse::<feature::Span>().map_err(|error| error.to_string())?;
    match u64::try_from(span.micros()) {
        Ok(micros @ ..=60_000_000) => Ok(Duration::from_micros(micros)),
        _ => Err(format!("`{text}` is no time for parts to wait; write up to 1m")),
    }
}
