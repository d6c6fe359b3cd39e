//! What happens by itself as time passes, in the order of its times.

use crate::books::Books;
use kernel::Millis;
use std::collections::BTreeMap;

/// Something that is due at a time. Whoever handles it looks whether it still applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    /// A Checkout session that nobody completed.
    SessionExpires(String),
    /// A trial ends in three days.
    TrialEndsSoon(String),
    /// A subscription's period, its trial or its life ends.
    PeriodEnds(String),
    /// A renewal's draft is closed and charged.
    InvoiceFinalizes(String),
    /// An unpaid invoice is charged again.
    InvoiceIsRetried(String),
    /// The first payment of a subscription did not come.
    FirstPaymentIsLate(String),
}

/// Times are seconds; what is due at the same second keeps the order in which it was noted.
#[derive(Default)]
pub(crate) struct Agenda {
    entries: BTreeMap<(i64, u64), Due>,
    noted: u64,
}

impl Agenda {
    pub(crate) fn note(&mut self, seconds: i64, due: Due) {
        self.noted += 1;
        self.entries.insert((seconds, self.noted), due);
    }

    fn take_due(&mut self, now: i64) -> Option<(i64, Due)> {
        let entry = self.entries.first_entry().filter(|entry| entry.key().0 <= now)?;
        let time = entry.key().0;
        Some((time, entry.remove()))
    }
}

impl Books {
    /// Lets time pass until `now`: everything due happens at its own time.
    pub(crate) fn pass_time(&mut self, now: Millis) {
        // What happens by itself belongs to no request.
        let request = self.request.take();
        while let Some((time, due)) = self.agenda.take_due(now.0.div_euclid(1_000)) {
            self.now = self.now.max(Millis(time.saturating_mul(1_000)));
            match due {
                Due::SessionExpires(id) => self.expire_session_if_open(&id, time),
                Due::TrialEndsSoon(id) => self.announce_trial_end(&id, time),
                Due::PeriodEnds(id) => self.end_period(&id, time),
                Due::InvoiceFinalizes(id) => self.finalize_draft(&id),
                Due::InvoiceIsRetried(id) => self.retry_invoice(&id, time),
                Due::FirstPaymentIsLate(id) => self.give_up_first_payment(&id),
            }
        }
        self.now = self.now.max(now);
        self.request = request;
    }
}
