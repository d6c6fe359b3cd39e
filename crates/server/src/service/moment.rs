//! Times that callers write: RFC 3339, in whatever offset and precision their language prints.

use kernel::{Millis, time};

pub(crate) const EXPECTED: &str = "it must be a time such as 2026-11-20T21:00:00.000Z";

/// From the beginning of year 0 to the end of year 9999.
const FIRST: Millis = Millis(-62_167_219_200_000);
const LAST: Millis = Millis(253_402_300_799_999);

pub(crate) fn parse(text: &str) -> Option<Millis> {
    let (seconds, rest) = text.split_at_checked(19)?;
    let start = Millis::parse_iso(&format!("{seconds}Z"))?;
    let (fraction, offset) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count()),
        None => ("0", rest),
    };
    if !(1..=9).contains(&fraction.len()) {
        return None;
    }
    // What is finer than a millisecond is cut off.
    let digits = fraction.bytes().chain([b'0'; 2]).take(3);
    let millis = digits.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    let at = start.plus(millis).minus(offset_of(offset)?);
    // Years are written in four digits, here and wherever it will be shown.
    (FIRST..=LAST).contains(&at).then_some(at)
}

fn offset_of(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let bytes = text.as_bytes();
    let sign = match bytes.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    if bytes.len() != 6 || bytes[3] != b':' || ![1, 2, 4, 5].iter().all(|&at| bytes[at].is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (text[1..3].parse().ok()?, text[4..].parse().ok()?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * time::HOUR + minutes * time::MINUTE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_fractions_are_understood() {
        for (text, same) in [
            ("2026-11-20T21:00:00Z", "2026-11-20T21:00:00.000Z"),
            ("2026-11-20T21:00:00.5Z", "2026-11-20T21:00:00.500Z"),
            ("2026-11-20T21:00:00.123456+00:00", "2026-11-20T21:00:00.123Z"),
            ("2026-11-20T23:30:00.000+02:30", "2026-11-20T21:00:00.000Z"),
            ("2026-11-20T20:00:00-01:00", "2026-11-20T21:00:00.000Z"),
            ("0000-01-01T00:00:00.000Z", "0000-01-01T00:00:00.000Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(parse(text).map(Millis::iso).as_deref(), Some(same));
        }
        for text in [
            "",
            "2026-11-20",
            "2026-11-20T21:00:00",
            "2026-11-20T21:00:00.Z",
            "2026-02-30T00:00:00Z",
            "1795208400",
            "2026-11-20T21:00:00+2:00",
            "2026-11-20T21:00:00+25:00",
            "2026-11-20T21:00:00Zé",
            "2026-11-20 21:00:00Z",
            "2026-11-20T21:00:00.1234567890Z",
            "ééééééééééééééééééééé",
            "9999-12-31T23:59:59-00:01",
            "0000-01-01T00:00:00+00:01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
