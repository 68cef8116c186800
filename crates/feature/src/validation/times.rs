//! Instants and days: whole microseconds in UTC, from clocks with and without a zone.

use std::collections::HashMap;

use arrow::datatypes::TimeUnit;
use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{GapInfo, Tz};

use super::fault::Fault;
use super::text::Written;
use crate::definition::RepeatedHour;

pub(super) const SECOND: i64 = 1_000_000;
pub(super) const DAY: i64 = 86_400 * SECOND;

/// Year 1 to year 9999: what RFC 3339, SQL and Python can all write.
pub(super) const FIRST_DAY: i64 = -719_162;
pub(super) const LAST_DAY: i64 = 2_932_896;
const FIRST: i64 = FIRST_DAY * DAY;
const LAST: i64 = LAST_DAY * DAY + (DAY - 1);

/// The same instant, if year 1 to 9999 has it.
pub(super) fn in_range(micros: i64) -> Result<i64, Fault> {
    if (FIRST..=LAST).contains(&micros) { Ok(micros) } else { Err(Fault::TimeOutOfRange) }
}

/// The same day, if year 1 to 9999 has it.
pub(super) fn day_in_range(day: i64) -> Result<i32, Fault> {
    if (FIRST_DAY..=LAST_DAY).contains(&day) { Ok(day as i32) } else { Err(Fault::TimeOutOfRange) }
}

/// Whole microseconds of a count of `unit`, never rounded.
pub(super) fn micros(count: i64, unit: TimeUnit) -> Result<i64, Fault> {
    let micros = match unit {
        TimeUnit::Second => count.checked_mul(SECOND),
        TimeUnit::Millisecond => count.checked_mul(1000),
        TimeUnit::Microsecond => Some(count),
        TimeUnit::Nanosecond if count % 1000 != 0 => return Err(Fault::TimeTooFine),
        TimeUnit::Nanosecond => Some(count / 1000),
    };
    in_range(micros.ok_or(Fault::TimeOutOfRange)?)
}

/// The zone of times that carry none, and what its repeated hour means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Zone {
    pub tz: Tz,
    pub repeated: RepeatedHour,
}

/// Clock readings to instants. It remembers days, for a zone's tables are slow to search for every row.
pub(super) struct Clock {
    zone: Option<Zone>,
    /// Seconds east of UTC of days on which the zone does not change; `None` where it does.
    days: HashMap<i64, Option<i64>>,
    last: (i64, Option<i64>),
}

impl Clock {
    pub(super) fn new(zone: Option<Zone>) -> Self {
        Self { zone, days: HashMap::new(), last: (i64::MIN, None) }
    }

    /// The instant of a clock reading in the declared zone.
    pub(super) fn instant(&mut self, local: i64) -> Result<i64, Fault> {
        let Some(zone) = self.zone else { return Err(Fault::TimeWithoutZone) };
        let local = in_range(local)?;
        match self.offset_of_day(zone.tz, local.div_euclid(DAY)) {
            Some(offset) => in_range(local - offset * SECOND),
            None => in_range(changing(zone, local)?),
        }
    }

    /// The first instant of a day: in the declared zone, in UTC where none is declared. A day starts once, whatever a
    /// repeated hour means elsewhere: at its first midnight, or where the gap ends that swallows its midnight.
    pub(super) fn start_of_day(&mut self, day: i64) -> Result<i64, Fault> {
        let midnight = i64::from(day_in_range(day)?) * DAY;
        let Some(zone) = self.zone else { return Ok(midnight) };
        if let Some(offset) = self.offset_of_day(zone.tz, day) {
            return in_range(midnight - offset * SECOND);
        }
        match changing(Zone { repeated: RepeatedHour::Earlier, ..zone }, midnight) {
            Err(Fault::TimeNonexistent) => {}
            found => return in_range(found?),
        }
        let naive = naive(midnight)?;
        let after = GapInfo::new(&naive, &zone.tz).and_then(|gap| gap.end).ok_or(Fault::TimeNonexistent)?;
        if after.date_naive() != naive.date() {
            return Err(Fault::TimeNonexistent);
        }
        in_range(after.timestamp_micros())
    }

