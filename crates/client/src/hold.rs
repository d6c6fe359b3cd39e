//! Credits set aside for work whose cost is known when it is done.

use crate::credentials::IdempotencyKey;
use crate::credits::{Balance, BalanceOnly, Spent, read, spent};
use crate::error::Error;
use crate::handle::Tollgate;
use crate::id::HoldId;
use crate::wire::escape;
use serde_json::{Value, json};
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// Nothing has happened to it, or was refused: dropping releases it.
const OPEN: u8 = 0;
/// It may have been settled: dropping must not take back what the work has earned.
const UNSURE: u8 = 1;
/// Settled, released, or not ours.
const OVER: u8 = 2;

/// Credits that are set aside: [`settle`](Hold::settle) takes what the work cost, [`release`](Hold::release) gives all
/// back, and so does **dropping** it: an early return, a `?`, a panic, a client who hangs up.
///
/// Dropping releases in the background, on the tokio runtime that made the hold. When that runtime stops before the release
/// is through, as at the app's shutdown, or when Tollgate cannot be reached, nothing leaks for long: **the hold ends by
/// itself** after its `expires_in`. To be sure at once, call `release`.
///
/// ```no_run
/// use std::time::Duration;
/// use tollgate_client::{Credits, Error};
///
/// async fn generate(credits: Credits) -> Result<String, Error> {
///     let hold = credits.hold(8, Duration::from_secs(300)).await?;
///     let (picture, cost) = draw().await?; // failing here releases the hold
///     hold.settle(cost).await?;
///     Ok(picture)
/// }
/// # async fn draw() -> Result<(String, u64), Error> { Ok((String::new(), 5)) }
/// ```
#[must_use = "a hold that is dropped is released"]
pub struct Hold {
    tollgate: Tollgate,
    id: HoldId,
    amount: i64,
    unit: String,
    replayed: bool,
    runtime: Handle,
    stage: AtomicU8,
}

/// What a settlement does that is above the hold.
///
/// ```no_run
/// # async fn example(hold: tollgate_client::Hold) -> Result<(), tollgate_client::Error> {
/// hold.settle_above(90, tollgate_client::Above::Balance).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Above {
    /// 409, and the hold stays as it is.
    #[default]
    Refuse,
    /// The hold and no more.
    Cap,
    /// The rest from what is available; 402 if that is not there, and the hold stays as it is.
    Balance,
    /// The same, down to the owner's floor.
    Floor,
}

impl Above {
    fn name(self) -> &'static str {
        match self {
            Above::Refuse => "refuse",
            Above::Cap => "cap",
            Above::Balance => "balance",
            Above::Floor => "floor",
        }
    }
}

impl Hold {
    /// Within the runtime that asked for it.
    pub(crate) fn new(tollgate: Tollgate, id: HoldId, amount: i64, unit: String, replayed: bool) -> Hold {
        Hold { tollgate, id, amount, unit, replayed, runtime: Handle::current(), stage: AtomicU8::new(OPEN) }
    }

    /// It belongs to somebody else, who answers for it.
    #[cfg(feature = "axum")]
    pub(crate) fn disown(self) {
        self.stage.store(OVER, Ordering::Relaxed);
    }

    /// Names it in the ledger.
    ///
    /// ```
    /// fn log(hold: &tollgate_client::Hold) {
    ///     println!("hold {}: {} {}", hold.id(), hold.amount(), hold.unit());
    /// }
    /// ```
    pub fn id(&self) -> &HoldId {
        &self.id
    }

    /// How much is set aside.
    ///
    /// ```
    /// fn half(hold: &tollgate_client::Hold) -> i64 {
    ///     hold.amount() / 2
    /// }
    /// ```
    pub fn amount(&self) -> i64 {
        self.amount
    }

    /// Of what.
    ///
    /// ```
    /// fn is_credits(hold: &tollgate_client::Hold) -> bool {
    ///     hold.unit() == "credits"
    /// }
    /// ```
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// It had been made before under the same key, perhaps by an attempt that still works with it, or has settled it.
    ///
    /// ```
    /// fn is_fresh(hold: &tollgate_client::Hold) -> bool {
    ///     !hold.replayed()
    /// }
    /// ```
    pub fn replayed(&self) -> bool {
        self.replayed
    }

