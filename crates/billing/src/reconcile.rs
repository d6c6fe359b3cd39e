//! Reconciliation: what Stripe knows and we do not. Events that never came, checkouts whose end we do not know, subscriptions that
//! moved unseen. Everything ends in the same call as a webhook, so doing it again changes nothing.

use crate::checkouts::{self, Checkout, Kind};
use crate::desk::{Desk, Error, Outcome};
use crate::inbox;
use crate::payments::Effect;
use crate::stripe::objects::{Event, List};
use crate::stripe::{Class, Form, Trouble};
use crate::subject::Subject;
use crate::subscriptions::{self, Running};
use kernel::Millis;
use kernel::time::{DAY, HOUR};
use store::{Tx, params};

/// Stripe keeps events for so long.
pub const REACH: i64 = 30 * DAY;
/// How often the server does it by itself.
const EVERY: i64 = HOUR;
const PAGE: i64 = 100;

const DUE: &str = "
    UPDATE billing_rounds SET due_at = $2 WHERE name = 'reconcile' AND due_at <= $1";
const FIRST: &str = "
    INSERT INTO billing_rounds (name, due_at) VALUES ('reconcile', $1) ON CONFLICT (name) DO NOTHING";

/// What was looked at and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Events of the last thirty days that mean something to us.
    pub events: u64,
    /// Of these, those that never came here.
    pub missed: u64,
    pub checkouts: u64,
    pub subscriptions: u64,
    /// Credits that were granted, which nobody had granted before.
    pub granted: i64,
    /// Everything that was put right, in words.
    pub effects: Vec<String>,
    /// What a person has to look at; the rest was looked at all the same.
    pub problems: Vec<String>,
}

/// What a look would lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is written.
    DryRun,
    PutRight,
}

impl Desk {
    /// Whether this node should do it now: one node an hour.
    pub async fn reconcile_is_due(&self) -> Result<bool, store::Error> {
        let now = self.tools().clock.now();
        self.tools()
            .store
            .write(move |tx| {
                let first = tx.execute(FIRST, params![now.plus(EVERY)])? == 1;
                Ok(first || tx.execute(DUE, params![now, now.plus(EVERY)])? == 1)
            })
            .await
    }

    /// `said` hears of progress: what is looked at, and how much of it so far.
    pub async fn reconcile(
        &self,
        mode: Mode,
        said: &mut (dyn FnMut(&str, u64) + Send),
    ) -> Result<Report, Error> {
        let mut report = Report::default();
        self.missed_events(mode, &mut report, said).await?;
        self.open_checkouts(mode, &mut report, said).await?;
        self.running_subscriptions(mode, &mut report, said).await?;
        Ok(report)
    }

    async fn missed_events(
        &self,
        mode: Mode,
        report: &mut Report,
        said: &mut (dyn FnMut(&str, u64) + Send),
    ) -> Result<(), Error> {
        let since = self.tools().clock.now().minus(REACH);
        let mut last: Option<String> = None;
        loop {
            let before = last.clone();
            let query = Form::new()
                .with("limit", PAGE)
                .with("created[gte]", since.0 / 1_000)
                .with_some("starting_after", last.as_deref());
            let page: List<Event> = self.tools().stripe.get(Class::Worker, "/v1/events", &query).await?;
            let has_more = page.has_more && !page.data.is_empty();
            for event in page.data {
                last = Some(event.id.clone());
                if event.livemode != self.tools().terms.livemode {
                    continue;
                }
                let Some(subject) = Subject::of(&event) else { continue };
                report.events += 1;
                self.perhaps_missed(mode, report, event, &subject).await?;
                said("events", report.events);
            }
            if !has_more {
                return Ok(());
            }
            if last == before {
                return Err(Trouble::NotUnderstood("the list of events has no end".into()).into());
            }
        }
    }

