//! Durations as people write them: `7d`, `24h`, `15m`, `300s`, `500ms`.

use kernel::time::{DAY, HOUR, MINUTE, SECOND};

const UNITS: [(&str, i64); 5] = [("ms", 1), ("s", SECOND), ("m", MINUTE), ("h", HOUR), ("d", DAY)];

/// Milliseconds, or `None` when the text is not a whole number with a unit.
pub fn parse_duration(text: &str) -> Option<i64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<i64>().ok()?.checked_mul(factor)
}

/// The shortest way to write it: 604800000 is `7d`.
pub fn write_duration(milliseconds: i64) -> String {
    let fits = |(_, factor): &&(&str, i64)| milliseconds != 0 && milliseconds % factor == 0;
    let (unit, factor) = UNITS.iter().rev().find(fits).copied().unwrap_or(("s", SECOND));
    format!("{}{unit}", milliseconds / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_back_as_they_are_written() {
        for (text, expected) in
            [("7d", 604_800_000), ("24h", 86_400_000), ("300s", 300_000), ("500ms", 500), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Some(expected), "{text}");
            assert_eq!(parse_duration(&write_duration(expected)), Some(expected));
        }
        assert_eq!(write_duration(86_400_000), "1d");
        assert_eq!(write_duration(90_000), "90s");
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "7",
            "d",
            "-1s",
            "1.5h",
            "7 d",
            "7D",
            "1h30m",
            "99999999999999999999s",
            "9223372036854775807d",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
