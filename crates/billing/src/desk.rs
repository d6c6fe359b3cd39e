//! The desk: everything of billing that calls Stripe. It reads there, outside any transaction, and applies what it found in one.

use crate::apply::apply;
use crate::books::{Books, Problem};
use crate::catalogue::Catalogue;
use crate::inbox;
use crate::payments::{Effect, Policy};
use crate::signature::Verifier;
use crate::stripe::{Class, Stripe, Trouble};
use crate::subject::Subject;
use crate::turns;
use credits::OwnerExists;
use kernel::{Clock, Millis, Vault};
use std::collections::VecDeque;
use std::sync::Arc;
use store::Store;
use tokio::sync::Notify;

/// How often a subject is read again because somebody else applied something meanwhile.
const READINGS: u32 = 8;
/// Subjects that one may lead to: a payment to its invoice, the invoice to its subscription.
const SUBJECTS: usize = 8;

/// What the configuration says.
#[derive(Debug, Clone)]
pub struct Terms {
    pub catalogue: Catalogue,
    pub policy: Policy,
    /// Follows from the key.
    pub livemode: bool,
    pub automatic_tax: bool,
    pub promotion_codes: bool,
    /// Where people see what they have and how they pay; a mail leads there.
    pub page: Option<mail::Link>,
}

/// What the desk works with.
pub struct Tools {
    pub store: Store,
    pub vault: Vault,
    pub ledger: Arc<credits::Settings>,
    pub owner_exists: OwnerExists,
    pub clock: Arc<dyn Clock>,
    pub stripe: Stripe,
    pub terms: Terms,
    pub verifier: Verifier,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    tools: Arc<Tools>,
    bell: Arc<Notify>,
}

/// Why a subject is not up to date.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Stripe(#[from] Trouble),
    #[error(transparent)]
    Problem(#[from] Problem),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        Error::Problem(Problem::Store(error))
    }
}

impl Error {
    /// Trying again later may help; otherwise a person has to look.
    pub fn may_pass(&self) -> bool {
        match self {
            Error::Stripe(Trouble::Unavailable(_)) | Error::Problem(Problem::Store(_)) => true,
            // A key that was replaced, or lacks a right, is put right by an operator; a missing object stays missing.
            Error::Stripe(Trouble::Refused { status, .. }) => matches!(status, 401 | 403),
            Error::Stripe(Trouble::Missing(_) | Trouble::NotUnderstood(_)) => false,
            Error::Problem(Problem::Refused(_) | Problem::Odd(_)) => false,
        }
    }
}

/// What came of bringing a subject up to date.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Something of ours was at stake, changed or not.
    pub ours: bool,
    pub effects: Vec<Effect>,
}

impl Outcome {
    pub(crate) fn ours(effects: Vec<Effect>) -> Outcome {
        Outcome { ours: true, effects }
    }

    fn add(&mut self, other: Outcome) {
        self.ours |= other.ours;
        self.effects.extend(other.effects);
    }

    /// For the inbox.
    pub fn text(&self) -> String {
        if !self.ours {
            return "not ours".into();
        }
        if self.effects.is_empty() {
            return "nothing was left to do".into();
        }
        self.effects.iter().map(Effect::to_string).collect::<Vec<_>>().join("; ")
    }
}

impl Desk {
    pub fn new(tools: Tools) -> Desk {
        Desk { tools: Arc::new(tools), bell: Arc::default() }
    }

    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// For a closure that outlives the call.
    pub(crate) fn tools_handle(&self) -> Arc<Tools> {
        self.tools.clone()
    }

    /// Wakes the worker of this process; without it an event waits for a second.
    pub(crate) fn ring(&self) {
        self.bell.notify_one();
    }

    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Reads a subject at Stripe, and what it leads to, and does what is left to do. The inbox row `event` is marked in the
    /// transaction of the last effect.
    pub async fn bring_up_to_date(
        &self,
        class: Class,
        subject: &Subject,
        event: Option<&str>,
    ) -> Result<Outcome, Error> {
        let mut waiting = VecDeque::from([subject.clone()]);
        let mut seen = 0;
        let mut all = Outcome::default();
        while let Some(subject) = waiting.pop_front() {
            seen += 1;
            if seen > SUBJECTS {
                return Err(Problem::Odd(format!("{subject} leads in circles")).into());
            }
            let first_look = seen == 1;
            for reading in 1.. {
                let looked = subject.clone();
                let turn = self.tools.store.read(move |tx| turns::current(tx, &looked)).await?;
                let found = self.look(class, &subject, first_look).await?;
                if !found.before.is_empty() {
                    // They come first, and then this one once more.
                    waiting.extend(found.before);
                    waiting.push_back(subject.clone());
                    break;
                }
                let mark = event.filter(|_| waiting.is_empty() && found.after.is_empty()).map(str::to_owned);
                let (tools, before, applied) = (self.tools.clone(), all.clone(), subject.clone());
                let (said, after) = (Arc::new(found.said), found.after);
                let outcome = self.tools.store.write(move |tx| -> Result<Option<Outcome>, Problem> {
                    let now = tools.clock.now();
                    if !turns::take(tx, &applied, turn, now)? {
                        return Ok(None);
                    }
                    let mut outcome = before.clone();
                    outcome.add(apply(tx, tools.books(now), &tools.terms, &said)?);
                    if let Some(id) = &mark {
                        let state = if outcome.ours { inbox::State::Done } else { inbox::State::Ignored };
                        inbox::done(tx, id, state, &outcome.text(), now)?;
                    }
                    Ok(Some(outcome))
                });
                match outcome.await? {
                    Some(outcome) => {
                        all = outcome;
                        waiting.extend(after);
                        break;
                    }
                    None if reading >= READINGS => return Err(store::Error::Busy.into()),
                    None => {}
                }
            }
        }
        Ok(all)
    }
}

impl Tools {
    pub(crate) fn books(&self, now: Millis) -> Books<'_> {
        Books { terms: &self.ledger, vault: &self.vault, owner_exists: &self.owner_exists, now }
    }
}
