//! Amounts as people read and write them. Stripe counts in the smallest unit of a currency, and currencies differ in what that is.

/// Without a smaller unit, and with three decimals; all others have two.
const WHOLE: [&str; 15] =
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf"];
const THREE: [&str; 5] = ["bhd", "jod", "kwd", "omr", "tnd"];

pub fn decimals(currency: &str) -> usize {
    match currency {
        whole if WHOLE.contains(&whole) => 0,
        three if THREE.contains(&three) => 3,
        _ => 2,
    }
}

/// `12.50`.
pub fn figure(amount: i64, currency: &str) -> String {
    let decimals = decimals(currency);
    let digits = format!("{:0width$}", amount.unsigned_abs(), width = decimals + 1);
    let sign = if amount < 0 { "-" } else { "" };
    let (whole, rest) = digits.split_at(digits.len() - decimals);
    if rest.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{rest}") }
}

/// `12.50 USD`.
pub fn text(amount: i64, currency: &str) -> String {
    format!("{} {}", figure(amount, currency), currency.to_uppercase())
}

/// What somebody wrote into a field, in the smallest unit. A comma is a point, as many write it.
pub fn parse(text: &str, currency: &str) -> Option<i64> {
    let text = text.trim().replace(',', ".");
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let decimals = decimals(currency);
    if whole.is_empty() || whole.len() > 12 || rest.len() > decimals || !plain(whole) || !plain(rest) {
        return None;
    }
    format!("{whole}{rest:0<decimals$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn currencies_are_written_with_their_decimals() {
        assert_eq!(text(1_250, "eur"), "12.50 EUR");
        assert_eq!(text(5, "usd"), "0.05 USD");
        assert_eq!(text(1_200, "jpy"), "1200 JPY");
        assert_eq!(text(0, "jpy"), "0 JPY");
        assert_eq!(text(-1_000, "kwd"), "-1.000 KWD");
    }

    #[test]
    fn what_people_write_is_read_or_refused_but_never_guessed() {
        for (written, currency, amount) in [
            ("12.50", "usd", Some(1_250)),
            ("12,5", "usd", Some(1_250)),
            (" 12 ", "usd", Some(1_200)),
            ("12.", "usd", Some(1_200)),
            ("1200", "jpy", Some(1_200)),
            ("1.234", "kwd", Some(1_234)),
            ("12.345", "usd", None),
            ("1.5", "jpy", None),
            ("1,000.00", "usd", None),
            ("-5", "usd", None),
            ("+5", "usd", None),
            ("5e3", "usd", None),
            ("", "usd", None),
            (".5", "usd", None),
            ("9999999999999999", "usd", None),
            ("٣", "usd", None),
        ] {
            assert_eq!(parse(written, currency), amount, "{written} {currency}");
        }
    }
}
