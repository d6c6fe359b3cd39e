//! What time does to subscriptions: periods end, trials end, first payments come too late.

use crate::agenda::Due;
use crate::books::Books;
use crate::collection::DRAFT_FOR;
use crate::customers::changed;
use crate::periods;
use crate::refusal::Refusal;
use crate::subscriptions::State;

impl Books {
    /// The end of a period: the last one ends the subscription, any other begins the next.
    pub(crate) fn end_period(&mut self, id: &str, time: i64) {
        let Some(subscription) = self.subscriptions.get(id).filter(|known| !known.has_ended()) else {
            return;
        };
        let ends = subscription.cancel_at_period_end && subscription.period.1 <= time
            || subscription.cancel_at.is_some_and(|at| at <= time);
        // Someone may have moved the period since this was noted.
        let renews = subscription.period.1 == time && subscription.state != State::Incomplete;
        if ends {
            self.end_subscription(id, "cancellation_requested");
        } else if renews && let Err(refusal) = self.renew(id, time) {
            tracing::error!(subscription = id, error = %refusal, "a subscription cannot be renewed");
        }
    }

    fn renew(&mut self, id: &str, time: i64) -> Result<(), Refusal> {
        let before = self.shown(id).unwrap_or_default();
        let price =
            self.subscriptions.at(id)?.items.first().map(|item| item.price.clone()).unwrap_or_default();
        let Some(recurring) = self.prices.get(&price).and_then(|price| price.recurring) else {
            return Ok(());
        };
        let subscription = self.subscriptions.at_mut(id)?;
        if subscription.state == State::Trialing {
            subscription.state = State::Active;
        }
        let end = periods::end_after(subscription.anchor, time, recurring);
        let last = subscription.period;
        subscription.period = (time, end);
        self.agenda.note(end, Due::PeriodEnds(id.to_owned()));
        // The period moves now; the money comes when the draft is closed.
        let invoice = self.bill_period(id, "subscription_cycle", last)?;
        let after = self.shown(id).unwrap_or_default();
        self.emit_changed("customer.subscription.updated", id, changed(&before, &after));
        self.agenda.note(time + DRAFT_FOR, Due::InvoiceFinalizes(invoice));
        Ok(())
    }

    pub(crate) fn announce_trial_end(&mut self, id: &str, _time: i64) {
        if self.subscriptions.get(id).is_some_and(|subscription| subscription.state == State::Trialing) {
            self.emit("customer.subscription.trial_will_end", id);
        }
    }

    pub(crate) fn give_up_first_payment(&mut self, id: &str) {
        let Some(subscription) =
            self.subscriptions.get_mut(id).filter(|known| known.state == State::Incomplete)
        else {
            return;
        };
        subscription.state = State::IncompleteExpired;
        let invoice = subscription.latest_invoice.clone();
        let before = serde_json::json!({ "status": State::Incomplete.name() });
        self.emit_changed("customer.subscription.updated", id, before);
        let now = self.seconds();
        if let Some(invoice) = invoice.and_then(|id| self.invoices.get_mut(&id)) {
            invoice.status = crate::invoices::Status::Void;
            invoice.voided_at = Some(now);
            let id = invoice.id.clone();
            self.emit("invoice.voided", &id);
        }
    }

    /// When this subscription's next payment is made: the end of its period and the hour of the draft.
    pub(crate) fn next_payment_at(&self, id: &str) -> Result<i64, Refusal> {
        let subscription = self.subscriptions.at(id)?;
        if subscription.has_ended() {
            return Err(Refusal::state(format!("The subscription {id} has ended.")));
        }
        Ok(subscription.period.1 + DRAFT_FOR)
    }
}
