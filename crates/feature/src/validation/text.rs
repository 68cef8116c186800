//! What texts mean: numbers, dates and times, exactly as written or not at all.

use chrono::{Datelike, NaiveDate};

use super::fault::Fault;
use super::times::{DAY, SECOND};

/// `true` or `false` in any case, `1` or `0`.
pub(super) fn parse_bool(text: &str) -> Result<bool, Fault> {
    if text.eq_ignore_ascii_case("true") || text == "1" {
        Ok(true)
    } else if text.eq_ignore_ascii_case("false") || text == "0" {
        Ok(false)
    } else {
        Err(Fault::WrongType)
    }
}

/// The number times ten to the `scale`, which must come out whole: `12.50` at scale 2 is 1250. Exponents are read.
pub(super) fn parse_decimal(text: &str, scale: i8) -> Result<i128, Fault> {
    let (negative, unsigned) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| Fault::WrongType)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.len() + fraction.len() == 0
        || !(whole.bytes().chain(fraction.bytes())).all(|b| b.is_ascii_digit())
    {
        return Err(Fault::WrongType);
    }
    let fraction = fraction.trim_end_matches('0');
    let mut value = 0i128;
    for digit in whole.bytes().chain(fraction.bytes()) {
        let next = value.checked_mul(10).and_then(|value| value.checked_add(i128::from(digit - b'0')));
        value = next.ok_or(Fault::OutsideType)?;
    }
    let shift = i64::from(exponent) + i64::from(scale) - fraction.len() as i64;
    let value = shift_decimal(value, shift)?;
    Ok(if negative { -value } else { value })
}

/// `value` times ten to the `shift`, exactly.
pub(super) fn shift_decimal(value: i128, shift: i64) -> Result<i128, Fault> {
    if value == 0 || shift == 0 {
        return Ok(value);
    }
    let power = u32::try_from(shift.unsigned_abs()).ok().and_then(|power| 10i128.checked_pow(power));
    if shift > 0 {
        return power.and_then(|power| value.checked_mul(power)).ok_or(Fault::OutsideType);
    }
    match power {
        Some(power) if value % power == 0 => Ok(value / power),
        _ => Err(Fault::Inexact),
    }
}

/// A time as written: its clock reading, and what was said of the zone.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Written {
    /// Microseconds of the clock reading since 1970-01-01T00:00:00 on the same clock.
    pub local: i64,
    /// Seconds east of UTC, where written.
    pub offset: Option<i32>,
    /// Only a date was written.
    pub date_only: bool,
}

/// `2013-07-09`, or a date and a time after `T` or a space: `05:30`, `05:30:00`, `05:30:00.25`; then nothing, `Z`, `UTC`,
/// `+02`, `+0200` or `+02:00`.
pub(super) fn parse_time(text: &str) -> Result<Written, Fault> {
    let mut rest = Digits(text.as_bytes());
    let year = rest.number(4)?;
    rest.expect(b'-')?;
    let month = rest.number(2)?;
    rest.expect(b'-')?;
    let day = rest.number(2)?;
    let date = NaiveDate::from_ymd_opt(year as i32, month, day).ok_or(Fault::WrongType)?;
    let days = i64::from(date.num_days_from_ce()) - DAYS_TO_1970;
    if year == 0 {
        return Err(Fault::TimeOutOfRange);
    }
    if rest.0.is_empty() {
        return Ok(Written { local: days * DAY, offset: None, date_only: true });
    }
    if !(rest.take(b'T') || rest.take(b't') || rest.take(b' ')) {
        return Err(Fault::WrongType);
    }
    let hour = rest.number(2)?;
    rest.expect(b':')?;
    let minute = rest.number(2)?;
    let second = if rest.take(b':') { rest.number(2)? } else { 0 };
    let micros = if rest.take(b'.') { rest.fraction()? } else { Some(0) };
    if hour > 23 || minute > 59 || second > 59 {
        return Err(Fault::WrongType);
    }
    let offset = rest.offset()?;
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    // A fraction finer than a microsecond is only reported once the rest is known to be a time.
    let micros = micros.ok_or(Fault::TimeTooFine)?;
    Ok(Written { local: days * DAY + seconds * SECOND + micros, offset, date_only: false })
}

/// Days from 0000-12-31 to 1970-01-01.
const DAYS_TO_1970: i64 = 719_163;

/// The unread end of a time.
struct Digits<'a>(&'a [u8]);

