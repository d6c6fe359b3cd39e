//! What a change costs and gives back for the rest of a period.

use crate::amounts::share;
use crate::books::Books;
use crate::invoices::Line;
use crate::subscriptions::{Item, Subscription};

impl Books {
    /// What was paid for the rest of the period comes back, what now holds for it is owed.
    pub(super) fn prorations(
        &mut self,
        before: &Subscription,
        after: &Subscription,
        date: i64,
        credits_only: bool,
    ) -> Vec<Line> {
        let same = |item: &Item, other: &Item| {
            item.id == other.id && item.price == other.price && item.quantity == other.quantity
        };
        let mut lines = Vec::new();
        for item in before.items.iter().filter(|item| !after.items.iter().any(|other| same(item, other))) {
            lines.extend(self.proration(before, item, date, -1, "Unused time on"));
        }
        for item in after
            .items
            .iter()
            .filter(|item| !credits_only && !before.items.iter().any(|other| same(item, other)))
        {
            lines.extend(self.proration(before, item, date, 1, "Remaining time on"));
        }
        lines
    }

    fn proration(
        &mut self,
        of: &Subscription,
        item: &Item,
        date: i64,
        sign: i64,
        what: &str,
    ) -> Option<Line> {
        let price = self.prices.get(&item.price)?;
        let full = price.amount() * item.quantity;
        let name = self.product_name(&price.product);
        // A coupon that runs is in both, so that a change pays no more than the difference of what is paid.
        let off: i64 =
            self.taken_off(&self.discounts_now(of, false), &[full], &of.currency).iter().flatten().sum();
        let (start, end) = of.period;
        let amount = sign * share(full - off, end - date, end - start);
        let mut line = self.new_line(
            &item.price,
            item.quantity,
            amount,
            format!("{what} {} × {name}", item.quantity),
            (date, end),
        );
        line.proration = true;
        line.item = Some(item.id.clone());
        line.metadata = item.metadata.clone();
        Some(line)
    }
}
