//! The calendar of subscriptions: a month after the 31st is the last day of a shorter month, and the 31st again after
//! that, because every period is counted from the anchor.

use crate::catalogue::Recurring;

const DAY: i64 = 86_400;

/// The end of the period that begins at or before `time` and after which `time` lies no more: the first
/// `anchor + n × interval` after `time`.
pub(crate) fn end_after(anchor: i64, time: i64, recurring: Recurring) -> i64 {
    let shortest = match recurring.interval {
        "day" => DAY,
        "week" => 7 * DAY,
        "month" => 28 * DAY,
        _ => 365 * DAY,
    } * recurring.count;
    // Begins low enough: no interval is shorter, and months are at most a tenth longer.
    let mut steps = ((time - anchor).max(0) / shortest * 9 / 10).max(0);
    loop {
        let end = step(anchor, steps, recurring);
        if end > time {
            return end;
        }
        steps += 1;
    }
}

fn step(anchor: i64, steps: i64, recurring: Recurring) -> i64 {
    let count = steps * recurring.count;
    match recurring.interval {
        "day" => anchor + count * DAY,
        "week" => anchor + count * 7 * DAY,
        "month" => months_after(anchor, count),
        _ => months_after(anchor, count * 12),
    }
}

/// The same day and time `months` later, or the month's last day.
pub(crate) fn months_after(time: i64, months: i64) -> i64 {
    let (year, month, day) = civil(time.div_euclid(DAY));
    let index = year * 12 + (month - 1) + months;
    let (year, month) = (index.div_euclid(12), index.rem_euclid(12) + 1);
    let day = day.min(days_in(year, month));
    days(year, month, day) * DAY + time.rem_euclid(DAY)
}

fn days_in(year: i64, month: i64) -> i64 {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days(next_year, next_month, 1) - days(year, month, 1)
}

/// Days since 1970-01-01 to a date, by way of the instant's text, which `kernel` reads.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let text = format!("{year:04}-{month:02}-{day:02}T00:00:00Z");
    kernel::Millis::parse_iso(&text).map_or(0, |instant| instant.0 / (DAY * 1_000))
}

fn civil(days: i64) -> (i64, i64, i64) {
    let text = kernel::Millis(days * DAY * 1_000).iso();
    let number = |from: usize, to: usize| text.get(from..to).and_then(|part| part.parse().ok()).unwrap_or(0);
    (number(0, 4), number(5, 7), number(8, 10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::Millis;
    use proptest::prelude::*;

    fn at(text: &str) -> i64 {
        Millis::parse_iso(text).expect("an instant").0 / 1_000
    }

    const MONTHLY: Recurring = Recurring { interval: "month", count: 1 };

    #[test]
    fn the_31st_comes_back_after_a_shorter_month() {
        let anchor = at("2026-01-31T10:00:00Z");
        let february = end_after(anchor, anchor, MONTHLY);
        assert_eq!(february, at("2026-02-28T10:00:00Z"));
        assert_eq!(end_after(anchor, february, MONTHLY), at("2026-03-31T10:00:00Z"));
        assert_eq!(months_after(at("2024-02-29T00:00:00Z"), 12), at("2025-02-28T00:00:00Z"));
        assert_eq!(months_after(at("2026-11-21T01:02:03Z"), 2), at("2027-01-21T01:02:03Z"));
    }

    proptest! {
        #[test]
        fn a_period_ends_after_it_begins_and_the_next_begins_there(
            anchor in 1_600_000_000i64..2_000_000_000,
            ahead in 0i64..200_000_000,
            interval in prop_oneof![Just("day"), Just("week"), Just("month"), Just("year")],
            count in 1i64..4,
        ) {
            let recurring = Recurring { interval, count };
            let time = anchor + ahead;
            let end = end_after(anchor, time, recurring);
            prop_assert!(end > time);
            prop_assert!(end - time <= 366 * DAY * count);
            // No end was passed over: an instant before this end has the same one.
            prop_assert_eq!(end_after(anchor, end - 1, recurring), end);
            prop_assert!(end_after(anchor, end, recurring) > end);
        }
    }
}