impl Digits<'_> {
    fn take(&mut self, wanted: u8) -> bool {
        match self.0 {
            [first, rest @ ..] if *first == wanted => {
                self.0 = rest;
                true
            }
            _ => false,
        }
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Fault> {
        if self.take(wanted) { Ok(()) } else { Err(Fault::WrongType) }
    }

    fn digit(&mut self) -> Option<u32> {
        match self.0 {
            [first @ b'0'..=b'9', rest @ ..] => {
                self.0 = rest;
                Some(u32::from(first - b'0'))
            }
            _ => None,
        }
    }

    fn number(&mut self, digits: usize) -> Result<u32, Fault> {
        let mut number = 0;
        for _ in 0..digits {
            number = number * 10 + self.digit().ok_or(Fault::WrongType)?;
        }
        Ok(number)
    }

    /// Microseconds; `None` where the fraction has more.
    fn fraction(&mut self) -> Result<Option<i64>, Fault> {
        let (mut micros, mut unit, mut finer) = (0, 100_000, false);
        let mut digits = 0;
        while let Some(digit) = self.digit() {
            micros += i64::from(digit) * unit;
            finer |= unit == 0 && digit != 0;
            unit /= 10;
            digits += 1;
        }
        if digits == 0 {
            return Err(Fault::WrongType);
        }
        Ok((!finer).then_some(micros))
    }

    fn offset(&mut self) -> Result<Option<i32>, Fault> {
        if self.0.is_empty() {
            return Ok(None);
        }
        self.take(b' ');
        if self.0 == b"Z" || self.0 == b"z" || self.0 == b"UTC" {
            return Ok(Some(0));
        }
        let sign = if self.take(b'+') {
            1
        } else {
            self.expect(b'-')?;
            -1
        };
        let hours = self.number(2)?;
        let minutes = if self.0.is_empty() {
            0
        } else {
            self.take(b':');
            self.number(2)?
        };
        if hours > 23 || minutes > 59 || !self.0.is_empty() {
            return Err(Fault::WrongType);
        }
        Ok(Some(sign * (hours * 3600 + minutes * 60) as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        for (text, scale, value) in [
            ("12.50", 2, Ok(1250)),
            ("-0.1", 1, Ok(-1)),
            (".5", 1, Ok(5)),
            ("5.", 0, Ok(5)),
            ("+7", 2, Ok(700)),
            ("1.5e3", 0, Ok(1500)),
            ("1500e-2", 0, Ok(15)),
            ("0e-30000", 0, Ok(0)),
            ("0.10000000000000000000000000000000000000000000000", 1, Ok(1)),
            ("12.505", 2, Err(Fault::Inexact)),
            ("1e-40", 38, Err(Fault::Inexact)),
            ("1e400", 0, Err(Fault::OutsideType)),
            ("999999999999999999999999999999999999999999", 0, Err(Fault::OutsideType)),
            ("", 0, Err(Fault::WrongType)),
            (".", 0, Err(Fault::WrongType)),
            ("-", 0, Err(Fault::WrongType)),
            ("--1", 0, Err(Fault::WrongType)),
            ("1e", 0, Err(Fault::WrongType)),
            ("1,5", 0, Err(Fault::WrongType)),
            ("é1", 0, Err(Fault::WrongType)),
        ] {
            assert_eq!(parse_decimal(text, scale), value, "{text}");
        }
    }

    #[test]
    fn times_are_read_as_written() {
        let at = |local, offset| Ok(Written { local, offset, date_only: false });
        let day = 15_895 * DAY; // 2013-07-09
        for (text, expected) in [
            ("2013-07-09T12:30:00Z", at(day + 45_000 * SECOND, Some(0))),
            ("2013-07-09 12:30", at(day + 45_000 * SECOND, None)),
            ("2013-07-09 12:30:00 UTC", at(day + 45_000 * SECOND, Some(0))),
            ("2013-07-09t12:30:00.25-0400", at(day + 45_000 * SECOND + 250_000, Some(-14_400))),
            ("2013-07-09T12:30:00.000001000+05:30", at(day + 45_000 * SECOND + 1, Some(19_800))),
            ("2013-07-09T12:30:00+02", at(day + 45_000 * SECOND, Some(7_200))),
            ("2013-07-09", Ok(Written { local: day, offset: None, date_only: true })),
            ("2013-07-09T12:30:00.0000001Z", Err(Fault::TimeTooFine)),
            ("0000-07-09", Err(Fault::TimeOutOfRange)),
            ("2013-02-29", Err(Fault::WrongType)),
            ("2013-07-09T24:00:00", Err(Fault::WrongType)),
            ("2013-07-09T12:30:60Z", Err(Fault::WrongType)),
            ("2013-07-09T12:30:00.", Err(Fault::WrongType)),
            ("2013-07-09T12:30:00+2", Err(Fault::WrongType)),
            ("2013-07-09T12:30:00Zulu", Err(Fault::WrongType)),
            ("2013-7-9", Err(Fault::WrongType)),
            ("09.07.2013", Err(Fault::WrongType)),
            ("", Err(Fault::WrongType)),
        ] {
            assert_eq!(parse_time(text), expected, "{text}");
        }
    }
}
