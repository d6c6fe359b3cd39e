//! The postman: delivers what is due. Any number of nodes may run one on the same store.

use crate::deliveries::{self, Leased};
use crate::endpoints;
use crate::reach::Reach;
use crate::schedule::{Tried, Verdict, explain, judge};
use crate::wire::Wire;
use kernel::{Clock, Vault, random};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use store::{Error, Store};
use tokio::task::{self, JoinSet};

/// Deliveries on their way at once, in all and to one endpoint.
const AT_ONCE: usize = 32;
const AT_ONCE_EACH: usize = 4;
/// The look for what is due.
const POLL: Duration = Duration::from_secs(1);
/// How long a stop waits for deliveries on their way; their rows are delivered again by another node otherwise.
const STOP_TIME: Duration = Duration::from_secs(10);
const MARK_AGAIN: Duration = Duration::from_millis(250);
const MARK_TRIES: u32 = 40;

/// Cheap to clone.
#[derive(Clone)]
pub struct Postman {
    store: Store,
    vault: Vault,
    clock: Arc<dyn Clock>,
    wire: Wire,
}

impl Postman {
    /// `None` when this build has no cryptography for TLS.
    pub fn new(store: Store, vault: Vault, clock: Arc<dyn Clock>, reach: Reach) -> Option<Postman> {
        Some(Postman { store, vault, clock, wire: Wire::new(reach)? })
    }

    /// Runs until `shutdown` is ready, then takes nothing more and waits up to ten seconds for what is on its way.
    /// Dropping the future instead stops at once, as a crash would.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut going = JoinSet::new();
        let mut in_flight: HashMap<task::Id, String> = HashMap::new();
        loop {
            let leased = if in_flight.len() < AT_ONCE { self.lease(&in_flight).await } else { Vec::new() };
            for delivery in leased {
                let endpoint = delivery.endpoint.clone();
                let postman = self.clone();
                let task = going.spawn(async move { postman.deliver(delivery).await });
                in_flight.insert(task.id(), endpoint);
            }
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(ended) = going.join_next_with_id(), if !going.is_empty() => {
                    let id = match ended {
                        Ok((id, ())) => id,
                        Err(error) => {
                            // A panic; the row's lease ends by itself.
                            tracing::error!(%error, "a delivery ended unexpectedly");
                            error.id()
                        }
                    };
                    in_flight.remove(&id);
                }
                // More may be due as soon as one of these has ended; others become due meanwhile.
                () = tokio::time::sleep(POLL) => {}
            }
        }
        let ended = async { while going.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIME, ended).await.is_err() {
            tracing::warn!("stopped with events on their way: they may be delivered twice");
        }
    }

    async fn lease(&self, in_flight: &HashMap<task::Id, String>) -> Vec<Leased> {
        let now = self.clock.now();
        let mut busy: HashMap<String, usize> = HashMap::new();
        in_flight.values().for_each(|endpoint| *busy.entry(endpoint.clone()).or_default() += 1);
        let most = AT_ONCE.saturating_sub(in_flight.len());
        let leased = async {
            if !self.store.read::<_, Error, _>(move |tx| deliveries::is_any_ready(tx, now)).await? {
                return Ok(Vec::new());
            }
            let room =
                move |endpoint: &str| AT_ONCE_EACH.saturating_sub(busy.get(endpoint).copied().unwrap_or(0));
            self.store.write(move |tx| deliveries::lease(tx, &room, most, now)).await
        };
        leased.await.unwrap_or_else(|error: Error| {
            tracing::warn!(%error, "events that are due could not be read");
            Vec::new()
        })
    }

    async fn deliver(&self, leased: Leased) {
        let (vault, id) = (self.vault.clone(), leased.endpoint.clone());
        let opened = self.store.read::<_, Error, _>(move |tx| endpoints::open(tx, &vault, &id)).await;
        let tried = match opened {
            Ok(Some((url, secret))) => {
                let (event, payload) = (&leased.event, leased.payload.clone());
                self.wire.deliver(&url, &secret, event, payload, self.clock.now()).await
            }
            // It was removed meanwhile, or another data key sealed it.
            Ok(None) => Tried::Unanswered("the endpoint's secret cannot be opened, or it is gone".into()),
            Err(error) => {
                // Its lease ends by itself.
                return tracing::warn!(%error, "an endpoint could not be read");
            }
        };
        let jitter = random::jitter(&mut random::secure());
        let now = self.clock.now();
        let verdict = judge(&tried, leased.attempts, leased.begun_at, now, jitter);
        tell_log(&leased, &tried, &verdict);
        self.mark(leased, tried, verdict).await;
    }

    /// Tries while the database is away: what was taken and not marked is delivered again.
    async fn mark(&self, leased: Leased, tried: Tried, verdict: Verdict) {
        for _ in 0..MARK_TRIES {
            let (row, tried, verdict) = (leased.clone(), tried.clone(), verdict.clone());
            let now = self.clock.now();
            let written = self.store.write(move |tx| deliveries::settle(tx, &row, &tried, &verdict, now));
            match written.await {
                Ok(false) => return,
                Ok(true) => {
                    let endpoint = &leased.endpoint;
                    return tracing::error!(
                        %endpoint,
                        "an endpoint was switched off: it took nothing for three days, or wants no more; \
                         mend it, then `tollgate hooks enable` and `tollgate hooks resend`"
                    );
                }
                Err(error) if Error::is_unavailable(&error) => {
                    tracing::warn!(%error, "what came of a delivery could not be written yet");
                    tokio::time::sleep(MARK_AGAIN).await;
                }
                Err(error) => return tracing::error!(%error, "what came of a delivery could not be written"),
            }
        }
    }
}

fn tell_log(leased: &Leased, tried: &Tried, verdict: &Verdict) {
    let Leased { event, endpoint, kind, attempts, .. } = leased;
    let why = explain(tried).unwrap_or_default();
    match verdict {
        Verdict::Delivered => tracing::debug!(%event, %kind, %endpoint, attempts, "event delivered"),
        Verdict::Again(after) => {
            tracing::warn!(%event, %kind, %endpoint, attempts, why, again_in_ms = after, "event not delivered yet");
        }
        Verdict::GivenUp | Verdict::Unwanted => {
            tracing::error!(%event, %kind, %endpoint, attempts, why, "event given up");
        }
    }
}