    fn offset_of_day(&mut self, tz: Tz, day: i64) -> Option<i64> {
        if self.last.0 != day {
            let offset = *self.days.entry(day).or_insert_with(|| {
                // No zone has ever changed twice within three days, so a day that ends as it began did not change.
                let first = only_offset(tz, day * DAY)?;
                (only_offset(tz, day * DAY + (DAY - 1))? == first).then_some(first)
            });
            self.last = (day, offset);
        }
        self.last.1
    }

    /// The instant of a written time; a date alone means the start of its day.
    pub(super) fn written(&mut self, written: Written) -> Result<i64, Fault> {
        match written.offset {
            Some(offset) => in_range(written.local - i64::from(offset) * SECOND),
            None if written.date_only => self.start_of_day(written.local.div_euclid(DAY)),
            None => self.instant(written.local),
        }
    }
}

fn naive(local: i64) -> Result<NaiveDateTime, Fault> {
    Ok(DateTime::from_timestamp_micros(local).ok_or(Fault::TimeOutOfRange)?.naive_utc())
}

/// Seconds east of UTC, where the reading exists once.
fn only_offset(tz: Tz, local: i64) -> Option<i64> {
    let naive = naive(local).ok()?;
    tz.offset_from_local_datetime(&naive).single().map(|offset| i64::from(offset.fix().local_minus_utc()))
}

