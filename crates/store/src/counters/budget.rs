//! Budgets: what somebody may do so many times until one window after the first time.
//!
//! Unlike a rate this is a promise that has to outlive a restart, so it is kept in Redis when there is one, else in the
//! database on both engines. One taking draws on several budgets at once, on all or on none.

use super::link::Redis;
use super::{Counters, HIT_FROM_FIRST, LOCAL_KEYS, Local, Place};
use crate::error::Error;
use crate::params;
use crate::tx::{Row, Tx};
use kernel::Millis;
use redis::Script;
use std::sync::LazyLock;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    pub key: String,
    /// How often; less than once is never.
    pub max: i64,
}

/// What of a budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    pub count: i64,
    /// When it begins anew; `None` before the first time.
    pub ends_at: Option<Millis>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// What is used up now, in the order of the budgets.
    Counted(Vec<Spent>),
    /// Nothing was counted, for this one of the budgets is used up.
    Refused { at: usize, spent: Spent },
}

/// What to do while Redis, which holds the counts, does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WithoutRedis {
    #[default]
    Refuse,
    /// Each node counts in its memory.
    CountHere,
}

const FOUND: &str = "SELECT key, count, expires_at FROM counters WHERE key IN ($1)";

/// All keys are read before any is counted. The end is set by the first time and kept; Redis forgets a key at its end.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local now, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local counts, ends = {}, {}
for i, key in ipairs(KEYS) do
  local found = redis.call('HMGET', key, 'count', 'ends')
  counts[i], ends[i] = tonumber(found[1]) or 0, tonumber(found[2]) or 0
  if ends[i] <= now then counts[i], ends[i] = 0, now + window end
  if counts[i] >= tonumber(ARGV[2 + i]) then return {0, i - 1, counts[i], ends[i]} end
end
local answer = {1}
for i, key in ipairs(KEYS) do
  redis.call('HSET', key, 'count', counts[i] + 1, 'ends', string.format('%.0f', ends[i]))
  redis.call('PEXPIRE', key, string.format('%.0f', ends[i] - now))
  table.insert(answer, counts[i] + 1)
  table.insert(answer, ends[i])
end
return answer",
    )
});
static LOOK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local answer = {}
for i, key in ipairs(KEYS) do
  local found = redis.call('HMGET', key, 'count', 'ends')
  table.insert(answer, tonumber(found[1]) or 0)
  table.insert(answer, tonumber(found[2]) or 0)
end
return answer",
    )
});

impl Counters {
    /// Takes one from each budget, or none from any.
    pub async fn take(
        &self,
        budgets: Vec<Budget>,
        window: i64,
        now: Millis,
        without: WithoutRedis,
    ) -> Result<Taken, Error> {
        if let Some(at) = budgets.iter().position(|budget| budget.max < 1) {
            return Ok(Taken::Refused { at, spent: Spent::default() });
        }
        let Place::Redis(redis) = &self.place else {
            let run = move |tx: &mut Tx<'_>| take_in(tx, &budgets, window, now);
            return match self.store.write(run).await {
                Ok(spent) => Ok(Taken::Counted(spent)),
                Err(Stop::UsedUp { at, spent }) => Ok(Taken::Refused { at, spent }),
                Err(Stop::Store(error)) => Err(error),
            };
        };
        if let Some(answer) = asked(redis, take_from(redis, &budgets, window, now)).await {
            return Ok(answer);
        }
        match without {
            WithoutRedis::Refuse => Err(lost()),
            WithoutRedis::CountHere => self.local().take(&budgets, window, now),
        }
    }

