//! What lines come to: discounts first, then tax on what is left, each line to the cent.

use crate::books::Books;
use crate::coupons::Discount;

/// One line, worked out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Worked {
    pub(crate) subtotal: i64,
    /// By discount, in their order.
    pub(crate) discounts: Vec<i64>,
    pub(crate) tax: i64,
}

impl Worked {
    pub(crate) fn discount(&self) -> i64 {
        self.discounts.iter().sum()
    }

    pub(crate) fn taxable(&self) -> i64 {
        self.subtotal - self.discount()
    }

    pub(crate) fn total(&self) -> i64 {
        self.taxable() + self.tax
    }
}

impl Books {
    /// Lines that are `discountable` share the discounts; `taxed` adds the till's tax on top.
    pub(crate) fn work_out(
        &self,
        lines: &[(i64, bool)],
        discounts: &[Discount],
        currency: &str,
        taxed: bool,
    ) -> Vec<Worked> {
        let open: Vec<i64> =
            lines.iter().map(|(amount, discountable)| if *discountable { *amount } else { 0 }).collect();
        let off = self.taken_off(discounts, &open, currency);
        lines
            .iter()
            .enumerate()
            .map(|(place, (subtotal, _))| {
                let mut worked = Worked {
                    subtotal: *subtotal,
                    discounts: off.iter().map(|by_line| by_line[place]).collect(),
                    tax: 0,
                };
                if taxed {
                    worked.tax = share(worked.taxable(), self.terms.tax_percent, 100);
                }
                worked
            })
            .collect()
    }
}

/// `amount × part ÷ whole`, halves away from zero.
pub(crate) fn share(amount: i64, part: i64, whole: i64) -> i64 {
    if whole == 0 {
        return 0;
    }
    let product = i128::from(amount) * i128::from(part);
    let whole = i128::from(whole);
    let rounded = (product.abs() * 2 + whole) / (whole * 2) * product.signum();
    i64::try_from(rounded).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn halves_go_away_from_zero() {
        assert_eq!([share(5, 1, 2), share(-5, 1, 2), share(1, 1, 3), share(10, 0, 3)], [3, -3, 0, 0]);
    }

    proptest! {
        #[test]
        fn a_share_and_the_rest_are_the_whole_within_a_cent(amount in 0i64..10_000_000, part in 0i64..1_000) {
            let both = share(amount, part, 1_000) + share(amount, 1_000 - part, 1_000);
            prop_assert!((both - amount).abs() <= 1);
        }
    }
}
