//! Time as integer milliseconds, and the only places that read a clock.

use std::fmt;
use std::time::Duration;

/// Milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub i64);

pub const SECOND: i64 = 1_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

impl Millis {
    /// Saturates, so that no stored or configured value can make the sum wrap into the past.
    pub fn plus(self, milliseconds: i64) -> Millis {
        Millis(self.0.saturating_add(milliseconds))
    }

    pub fn minus(self, milliseconds: i64) -> Millis {
        Millis(self.0.saturating_sub(milliseconds))
    }

    /// `2026-11-20T21:00:00.000Z`: always milliseconds, always `Z`.
    pub fn iso(self) -> String {
        self.iso_text().as_str().to_string()
    }

    /// The same without an allocation: a session check prints six of them.
    pub fn iso_text(self) -> IsoText {
        let days = self.0.div_euclid(DAY);
        let rest = self.0.rem_euclid(DAY);
        let (year, month, day) = civil_from_days(days);
        if !(0..=9999).contains(&year) {
            // Outside four digits ISO 8601 needs a sign; no clock gives it, but a stored value must not panic.
            return IsoText(*if year < 0 {
                b"0000-01-01T00:00:00.000Z"
            } else {
                b"9999-12-31T23:59:59.999Z"
            });
        }
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut digits = |from: usize, to: usize, mut value: i64| {
            for place in text[from..to].iter_mut().rev() {
                *place = b'0' + (value % 10) as u8;
                value /= 10;
            }
        };
        digits(0, 4, year);
        digits(5, 7, month);
        digits(8, 10, day);
        digits(11, 13, rest / HOUR);
        digits(14, 16, rest / MINUTE % 60);
        digits(17, 19, rest / SECOND % 60);
        digits(20, 23, rest % SECOND);
        IsoText(text)
    }

    /// Reads `YYYY-MM-DDTHH:mm:ss[.fff]Z`.
    pub fn parse_iso(text: &str) -> Option<Millis> {
        let bytes = text.as_bytes();
        let body = text.strip_suffix('Z')?;
        if body.len() < 19 || !text.is_ascii() {
            return None;
        }
        let number = |from: usize, to: usize| -> Option<i64> {
            let part = &bytes[from..to];
            part.iter()
                .all(u8::is_ascii_digit)
                .then(|| part.iter().fold(0, |sum, d| sum * 10 + i64::from(d - b'0')))
        };
        let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if separators.iter().any(|&(at, expected)| bytes[at] != expected) {
            return None;
        }
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let fraction = match &body[19..] {
            "" => 0,
            rest if rest.len() == 4 && rest.starts_with('.') => number(20, 23)?,
            _ => return None,
        };
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let days = days_from_civil(year, month, day);
        if civil_from_days(days) != (year, month, day) {
            return None;
        }
        Some(Millis(days * DAY + hour * HOUR + minute * MINUTE + second * SECOND + fraction))
    }
}

/// An instant as text, on the stack.
#[derive(Debug, Clone, Copy)]
pub struct IsoText([u8; 24]);

impl IsoText {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("digits and separators are ASCII")
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.iso_text().as_str())
    }
}

/// Days since 1970-01-01 to a date of the proleptic Gregorian calendar (eras of 400 years begin in March).
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Where the time of day comes from. Read once per request and passed down as `now: Millis`.
pub trait Clock: Send + Sync {
    fn now(&self) -> Millis;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn now(&self) -> Millis {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Millis(since.map_or(0, |duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// Measures how long something took; not affected by clock jumps.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "the one place that starts a measurement")]
    pub fn start() -> Stopwatch {
        Stopwatch(std::time::Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants_print_as_iso() {
        assert_eq!(Millis(0).iso(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Millis(951_782_400_000).iso(), "2000-02-29T00:00:00.000Z");
        assert_eq!(Millis(1_795_212_345_678).iso(), "2026-11-20T22:05:45.678Z");
        assert_eq!(Millis(-1).iso(), "1969-12-31T23:59:59.999Z");
        assert_eq!(Millis(i64::MAX).iso(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Millis(i64::MIN).iso(), "0000-01-01T00:00:00.000Z");
    }

    #[test]
    fn impossible_dates_are_refused() {
        for text in [
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "é026-01-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
        ] {
            assert_eq!(Millis::parse_iso(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn iso_text_reads_back(ms in 0i64..253_402_300_799_999) {
            prop_assert_eq!(Millis::parse_iso(&Millis(ms).iso()), Some(Millis(ms)));
        }
    }
}
