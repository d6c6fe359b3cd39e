//! Counts that live for a while: attempts, rates, allowances.
//!
//! Where rates are kept follows the deployment: in Redis when there is one; else in PostgreSQL, which all nodes share; else
//! in this process, since SQLite means that there is one process. When Redis is lost, each node counts for itself: fewer
//! are refused for a while, but never none. [`budget`] is about counts that have to last.

mod budget;
mod link;

pub use budget::{Budget, Spent, Taken, WithoutRedis};

use crate::error::Error;
use crate::params;
use crate::store::{Engine, Store};
use crate::tx::Tx;
use kernel::Millis;
use link::Redis;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// At most `max` hits; the count starts again once the last counted hit is older than `window` (milliseconds).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub window: i64,
    pub max: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit {
    Counted { count: i64 },
    Refused { retry_at: Millis },
}

/// Keys of one node; the oldest go first.
const LOCAL_KEYS: usize = 100_000;

const HIT: &str = "
    INSERT INTO counters (key, count, last_at, expires_at) VALUES ($1, 1, $2, $3)
    ON CONFLICT (key) DO UPDATE SET
      count = CASE WHEN counters.last_at <= $4 THEN 1 ELSE counters.count + 1 END,
      last_at = EXCLUDED.last_at,
      expires_at = EXCLUDED.expires_at
    WHERE counters.last_at <= $4 OR counters.count < $5
    RETURNING count";
const HIT_FROM_FIRST: &str = "
    INSERT INTO counters (key, count, last_at, expires_at) VALUES ($1, 1, $2, $3)
    ON CONFLICT (key) DO UPDATE SET
      count = CASE WHEN counters.expires_at <= $2 THEN 1 ELSE counters.count + 1 END,
      last_at = EXCLUDED.last_at,
      expires_at = CASE WHEN counters.expires_at <= $2 THEN EXCLUDED.expires_at ELSE counters.expires_at END
    WHERE counters.expires_at <= $2 OR counters.count < $4
    RETURNING count, expires_at";
const END: &str = "SELECT expires_at FROM counters WHERE key = $1";
const LAST: &str = "SELECT last_at FROM counters WHERE key = $1";
const SWEEP: &str =
    "DELETE FROM counters WHERE key IN (SELECT key FROM counters WHERE expires_at <= $1 LIMIT 1000)";

/// Counts one hit inside a transaction, in one statement, so that any number of callers cannot pass `max`.
pub fn hit_in(tx: &mut Tx<'_>, key: &str, rule: Rule, now: Millis) -> Result<Hit, Error> {
    let before = now.minus(rule.window);
    let counted = tx.query_opt(HIT, params![key, now, now.plus(rule.window), before, rule.max], |row| {
        row.get::<i64>(0)
    })?;
    if let Some(count) = counted {
        return Ok(Hit::Counted { count });
    }
    let last = tx.query_opt(LAST, params![key], |row| row.get::<Millis>(0))?.unwrap_or(now);
    Ok(Hit::Refused { retry_at: last.plus(rule.window) })
}

/// As [`hit_in`], but the count ends one window after its first hit, however often it is hit meanwhile.
pub fn hit_from_first_in(tx: &mut Tx<'_>, key: &str, rule: Rule, now: Millis) -> Result<Hit, Error> {
    let values = params![key, now, now.plus(rule.window), rule.max];
    if let Some(count) = tx.query_opt(HIT_FROM_FIRST, values, |row| row.get::<i64>(0))? {
        return Ok(Hit::Counted { count });
    }
    let end = tx.query_opt(END, params![key], |row| row.get::<Millis>(0))?;
    Ok(Hit::Refused { retry_at: end.unwrap_or(now) })
}

#[derive(Clone)]
pub struct Counters {
    place: Place,
    store: Store,
    local: Arc<Mutex<Local>>,
}

#[derive(Clone)]
enum Place {
    Process,
    Store,
    Redis(Box<Redis>),
}

impl Counters {
    /// `redis_url` may be empty.
    pub fn open(store: &Store, redis_url: &str) -> Result<Counters, Error> {
        let place = if !redis_url.is_empty() {
            Place::Redis(Box::new(Redis::new(redis_url)?))
        } else if store.engine() == Engine::Postgres {
            Place::Store
        } else {
            Place::Process
        };
        Ok(Counters { place, store: store.clone(), local: Arc::default() })
    }