/// The instant of a reading on a day on which the zone changes.
fn changing(zone: Zone, local: i64) -> Result<i64, Fault> {
    let instant = |offset: &chrono_tz::TzOffset| local - i64::from(offset.fix().local_minus_utc()) * SECOND;
    match zone.tz.offset_from_local_datetime(&naive(local)?) {
        MappedLocalTime::Single(offset) => Ok(instant(&offset)),
        MappedLocalTime::None => Err(Fault::TimeNonexistent),
        MappedLocalTime::Ambiguous(one, other) => match zone.repeated {
            RepeatedHour::Refuse => Err(Fault::TimeRepeated),
            RepeatedHour::Earlier => Ok(instant(&one).min(instant(&other))),
            RepeatedHour::Later => Ok(instant(&one).max(instant(&other))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::validation::text::parse_time;

    fn clock(tz: Tz, repeated: RepeatedHour) -> Clock {
        Clock::new(Some(Zone { tz, repeated }))
    }

    fn read(clock: &mut Clock, text: &str) -> Result<String, Fault> {
        clock.written(parse_time(text)?).map(|micros| Timestamp(micros).to_string())
    }

    #[test]
    fn the_hours_that_new_york_skips_and_repeats() {
        use RepeatedHour::{Earlier, Later, Refuse};
        let ok = |text: &str| Ok(text.to_owned());
        for (text, rule, expected) in [
            ("2013-03-10T01:59:59.999999", Refuse, ok("2013-03-10T06:59:59.999999Z")),
            ("2013-03-10T02:00:00", Refuse, Err(Fault::TimeNonexistent)),
            ("2013-03-10T02:30:00", Earlier, Err(Fault::TimeNonexistent)),
            ("2013-03-10T02:59:59.999999", Later, Err(Fault::TimeNonexistent)),
            ("2013-03-10T03:00:00", Refuse, ok("2013-03-10T07:00:00Z")),
            ("2013-11-03T00:59:59.999999", Refuse, ok("2013-11-03T04:59:59.999999Z")),
            ("2013-11-03T01:00:00", Refuse, Err(Fault::TimeRepeated)),
            ("2013-11-03T01:30:00", Earlier, ok("2013-11-03T05:30:00Z")),
            ("2013-11-03T01:30:00", Later, ok("2013-11-03T06:30:00Z")),
            ("2013-11-03T02:00:00", Refuse, ok("2013-11-03T07:00:00Z")),
            ("2013-11-03", Refuse, ok("2013-11-03T04:00:00Z")),
            ("2013-07-09", Later, ok("2013-07-09T04:00:00Z")),
            ("2013-11-03T01:30:00-05:00", Refuse, ok("2013-11-03T06:30:00Z")),
            ("9999-12-31T23:00:00", Refuse, Err(Fault::TimeOutOfRange)),
        ] {
            assert_eq!(read(&mut clock(Tz::America__New_York, rule), text), expected, "{text} {rule:?}");
        }
    }

    #[test]
    fn a_day_starts_once_even_where_midnight_is_skipped_repeated_or_missing() {
        use RepeatedHour::{Earlier, Later, Refuse};
        for rule in [Refuse, Earlier, Later] {
            // Sao Paulo went from 24:00 to 01:00, Havana from 01:00 back to 00:00, Apia left out a whole day.
            for (tz, text, expected) in [
                (Tz::America__Sao_Paulo, "2013-10-20", Ok("2013-10-20T03:00:00Z")),
                (Tz::America__Havana, "2013-11-03", Ok("2013-11-03T04:00:00Z")),
                (Tz::Pacific__Apia, "2011-12-30", Err(Fault::TimeNonexistent)),
                (Tz::Pacific__Apia, "2011-12-31", Ok("2011-12-30T10:00:00Z")),
            ] {
                let found = read(&mut clock(tz, rule), text);
                assert_eq!(found, expected.map(str::to_owned), "{tz} {text} {rule:?}");
            }
        }
        assert_eq!(Clock::new(None).start_of_day(0), Ok(0));
        assert_eq!(Clock::new(None).instant(0), Err(Fault::TimeWithoutZone));
    }

    /// Remembering days changes no answer: every quarter of an hour of the years in which zones changed oddly.
    #[test]
    fn remembered_days_answer_as_the_zone_does() {
        for tz in [Tz::America__New_York, Tz::Australia__Lord_Howe, Tz::Pacific__Apia, Tz::Africa__Monrovia] {
            let zone = Zone { tz, repeated: RepeatedHour::Later };
            let mut clock = Clock::new(Some(zone));
            for year in [1972, 2011, 2013] {
                let start = parse_time(&format!("{year}-01-01")).unwrap().local;
                for quarter in 0..365 * 96 {
                    let local = start + quarter * 900 * SECOND;
                    assert_eq!(clock.instant(local), changing(zone, local), "{tz} {local}");
                }
            }
        }
    }

    #[test]
    fn units_are_never_rounded() {
        assert_eq!(micros(1_373_373_000_000_001_000, TimeUnit::Nanosecond), Ok(1_373_373_000_000_001));
        assert_eq!(micros(1_373_373_000_000_001_001, TimeUnit::Nanosecond), Err(Fault::TimeTooFine));
        assert_eq!(micros(1_373_373_000_000_001_500, TimeUnit::Nanosecond), Err(Fault::TimeTooFine));
        assert_eq!(micros(-1, TimeUnit::Nanosecond), Err(Fault::TimeTooFine));
        assert_eq!(micros(i64::MAX, TimeUnit::Second), Err(Fault::TimeOutOfRange));
        assert_eq!(micros(i64::MIN, TimeUnit::Microsecond), Err(Fault::TimeOutOfRange));
        assert_eq!(micros(FIRST, TimeUnit::Microsecond), Ok(FIRST));
        assert_eq!(micros(FIRST - 1, TimeUnit::Microsecond), Err(Fault::TimeOutOfRange));
        assert_eq!(Timestamp(FIRST).to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Timestamp(LAST).to_string(), "9999-12-31T23:59:59.999999Z");
    }
}
