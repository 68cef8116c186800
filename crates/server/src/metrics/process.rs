//! The process itself, by the names that all programs have these under. Where the system does not say, they are left out.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::gauges::write;

/// Linux tells programs of a processor's time in these, on all machines.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug)]
pub struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let to = &mut encoder;
        if let Some(bytes) = read("/proc/self/status").and_then(|text| resident(&text)) {
            let bytes = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
            write(to, "process_resident_memory", "Memory that is in use", Some(&Unit::Bytes), &bytes)?;
        }
        if let Some(ticks) = read("/proc/self/stat").and_then(|text| ticks(&text)) {
            let seconds = ConstCounter::new(ticks as f64 / TICKS_PER_SECOND);
            write(to, "process_cpu", "Time of all cores together", Some(&Unit::Seconds), &seconds)?;
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            let open = ConstGauge::new(i64::try_from(open.count()).unwrap_or(i64::MAX));
            write(to, "process_open_fds", "Files and connections that are open", None, &open)?;
        }
        Ok(())
    }
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// `VmRSS:     50240 kB`
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// User's and system's time; the program's name stands before them in brackets, and may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        assert_eq!(resident("Name:\tx\nVmRSS:\t   50240 kB\n"), Some(50_240 * 1024));
        assert_eq!(resident("Name:\tx\n"), None);
        let stat = "7 (a ) name) S 1 7 7 0 -1 4194560 900 0 0 0 150 25 0 0 20 0 9 0 1 2 3";
        assert_eq!(ticks(stat), Some(175));
        assert_eq!(ticks("7 (cut off) S 1"), None);
    }
}
