//! Amounts as people read them.

const WITHOUT_DECIMALS: &[&str] = &["jpy", "krw"];
const WITH_THREE: &[&str] = &["bhd", "kwd"];

/// `12.50 EUR`, `1200 JPY`, `-1.000 KWD`.
pub(super) fn text(amount: i64, currency: &str) -> String {
    let decimals = decimals(currency);
    let unit = 10_u64.pow(decimals);
    let (sign, amount) = (if amount < 0 { "-" } else { "" }, amount.unsigned_abs());
    let code = currency.to_uppercase();
    if decimals == 0 {
        return format!("{sign}{amount} {code}");
    }
    let width = decimals as usize;
    format!("{sign}{}.{:0width$} {code}", amount / unit, amount % unit)
}

fn decimals(currency: &str) -> u32 {
    if WITHOUT_DECIMALS.contains(&currency) {
        0
    } else if WITH_THREE.contains(&currency) {
        3
    } else {
        2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn currencies_have_their_decimals() {
        assert_eq!(text(1_250, "eur"), "12.50 EUR");
        assert_eq!(text(5, "usd"), "0.05 USD");
        assert_eq!(text(1_200, "jpy"), "1200 JPY");
        assert_eq!(text(-1_000, "kwd"), "-1.000 KWD");
    }
}
