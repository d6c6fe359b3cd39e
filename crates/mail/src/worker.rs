//! The worker that sends what waits: any number of nodes may run one on the same store.

use crate::compose::compose;
use crate::outbox::{self, Leased, Outbox, Turn};
use crate::schedule::{Delivery, Health, Reason, Try, Verdict, judge};
use crate::templates::Templates;
use crate::transport::{Smtp, Transport};
use kernel::{Clock, Stopwatch, Vault, random};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use store::{Error, Store, Tx};
use tokio::task::{self, JoinSet};

/// Mails on their way at once.
const AT_ONCE: usize = 4;
/// The look for mails that nobody rang for: those of other nodes and those whose time has come.
const POLL: Duration = Duration::from_secs(1);
/// In trouble a ring does not bring the next probe closer than this.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);
/// How long a stop waits for mails on their way; their rows are sent again by another node otherwise.
const STOP_TIME: Duration = Duration::from_secs(10);
const MARK_AGAIN: Duration = Duration::from_millis(250);

/// Sends mails until it is told to stop; cheap to clone.
#[derive(Clone)]
pub struct Mailer {
    store: Store,
    vault: Vault,
    templates: Arc<Templates>,
    transport: Transport,
    clock: Arc<dyn Clock>,
    outbox: Outbox,
}

/// A try that has ended.
struct Tried {
    id: String,
    delivery: Delivery,
}

impl Mailer {
    pub fn new(
        store: Store,
        vault: Vault,
        templates: Arc<Templates>,
        transport: Transport,
        clock: Arc<dyn Clock>,
        outbox: Outbox,
    ) -> Mailer {
        Mailer { store, vault, templates, transport, clock, outbox }
    }