    /// What is used up of the budgets with these keys.
    pub async fn spent(
        &self,
        keys: Vec<String>,
        now: Millis,
        without: WithoutRedis,
    ) -> Result<Vec<Spent>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let Place::Redis(redis) = &self.place else {
            return self.store.read(move |tx| spent_in(tx, &keys, now)).await;
        };
        if let Some(answer) = asked(redis, look_at(redis, &keys, now)).await {
            return Ok(answer);
        }
        match without {
            WithoutRedis::Refuse => Err(lost()),
            WithoutRedis::CountHere => {
                let local = self.local();
                Ok(keys.iter().map(|key| local.spent(key, now)).collect())
            }
        }
    }
}

fn lost() -> Error {
    Error::Unavailable("Redis, which holds these counts, does not answer".into())
}

impl Spent {
    /// As it stands somewhere; over, when its end has come.
    fn at(count: i64, ends_at: Millis, now: Millis) -> Spent {
        if ends_at <= now { Spent::default() } else { Spent { count, ends_at: Some(ends_at) } }
    }
}

// ---- in the store

/// Ends the transaction, so that what was counted before is undone.
enum Stop {
    UsedUp { at: usize, spent: Spent },
    Store(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Store(error)
    }
}

fn take_in(tx: &mut Tx<'_>, budgets: &[Budget], window: i64, now: Millis) -> Result<Vec<Spent>, Stop> {
    let mut taken = Vec::with_capacity(budgets.len());
    for (at, Budget { key, max }) in budgets.iter().enumerate() {
        let read = |row: &Row<'_>| Ok(Spent { count: row.get(0)?, ends_at: Some(row.get(1)?) });
        match tx.query_opt(HIT_FROM_FIRST, params![key, now, now.plus(window), *max], read)? {
            Some(spent) => taken.push(spent),
            None => {
                let spent = spent_in(tx, std::slice::from_ref(key), now)?;
                return Err(Stop::UsedUp { at, spent: spent[0] });
            }
        }
    }
    Ok(taken)
}

fn spent_in(tx: &mut Tx<'_>, keys: &[String], now: Millis) -> Result<Vec<Spent>, Error> {
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = tx.query_keys(FOUND, &asked, |row| {
        Ok((row.get::<String>(0)?, Spent::at(row.get(1)?, row.get(2)?, now)))
    })?;
    let of = |key: &String| found.iter().find(|(known, _)| known == key).map(|(_, spent)| *spent);
    Ok(keys.iter().map(|key| of(key).unwrap_or_default()).collect())
}

// ---- in Redis

/// The answer, unless Redis gives none.
async fn asked<T>(redis: &Redis, call: impl Future<Output = Result<T, String>>) -> Option<T> {
    if !redis.may_be_asked() {
        return None;
    }
    call.await.inspect_err(|error| tracing::warn!(%error, "Redis does not count budgets")).ok()
}

async fn take_from(redis: &Redis, budgets: &[Budget], window: i64, now: Millis) -> Result<Taken, String> {
    let keys: Vec<&str> = budgets.iter().map(|budget| budget.key.as_str()).collect();
    let numbers: Vec<i64> = [now.0, window].into_iter().chain(budgets.iter().map(|b| b.max)).collect();
    let answer: Vec<i64> = redis.run(&TAKE, &keys, &numbers).await?;
    match answer.split_first() {
        Some((1, spent)) if spent.len() == 2 * budgets.len() => Ok(Taken::Counted(pairs(spent, now))),
        Some((0, &[at, count, ends_at])) if (0..budgets.len() as i64).contains(&at) => {
            Ok(Taken::Refused { at: at as usize, spent: Spent::at(count, Millis(ends_at), now) })
        }
        _ => Err(format!("an answer of {} numbers", answer.len())),
    }
}

async fn look_at(redis: &Redis, keys: &[String], now: Millis) -> Result<Vec<Spent>, String> {
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    let answer: Vec<i64> = redis.run(&LOOK, &asked, &[]).await?;
    match answer.len() == 2 * keys.len() {
        true => Ok(pairs(&answer, now)),
        false => Err(format!("an answer of {} numbers", answer.len())),
    }
}

