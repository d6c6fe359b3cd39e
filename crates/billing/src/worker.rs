//! Works off the inbox: any number of nodes may do it on one store.

use crate::books::Problem;
use crate::desk::{Desk, Error, Outcome};
use crate::inbox::{self, Leased};
use crate::stripe::Class;
use crate::subject::Subject;
use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;
use tokio::task::{self, JoinError, JoinSet};

/// Events that are worked on at once.
const AT_ONCE: usize = 8;
/// The look for events that nobody rang for: those of other nodes and those whose time has come.
const POLL: Duration = Duration::from_secs(1);
/// A lease lives through a few of these.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How long a stop waits for work that is under way; what is not done by then is given back and done again, which changes nothing.
const STOP_TIME: Duration = Duration::from_secs(4);

impl Desk {
    /// Runs until `shutdown` is ready. Dropping the future instead stops at once, as a crash would.
    pub async fn work(self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut renewal = tokio::time::interval(RENEW_EVERY);
        let mut working = JoinSet::new();
        let mut under_way: HashMap<task::Id, String> = HashMap::new();
        loop {
            let room = AT_ONCE.saturating_sub(working.len());
            let leased = if room > 0 { self.lease(room).await } else { Vec::new() };
            // More may be waiting as soon as one of these is done.
            let is_full = leased.len() == room;
            for event in leased {
                let (desk, id) = (self.clone(), event.id.clone());
                let begun = working.spawn(async move { desk.handle(event).await });
                under_way.insert(begun.id(), id);
            }
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(ended) = working.join_next_with_id(), if !working.is_empty() => {
                    note_end(&mut under_way, ended);
                }
                _ = renewal.tick() => self.renew(under_way.values().cloned().collect()).await,
                () = self.rung(), if !is_full => {}
                () = tokio::time::sleep(POLL), if !is_full => {}
            }
        }
        let ended = async {
            while let Some(ended) = working.join_next_with_id().await {
                note_end(&mut under_way, ended);
            }
        };
        if tokio::time::timeout(STOP_TIME, ended).await.is_err() {
            working.shutdown().await;
            let left: Vec<String> = under_way.into_values().collect();
            tracing::warn!(events = left.len(), "stopped with events under way: they are worked on again");
            let given_back = self.tools().store.write(move |tx| inbox::give_back(tx, &left)).await;
            if let Err(error) = given_back {
                // Their leases end by themselves.
                tracing::warn!(%error, "events that were under way were not given back");
            }
        }
    }

    async fn renew(&self, ids: Vec<String>) {
        if ids.is_empty() {
            return;
        }
        let now = self.tools().clock.now();
        if let Err(error) = self.tools().store.write(move |tx| inbox::renew(tx, &ids, now)).await {
            // Somebody else may begin the same work, which changes nothing.
            tracing::warn!(%error, "the leases of events were not renewed");
        }
    }

    async fn lease(&self, room: usize) -> Vec<Leased> {
        let tools = self.tools();
        let now = tools.clock.now();
        let leased = async {
            if !tools.store.read::<_, store::Error, _>(move |tx| inbox::is_any_ready(tx, now)).await? {
                return Ok(Vec::new());
            }
            tools.store.write(move |tx| inbox::lease(tx, room, now)).await
        };
        leased.await.unwrap_or_else(|error: store::Error| {
            tracing::warn!(%error, "the inbox of events could not be read");
            Vec::new()
        })
    }

    async fn handle(&self, event: Leased) {
        let Some(subject) = Subject::parse(&event.subject) else {
            return self.note_failure(event, "the row names no subject".into(), false).await;
        };
        match self.bring_up_to_date(Class::Worker, &subject, Some(&event.id)).await {
            Ok(outcome) => tracing::debug!(event = event.id, outcome = outcome.text(), "an event is done"),
            Err(error) => self.note_failure(event, error.to_string(), error.may_pass()).await,
        }
    }

    async fn note_failure(&self, event: Leased, error: String, may_pass: bool) {
        let now = self.tools().clock.now();
        let (id, attempts) = (event.id.clone(), event.attempts);
        tracing::warn!(event = id, attempts, error, may_pass, "an event could not be worked off");
        let noted = self.tools().store.write(move |tx| -> Result<(), store::Error> {
            match may_pass {
                true => inbox::failed(tx, &event, &error, now).map(|_| ()),
                false => inbox::put_aside(tx, &event.id, &error, now),
            }
        });
        if let Err(error) = noted.await {
            // Its lease ends by itself.
            tracing::warn!(event = id, %error, "the failure of an event was not noted");
        }
    }

    /// Does again what an event led to, now. `None` when there is no such event, when it means nothing to us, or when somebody
    /// works on it already. What comes to nothing is tried again later like any other event, or put aside.
    pub async fn replay(&self, id: &str) -> Result<Option<Outcome>, Error> {
        let (looked, now) = (id.to_owned(), self.tools().clock.now());
        let leased = self.tools().store.write(move |tx| inbox::reopen(tx, &looked, now)).await?;
        let Some(leased) = leased else { return Ok(None) };
        let subject = Subject::parse(&leased.subject);
        let outcome = match &subject {
            Some(subject) => self.bring_up_to_date(Class::Worker, subject, Some(id)).await,
            None => Err(Problem::Odd("the row names no subject".into()).into()),
        };
        if let Err(error) = &outcome {
            self.note_failure(leased, error.to_string(), error.may_pass()).await;
        }
        outcome.map(Some)
    }
}

fn note_end(under_way: &mut HashMap<task::Id, String>, ended: Result<(task::Id, ()), JoinError>) {
    let id = match ended {
        Ok((id, ())) => id,
        Err(error) => {
            // A panic; the event's lease ends by itself.
            tracing::error!(%error, "work on an event ended unexpectedly");
            error.id()
        }
    };
    under_way.remove(&id);
}