    /// Runs until `shutdown` is ready, then takes no more mails and waits up to ten seconds for those on their way.
    /// Dropping the future instead stops at once, as a crash would.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        match self.transport.clone() {
            Transport::Smtp(smtp) => self.send_all(&smtp, shutdown).await,
            Transport::Capture => self.settle_unsent(outbox::capture, shutdown).await,
            Transport::Nothing => self.settle_unsent(outbox::skip, shutdown).await,
        }
    }

    async fn send_all(self, smtp: &Smtp, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut sending = JoinSet::new();
        let mut in_flight: HashMap<task::Id, String> = HashMap::new();
        let mut health = Health::default();
        let mut last_probe = Stopwatch::start();
        let mut pause = Duration::ZERO;
        let mut rung = false;
        // A restart is a good moment to try again what was put off.
        self.pull_forward().await;
        loop {
            let room = if !health.is_troubled() {
                AT_ONCE.saturating_sub(in_flight.len())
            } else {
                let pause = if rung { pause.min(SHORTEST_PAUSE) } else { pause };
                usize::from(in_flight.is_empty() && last_probe.elapsed() >= pause)
            };
            if room > 0 {
                rung = false;
                last_probe = Stopwatch::start();
                let turn = if health.is_troubled() { Turn::Any } else { Turn::Due };
                for leased in self.lease(turn, room).await {
                    // After a jump of the clock a row's lease can end while it is still on its way here.
                    if !in_flight.values().any(|id| *id == leased.id) {
                        let id = leased.id.clone();
                        let task = sending.spawn(self.clone().send_one(smtp.clone(), leased));
                        in_flight.insert(task.id(), id);
                    }
                }
            }
            let wait = if health.is_troubled() { POLL.min(SHORTEST_PAUSE) } else { POLL };
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(ended) = sending.join_next_with_id(), if !sending.is_empty() => {
                    match ended {
                        Ok((task, Tried { id, delivery })) => {
                            in_flight.remove(&task);
                            if health.note(&id, &delivery) {
                                self.pull_forward().await;
                            }
                            pause = health.pause(random::jitter(&mut random::secure()));
                        }
                        // A panic; the mail's lease ends by itself.
                        Err(error) => {
                            in_flight.remove(&error.id());
                            tracing::error!(%error, "sending a mail ended unexpectedly");
                        }
                    }
                }
                () = self.outbox.rung.notified() => rung = true,
                () = tokio::time::sleep(wait) => {}
            }
        }
        let ended = async { while sending.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIME, ended).await.is_err() {
            tracing::warn!("stopped with mails on their way: they may be sent twice");
        }
        smtp.close().await;
    }

    async fn lease(&self, turn: Turn, limit: usize) -> Vec<Leased> {
        let now = self.clock.now();
        let leased = async {
            if !self.store.read::<_, Error, _>(move |tx| outbox::is_any_ready(tx, turn, now)).await? {
                return Ok(Vec::new());
            }
            self.store.write(move |tx| outbox::lease(tx, turn, limit, now)).await
        };
        leased.await.unwrap_or_else(|error: Error| {
            tracing::warn!(%error, "waiting mails could not be read");
            Vec::new()
        })
    }

    async fn pull_forward(&self) {
        let now = self.clock.now();
        loop {
            match self.store.write::<_, Error, _>(move |tx| outbox::pull_forward(tx, now)).await {
                Ok(true) => {}
                Ok(false) => return,
                // They come when their time has come.
                Err(error) => return tracing::warn!(%error, "mails that were put off stay so"),
            }
        }
    }

    async fn send_one(self, smtp: Smtp, leased: Leased) -> Tried {
        let delivery = self.deliver(&smtp, &leased).await;
        let tried =
            Try { attempts: leased.attempts, handovers: leased.handovers, created_at: leased.created_at };
        let jitter = random::jitter(&mut random::secure());
        let verdict = judge(delivery.clone(), tried, self.clock.now(), jitter);
        let Leased { id, template, attempts, .. } = &leased;
        match &verdict {
            Verdict::Sent => tracing::debug!(mail = %id, %template, attempts, "mail sent"),
            Verdict::Again { after, reason, .. } => {
                let reason = reason.short();
                tracing::warn!(mail = %id, %template, attempts, %reason, again_in_ms = after, "mail not sent yet");
            }
            Verdict::Failed(reason) => {
                let reason = reason.short();
                tracing::error!(mail = %id, %template, attempts, %reason, "mail given up");
            }
        }
        self.mark(&leased, verdict).await;
        Tried { id: leased.id, delivery }
    }

    async fn deliver(&self, smtp: &Smtp, leased: &Leased) -> Delivery {
        // Written by a newer version, or for another data key: perhaps another node can read it.
        let Some((to, message)) = outbox::open(&self.vault, &leased.recipient, &leased.content_sealed) else {
            return Delivery::Later(Reason::new("the stored content cannot be read", None, ""));
        };
        let rendered = match self.templates.render(&message, to.name.as_deref()) {
            Ok(rendered) => rendered,
            Err(problem) => return Delivery::Later(Reason::new("template", None, &problem.to_string())),
        };
        match compose(&leased.id, smtp.from(), &to.address, rendered, self.clock.now()) {
            Ok(mail) => smtp.deliver(&to.address, &mail).await,
            Err(what) => Delivery::Later(Reason::new("composing", None, &what)),
        }
    }

    /// Tries until it is written: a mail that was sent and not marked would be sent again.
    async fn mark(&self, leased: &Leased, verdict: Verdict) {
        loop {
            let (leased, verdict, now) = (leased.clone(), verdict.clone(), self.clock.now());
            let written = self.store.write(move |tx| outbox::settle(tx, &leased, &verdict, now));
            match written.await {
                Ok(()) => return,
                Err(error) if error.is_unavailable() => {
                    tracing::warn!(%error, "what came of a mail could not be written yet");
                    tokio::time::sleep(MARK_AGAIN).await;
                }
                Err(error) => return tracing::error!(%error, "what came of a mail could not be written"),
            }
        }
    }

    /// Without a mail server: moves waiting rows to their end.
    async fn settle_unsent(
        self,
        settle: fn(&mut Tx<'_>) -> Result<bool, Error>,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut shutdown = pin!(shutdown);
        loop {
            let settled = async {
                if !self.store.read::<_, Error, _>(outbox::is_any_waiting).await? {
                    return Ok(false);
                }
                self.store.write(settle).await
            };
            let more = settled.await.unwrap_or_else(|error: Error| {
                tracing::warn!(%error, "waiting mails could not be read");
                false
            });
            let wait = if more { Duration::ZERO } else { POLL };
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = self.outbox.rung.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}