    async fn perhaps_missed(
        &self,
        mode: Mode,
        report: &mut Report,
        event: Event,
        subject: &Subject,
    ) -> Result<(), Error> {
        let id = inbox::row_id(&event.id, event.livemode);
        let looked = id.clone();
        let known = self
            .tools()
            .store
            .read(move |tx| -> Result<_, store::Error> { inbox::find(tx, &looked) })
            .await?;
        if known.is_some() {
            return Ok(());
        }
        report.missed += 1;
        if mode == Mode::DryRun {
            report
                .effects
                .push(format!("{} ({}) never came: {subject} would be looked at", event.id, event.r#type));
            return Ok(());
        }
        let now = self.tools().clock.now();
        self.write_down(event, true, now).await?;
        self.put_right(report, subject, Some(&id)).await
    }

    async fn open_checkouts(
        &self,
        mode: Mode,
        report: &mut Report,
        said: &mut (dyn FnMut(&str, u64) + Send),
    ) -> Result<(), Error> {
        let mut last: Option<Checkout> = None;
        loop {
            let (after, now) = (last.clone(), self.tools().clock.now());
            let read = move |tx: &mut Tx<'_>| -> Result<_, store::Error> {
                checkouts::waiting(tx, after.as_ref(), now, PAGE)
            };
            let page = self.tools().store.scan(read).await?;
            let Some(end) = page.last() else { return Ok(()) };
            last = Some(end.clone());
            for checkout in page {
                report.checkouts += 1;
                self.perhaps_ended(mode, report, &checkout, now).await?;
                said("checkouts", report.checkouts);
            }
        }
    }

    async fn perhaps_ended(
        &self,
        mode: Mode,
        report: &mut Report,
        checkout: &Checkout,
        now: Millis,
    ) -> Result<(), Error> {
        let subject = match (&checkout.session_id, &checkout.payment_intent) {
            (Some(session), _) => Subject::Session(session.clone()),
            (None, Some(payment)) => Subject::TopUp(payment.clone()),
            // Whoever works on it finds out by itself.
            (None, None) if checkout.kind == Kind::TopUp => return Ok(()),
            // The call to Stripe came to nothing, and no event spoke of it while a session could live.
            (None, None) => {
                let over = checkout.created_at.plus(checkouts::LIFE) < now;
                if over && mode == Mode::PutRight {
                    let checkout = checkout.clone();
                    let ended = self.tools().store.write(move |tx| -> Result<(), store::Error> {
                        checkouts::set_status(tx, &checkout, checkouts::Status::Expired, None, now)
                    });
                    ended.await?;
                }
                return Ok(());
            }
        };
        match mode {
            Mode::DryRun => {
                let status = checkout.status.name();
                report.effects.push(format!("{subject} is {status} here: it would be looked at"));
            }
            Mode::PutRight => {
                self.put_right(report, &subject, None).await?;
            }
        }
        Ok(())
    }

    async fn running_subscriptions(
        &self,
        mode: Mode,
        report: &mut Report,
        said: &mut (dyn FnMut(&str, u64) + Send),
    ) -> Result<(), Error> {
        let mut last = String::new();
        loop {
            let after = last.clone();
            let read = move |tx: &mut Tx<'_>| -> Result<_, store::Error> {
                subscriptions::live_after(tx, &after, PAGE)
            };
            let page = self.tools().store.scan(read).await?;
            let Some(end) = page.last() else { return Ok(()) };
            last.clone_from(&end.id);
            for running in page {
                report.subscriptions += 1;
                match self.perhaps_ownerless(mode, report, &running).await {
                    Err(error) if !error.may_pass() => {
                        report.problems.push(format!("{}: {error}", running.id))
                    }
                    looked => looked?,
                }
                if mode == Mode::PutRight {
                    self.put_right(report, &Subject::Subscription(running.id), None).await?;
                }
                said("subscriptions", report.subscriptions);
            }
        }
    }

    async fn put_right(
        &self,
        report: &mut Report,
        subject: &Subject,
        event: Option<&str>,
    ) -> Result<(), Error> {
        match self.bring_up_to_date(Class::Worker, subject, event).await {
            Ok(outcome) => note(report, outcome),
            // One that stays as it is must not keep the others waiting.
            Err(error) if !error.may_pass() => report.problems.push(format!("{subject}: {error}")),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Nobody goes on paying for an account that was deleted.
    async fn perhaps_ownerless(
        &self,
        mode: Mode,
        report: &mut Report,
        running: &Running,
    ) -> Result<(), Error> {
        let (exists, owner) = (self.tools().owner_exists.clone(), running.owner.clone());
        if self.tools().store.read(move |tx| exists(tx, &owner)).await? {
            return Ok(());
        }
        let what = match mode {
            Mode::DryRun => "would be ended",
            Mode::PutRight => {
                self.cancel_for_good(&running.id).await?;
                "was ended"
            }
        };
        report.effects.push(format!("{} is gone: the subscription {} {what}", running.owner, running.id));
        Ok(())
    }
}

fn note(report: &mut Report, outcome: Outcome) {
    for effect in outcome.effects {
        if let Effect::Granted { credits, .. } = effect {
            report.granted += credits;
        }
        report.effects.push(effect.to_string());
    }
}
