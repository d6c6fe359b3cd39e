//! Billing as this process runs it: the desk, the work on events, and the hourly reconciliation.

use super::telling;
use crate::config::Config;
use crate::settings::owner_exists;
use crate::terminal::Failure;
use billing::desk::{Desk, Terms, Tools};
use billing::overview::{self, Load};
use billing::reconcile::Mode;
use billing::signature::Verifier;
use billing::stripe::{Options, Stripe};
use kernel::time::SECOND;
use kernel::{Millis, SystemClock, Vault, random};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use store::Store;

/// Who is due is asked so often; the hour itself is kept in the store, for all nodes together.
const LOOK: Duration = Duration::from_secs(60);
/// How old the figures in `/metrics` may be.
const COUNT: Duration = Duration::from_secs(5);

/// The way to Stripe; `None` without a key.
pub fn client(config: &Config) -> Result<Option<Stripe>, Failure> {
    let stripe = &config.stripe;
    let Some(secret_key) = stripe.secret_key.clone() else { return Ok(None) };
    let options =
        Options { secret_key, api_base: stripe.api_base.clone(), api_version: stripe.api_version.clone() };
    let client = Stripe::new(&options).ok_or_else(|| {
        Failure::new(
            "stripe.secret_key or stripe.api_version cannot be sent.",
            "Copy them again: both are visible ASCII characters without spaces.",
        )
    })?;
    Ok(Some(client))
}

/// `None` when nothing is sold.
pub fn desk(config: &Config, store: &Store, vault: &Vault) -> Result<Option<Desk>, Failure> {
    let stripe = &config.stripe;
    let Some(client) = client(config)? else { return Ok(None) };
    let terms = Terms {
        catalogue: stripe.catalogue.clone(),
        policy: stripe.policy,
        livemode: stripe.livemode(),
        automatic_tax: stripe.automatic_tax,
        promotion_codes: stripe.promotion_codes,
        page: telling::page(config),
    };
    Ok(Some(Desk::new(Tools {
        store: store.clone(),
        vault: vault.clone(),
        ledger: Arc::new(config.credits.clone()),
        owner_exists: owner_exists(),
        clock: Arc::new(SystemClock),
        stripe: client,
        terms,
        verifier: Verifier::new(&stripe.webhook_secrets, stripe.tolerance),
    })))
}

/// How the inbox stood at the last look, for `/metrics`.
#[derive(Default)]
pub struct InboxGauge {
    pending: AtomicI64,
    failed: AtomicI64,
    /// When the oldest event that waits arrived; 0: none waits.
    oldest: AtomicI64,
}

impl InboxGauge {
    pub fn pending(&self) -> i64 {
        self.pending.load(Ordering::Relaxed)
    }

    pub fn failed(&self) -> i64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub fn oldest_seconds(&self, now: Millis) -> i64 {
        match self.oldest.load(Ordering::Relaxed) {
            0 => 0,
            oldest => now.0.saturating_sub(oldest).max(0) / SECOND,
        }
    }

    fn note(&self, load: &Load) {
        self.pending.store(load.pending, Ordering::Relaxed);
        self.failed.store(load.failed, Ordering::Relaxed);
        self.oldest.store(load.oldest.map_or(0, |oldest| oldest.0), Ordering::Relaxed);
    }
}

/// Runs until the process ends. Also without a key, since events may be left from a time with one.
pub async fn watch(store: Store, gauge: Arc<InboxGauge>) {
    loop {
        match store.scan(overview::load).await {
            Ok(load) => gauge.note(&load),
            // The figures stay as they were; that the database is gone is seen elsewhere.
            Err(error) => tracing::debug!(%error, "the inbox was not counted"),
        }
        let factor = random::jitter(&mut random::secure());
        tokio::time::sleep(COUNT.mul_f64(factor)).await;
    }
}

/// Runs until `shutdown` is ready.
pub async fn run(desk: Option<Desk>, shutdown: impl Future<Output = ()>) {
    let Some(desk) = desk else { return };
    let rounds = tokio::spawn(reconcile(desk.clone()));
    let top_ups = tokio::spawn(desk.clone().top_up());
    desk.work(shutdown).await;
    rounds.abort();
    top_ups.abort();
}

async fn reconcile(desk: Desk) {
    loop {
        let factor = random::jitter(&mut random::secure());
        tokio::time::sleep(LOOK.mul_f64(factor)).await;
        let round = async {
            if !desk.reconcile_is_due().await? {
                return Ok(None);
            }
            desk.reconcile(Mode::PutRight, &mut |_, _| {}).await.map(Some)
        };
        match round.await {
            Ok(None) => {}
            Ok(Some(report)) => {
                for effect in &report.effects {
                    tracing::warn!(effect, "reconciliation put something right");
                }
                for problem in &report.problems {
                    tracing::error!(problem, "reconciliation found something that a person has to look at");
                }
                tracing::debug!(
                    events = report.events,
                    checkouts = report.checkouts,
                    "reconciled with Stripe"
                );
            }
            Err(error) => tracing::warn!(%error, "not reconciled with Stripe; the next round tries again"),
        }
    }
}