    /// Takes what the work cost and frees the rest. More than was set aside is refused; see [`Hold::settle_above`].
    ///
    /// After [`Error::Unavailable`] it is not known whether it was settled: settle again, for the same amount, or let it
    /// be; the hold is then not released by dropping it and ends by itself. After any other error it is as it was.
    ///
    /// ```no_run
    /// # async fn example(hold: tollgate_client::Hold) -> Result<(), tollgate_client::Error> {
    /// let spent = hold.settle(5).await?;
    /// println!("{} left", spent.available);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// 409 for more than was set aside and for a hold that is over, 422 for nothing (release it instead), 503.
    pub async fn settle(&self, amount: u64) -> Result<Spent, Error> {
        self.settle_above(amount, Above::Refuse).await
    }

    /// As [`Hold::settle`], where the work may have cost more than was set aside.
    ///
    /// ```no_run
    /// # async fn example(hold: tollgate_client::Hold) -> Result<(), tollgate_client::Error> {
    /// hold.settle_above(12, tollgate_client::Above::Cap).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Hold::settle`]; 402 where the rest is not there.
    pub async fn settle_above(&self, amount: u64, above: Above) -> Result<Spent, Error> {
        let key = self.key("settle");
        let body = json!({"amount": amount, "above": above.name()});
        // Before it is sent, so that a call that is cancelled half-way counts as well.
        self.stage.store(UNSURE, Ordering::Relaxed);
        let answer = self.tollgate.change(&self.target("capture"), Some(&key), &body).await;
        let settled = answer.and_then(|answer| spent(&answer));
        match &settled {
            Ok(_) => self.stage.store(OVER, Ordering::Relaxed),
            Err(Error::Unavailable(_)) => {}
            Err(Error::Refused(_) | Error::Misconfigured(_)) => self.stage.store(OPEN, Ordering::Relaxed),
        }
        settled
    }

    /// Gives all back, now.
    ///
    /// ```no_run
    /// # async fn example(hold: tollgate_client::Hold) -> Result<(), tollgate_client::Error> {
    /// let balance = hold.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// 409 for a hold that is over, 503.
    pub async fn release(&self) -> Result<Balance, Error> {
        let released = release(&self.tollgate, &self.id).await?;
        self.stage.store(OVER, Ordering::Relaxed);
        Ok(released)
    }

    /// Lets it live so long from now on: for work that takes longer than was thought.
    ///
    /// ```no_run
    /// # async fn example(hold: tollgate_client::Hold) -> Result<(), tollgate_client::Error> {
    /// hold.extend(std::time::Duration::from_secs(300)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// 409 for a hold that is over, 503.
    pub async fn extend(&self, expires_in: Duration) -> Result<(), Error> {
        let body = json!({"expires_in": expires_in.as_secs()});
        let answer = self.tollgate.change(&self.target("extend"), None, &body).await?;
        read::<BalanceOnly>(&answer).map(|_| ())
    }

    fn target(&self, verb: &str) -> String {
        target(&self.id, verb)
    }

    fn key(&self, verb: &str) -> IdempotencyKey {
        key(&self.id, verb)
    }
}

async fn release(tollgate: &Tollgate, id: &HoldId) -> Result<Balance, Error> {
    let body = Value::Object(serde_json::Map::new());
    let answer = tollgate.change(&target(id, "release"), Some(&key(id, "release")), &body).await?;
    Ok(read::<BalanceOnly>(&answer)?.balance)
}

fn target(id: &HoldId, verb: &str) -> String {
    format!("/api/credits/holds/{}/{verb}", escape(id.as_str()))
}

/// A hold is settled or released once, so its id names that action and a repetition is recognized.
fn key(id: &HoldId, verb: &str) -> IdempotencyKey {
    // An id that cannot stand in a key is none of Tollgate's, which will say so.
    IdempotencyKey::new(format!("{verb}-{id}")).unwrap_or_else(|_| IdempotencyKey::random())
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.stage.load(Ordering::Relaxed) != OPEN {
            return;
        }
        let (tollgate, id) = (self.tollgate.clone(), self.id.clone());
        // On a runtime that has stopped the task is dropped at once, and the hold ends by itself.
        self.runtime.spawn(async move {
            match release(&tollgate, &id).await {
                // A refusal says that it is over already.
                Ok(_) | Err(Error::Refused(_)) => {}
                Err(error) => {
                    tracing::warn!(hold = %id, "a hold was not released and will end by itself: {error}")
                }
            }
        });
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hold = f.debug_struct("Hold");
        hold.field("id", &self.id).field("amount", &self.amount).field("unit", &self.unit);
        hold.field("replayed", &self.replayed).finish_non_exhaustive()
    }
}