fn pairs(numbers: &[i64], now: Millis) -> Vec<Spent> {
    numbers.chunks_exact(2).map(|pair| Spent::at(pair[0], Millis(pair[1]), now)).collect()
}

// ---- in this process, while Redis is lost

impl Local {
    fn spent(&self, key: &str, now: Millis) -> Spent {
        match self.budgets.get(key) {
            Some(Spent { count, ends_at: Some(ends_at) }) => Spent::at(*count, *ends_at, now),
            _ => Spent::default(),
        }
    }

    fn take(&mut self, budgets: &[Budget], window: i64, now: Millis) -> Result<Taken, Error> {
        let mut taken = Vec::with_capacity(budgets.len());
        for (at, Budget { key, max }) in budgets.iter().enumerate() {
            let spent = self.spent(key, now);
            if spent.count >= *max {
                return Ok(Taken::Refused { at, spent });
            }
            let ends_at = spent.ends_at.unwrap_or(now.plus(window));
            taken.push(Spent { count: spent.count + 1, ends_at: Some(ends_at) });
        }
        if self.budgets.len() + budgets.len() > LOCAL_KEYS {
            self.budgets.retain(|_, spent| spent.ends_at.is_some_and(|end| end > now));
        }
        // One that is dropped to make room could be taken from again, so there is no room.
        if self.budgets.len() + budgets.len() > LOCAL_KEYS {
            return Err(lost());
        }
        self.budgets.extend(budgets.iter().map(|budget| budget.key.clone()).zip(taken.iter().copied()));
        Ok(Taken::Counted(taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budgets(list: &[(&str, i64)]) -> Vec<Budget> {
        list.iter().map(|(key, max)| Budget { key: (*key).into(), max: *max }).collect()
    }

    #[test]
    fn what_is_counted_here_comes_from_all_budgets_or_from_none() {
        let mut local = Local::default();
        let mut take = |list: &[(&str, i64)], now| local.take(&budgets(list), 100, Millis(now)).unwrap();
        let spent = |count, ends_at| Spent { count, ends_at: Some(Millis(ends_at)) };
        assert_eq!(take(&[("a", 2), ("x", 3)], 0), Taken::Counted(vec![spent(1, 100), spent(1, 100)]));
        assert_eq!(take(&[("b", 2), ("x", 3)], 10), Taken::Counted(vec![spent(1, 110), spent(2, 100)]));
        assert_eq!(take(&[("b", 2), ("x", 3)], 20), Taken::Counted(vec![spent(2, 110), spent(3, 100)]));
        assert_eq!(take(&[("a", 2), ("x", 3)], 30), Taken::Refused { at: 1, spent: spent(3, 100) });
        assert_eq!(take(&[("a", 2), ("y", 3)], 99), Taken::Counted(vec![spent(2, 100), spent(1, 199)]));
        assert_eq!(take(&[("a", 2), ("y", 3)], 99), Taken::Refused { at: 0, spent: spent(2, 100) });
        assert_eq!(take(&[("a", 2), ("y", 3)], 100), Taken::Counted(vec![spent(1, 200), spent(2, 199)]));
    }

    #[test]
    fn a_flood_of_keys_is_refused_until_there_is_room_and_frees_nobody() {
        let mut local = Local::default();
        let mut refused = 0;
        for number in 0..(LOCAL_KEYS as i64 + 10) {
            let key = format!("key-{number}");
            refused += i64::from(local.take(&budgets(&[(&key, 1)]), 1_000, Millis(0)).is_err());
        }
        assert_eq!((local.budgets.len(), refused), (LOCAL_KEYS, 10));
        let again = local.take(&budgets(&[("key-0", 1)]), 1_000, Millis(1));
        assert!(matches!(again, Ok(Taken::Refused { .. })));
        assert!(local.take(&budgets(&[("late", 1)]), 1_000, Millis(1_000)).is_ok());
        assert_eq!(local.budgets.len(), 1);
    }
}
