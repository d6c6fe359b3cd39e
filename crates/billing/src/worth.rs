//! What money is worth in credits: plain arithmetic in whole numbers, always rounded down.

use crate::catalogue::{Custom, Pack, Plan};
use credits::MAX_AMOUNT;

/// What a payment should have given and taken by now. It follows from the state at Stripe alone, so that neither order
/// nor repetition of events can change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payment {
    /// Credits that it gave.
    pub credits: i64,
    /// What was collected, in the smallest unit of the currency.
    pub captured: i64,
    /// What went back for good or is on its way: all refunds that did not fail, together.
    pub refunded: i64,
    /// What disputes have withdrawn and not given back.
    pub disputed: i64,
}

impl Payment {
    /// Credits that must be taken back in all. A refund and a dispute of the same money count once.
    pub fn taken_back(self) -> i64 {
        let gone = self.refunded.saturating_add(self.disputed).clamp(0, self.captured.max(0));
        if gone == 0 {
            return 0;
        }
        share(self.credits, gone, self.captured)
    }
}

/// Credits for so many pieces of a pack; `None` when that is more than can be counted.
pub fn of_pieces(pack: &Pack, quantity: i64) -> Option<i64> {
    pack.credits.checked_mul(quantity).filter(|credits| (1..=MAX_AMOUNT).contains(credits))
}

/// Credits for an amount that the buyer named; `None` outside of the bounds and for less than one credit.
pub fn of_custom(custom: Custom, amount: i64) -> Option<i64> {
    if !(custom.min..=custom.max).contains(&amount) {
        return None;
    }
    let credits = i128::from(amount) * i128::from(custom.credits_per_100) / 100;
    i64::try_from(credits).ok().filter(|credits| (1..=MAX_AMOUNT).contains(credits))
}

/// Credits for a change to a greater plan within a period: as much of the difference as was collected for it.
/// `prorated` is the sum of the invoice's proration lines before tax.
pub fn of_upgrade(old: &Plan, new: &Plan, prorated: i64) -> i64 {
    let (credits, price) = (new.credits - old.credits, new.amount - old.amount);
    if credits <= 0 || price <= 0 || prorated <= 0 {
        return 0;
    }
    share(credits, prorated.min(price), price)
}

/// `whole × part ÷ of`, rounded down.
fn share(whole: i64, part: i64, of: i64) -> i64 {
    let share = i128::from(whole) * i128::from(part) / i128::from(of);
    // `part` is at most `of`, so it is at most `whole`.
    i64::try_from(share).unwrap_or(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Interval, Rollover};
    use proptest::prelude::*;

    fn plan(credits: i64, amount: i64) -> Plan {
        Plan {
            price: "price_1".into(),
            credits,
            unit: "credits".into(),
            amount,
            currency: "usd".into(),
            interval: Interval::Month,
            trial_days: 0,
            trial_credits: 0,
            rollover: Rollover::None,
            features: Vec::new(),
        }
    }

    #[test]
    fn cumulative_refunds_take_all_back_in_the_end() {
        let paid = Payment { credits: 500, captured: 1_000, refunded: 0, disputed: 0 };
        assert_eq!(paid.taken_back(), 0);
        assert_eq!(Payment { refunded: 400, ..paid }.taken_back(), 200);
        assert_eq!(Payment { refunded: 1_000, ..paid }.taken_back(), 500);
        assert_eq!(Payment { refunded: 333, ..paid }.taken_back(), 166);
        assert_eq!(Payment { refunded: 1_000, disputed: 1_000, ..paid }.taken_back(), 500);
        assert_eq!(Payment { refunded: 400, disputed: 600, ..paid }.taken_back(), 500);
        // A free order has nothing to take back.
        assert_eq!(Payment { captured: 0, refunded: 5, ..paid }.taken_back(), 0);
    }

    #[test]
    fn an_upgrade_late_in_the_period_gives_what_was_collected_for_it() {
        let (small, large) = (plan(1_000, 1_000), plan(5_000, 5_000));
        assert_eq!(of_upgrade(&small, &large, 400), 400);
        assert_eq!(of_upgrade(&small, &large, 4_000), 4_000);
        assert_eq!(of_upgrade(&small, &large, 9_000), 4_000);
        assert_eq!(of_upgrade(&large, &small, -400), 0);
        assert_eq!(of_upgrade(&small, &plan(5_000, 1_000), 400), 0);
    }

    #[test]
    fn what_a_buyer_names_is_bounded() {
        let custom = Custom { min: 500, max: 10_000, credits_per_100: 12 };
        assert_eq!(of_custom(custom, 499), None);
        assert_eq!(of_custom(custom, 500), Some(60));
        assert_eq!(of_custom(custom, 599), Some(71));
        assert_eq!(of_custom(custom, 10_001), None);
        assert_eq!(of_custom(Custom { credits_per_100: i64::MAX, ..custom }, 10_000), None);
    }

    proptest! {
        #[test]
        fn more_money_back_never_takes_fewer_credits_nor_more_than_were_given(
            credits in 1..=MAX_AMOUNT, captured in 0..=i64::MAX / 2, first in 0..=i64::MAX / 2, more in 0..=i64::MAX / 2,
        ) {
            let one = Payment { credits, captured, refunded: first, disputed: 0 };
            let two = Payment { disputed: more, ..one };
            prop_assert!(one.taken_back() <= two.taken_back());
            prop_assert!((0..=credits).contains(&two.taken_back()));
        }
    }
}