    pub async fn hit(&self, key: &str, rule: Rule, now: Millis) -> Result<Hit, Error> {
        match &self.place {
            Place::Process => Ok(self.hit_local(key, rule, now)),
            Place::Store => {
                let key = key.to_string();
                self.store.write(move |tx| hit_in(tx, &key, rule, now)).await
            }
            Place::Redis(redis) if redis.may_be_asked() => match redis.hit(key, rule, now).await {
                Ok(hit) => Ok(hit),
                Err(error) => {
                    tracing::warn!(%error, "Redis does not count; this node counts for itself");
                    Ok(self.hit_local(key, rule, now))
                }
            },
            Place::Redis(_) => Ok(self.hit_local(key, rule, now)),
        }
    }

    fn hit_local(&self, key: &str, rule: Rule, now: Millis) -> Hit {
        self.local().hit(key, rule, now)
    }

    fn local(&self) -> MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Whether Redis answers; `None` when there is none.
    pub async fn redis_answers(&self) -> Option<bool> {
        let Place::Redis(redis) = &self.place else { return None };
        Some(redis.ping().await.is_ok())
    }

    /// Deletes counters of the store whose time is over, some at a time; true when more may be left.
    pub fn sweep_in(tx: &mut Tx<'_>, now: Millis) -> Result<bool, Error> {
        Ok(tx.execute(SWEEP, params![now])? >= 1_000)
    }
}

#[derive(Default)]
struct Local {
    counts: HashMap<String, (i64, Millis, i64)>,
    budgets: HashMap<String, Spent>,
}

impl Local {
    fn hit(&mut self, key: &str, rule: Rule, now: Millis) -> Hit {
        if let Some((count, last, window)) = self.counts.get_mut(key) {
            if last.plus(rule.window) <= now {
                *count = 0;
            }
            if *count >= rule.max {
                return Hit::Refused { retry_at: last.plus(rule.window) };
            }
            (*count, *last, *window) = (*count + 1, now, rule.window);
            return Hit::Counted { count: *count };
        }
        if self.counts.len() >= LOCAL_KEYS {
            self.make_room(now);
        }
        if rule.max < 1 {
            return Hit::Refused { retry_at: now.plus(rule.window) };
        }
        self.counts.insert(key.to_string(), (1, now, rule.window));
        Hit::Counted { count: 1 }
    }

    /// Drops what has ended, and the older half of the rest when that is not enough.
    fn make_room(&mut self, now: Millis) {
        self.counts.retain(|_, (_, last, window)| last.plus(*window) > now);
        if self.counts.len() < LOCAL_KEYS * 3 / 4 {
            return;
        }
        let mut times: Vec<Millis> = self.counts.values().map(|&(_, last, _)| last).collect();
        let middle = times.len() / 2;
        let (_, &mut median, _) = times.select_nth_unstable(middle);
        let mut excess = self.counts.len() / 2;
        self.counts.retain(|_, (_, last, _)| {
            let drop = *last <= median && excess > 0;
            excess -= usize::from(drop);
            !drop
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { window: 10_000, max: 3 };

    #[test]
    fn the_count_restarts_after_the_last_counted_hit_is_old() {
        let mut local = Local::default();
        for count in 1..=3 {
            assert_eq!(local.hit("a", RULE, Millis(count * 1_000)), Hit::Counted { count });
        }
        assert_eq!(local.hit("a", RULE, Millis(12_999)), Hit::Refused { retry_at: Millis(13_000) });
        assert_eq!(local.hit("b", RULE, Millis(12_999)), Hit::Counted { count: 1 });
        assert_eq!(local.hit("a", RULE, Millis(13_000)), Hit::Counted { count: 1 });
    }

    #[test]
    fn a_flood_of_keys_is_bounded_and_drops_the_oldest() {
        let mut local = Local::default();
        for number in 0..(LOCAL_KEYS as i64 + 10) {
            local.hit(&format!("key-{number}"), Rule { window: i64::MAX / 4, max: 3 }, Millis(number));
        }
        assert!(local.counts.len() <= LOCAL_KEYS);
        assert!(local.counts.contains_key(&format!("key-{}", LOCAL_KEYS + 9)));
        assert!(!local.counts.contains_key("key-0"));
    }
}
