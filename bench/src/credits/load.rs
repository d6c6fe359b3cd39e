//! Callers that debit one credit with a fresh key and wait for the answer, in this process.

use crate::credits::options::Accounts;
use crate::latency::Latencies;
use crate::people::{self, Dice};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

pub const OWNERS: u32 = 10_000;
/// Of every owner: no run comes to its end.
pub const PLENTY: i64 = 1_000_000_000_000;

pub fn owners() -> Arc<[String]> {
    (0..OWNERS).map(people::user_id).collect()
}

/// Whose account each debit is on, and under which key.
pub struct Draw {
    owners: Arc<[String]>,
    among: u32,
    dice: Dice,
}

impl Draw {
    /// `seed` differs from all that were used on the same database.
    pub fn new(owners: &Arc<[String]>, accounts: Accounts, seed: u64) -> Draw {
        let among = match accounts {
            Accounts::Hot => 1,
            Accounts::Random => owners.len() as u32,
        };
        // Seeds follow one another; their dice must not.
        Draw { owners: owners.clone(), among, dice: Dice(Dice(seed).roll()) }
    }

    pub fn owner(&mut self) -> &str {
        let number = self.number();
        &self.owners[number]
    }

    /// The owner's place in the list.
    pub fn number(&mut self) -> usize {
        self.dice.below(self.among) as usize
    }

    /// In the form that most clients make.
    pub fn key(&mut self) -> String {
        let (one, two) = (self.dice.roll(), self.dice.roll());
        format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            one >> 32,
            one >> 16 & 0xffff,
            one & 0xfff,
            two >> 48 & 0xfff,
            two & 0xffff_ffff_ffff
        )
    }
}

pub struct Load {
    pub accounts: Accounts,
    pub callers: u32,
    /// Load that is not counted, at the beginning.
    pub warm_up: Duration,
    pub measured: Duration,
    /// Differs for every load of a run.
    pub number: u64,
}

impl Load {
    pub fn draw(&self, owners: &Arc<[String]>, caller: u32) -> Draw {
        // 256 callers at most.
        Draw::new(owners, self.accounts, self.number << 8 | u64::from(caller))
    }
}

pub struct Tally {
    pub latencies: Latencies,
    pub measured: Duration,
}

impl Tally {
    pub fn per_second(&self) -> f64 {
        self.latencies.count() as f64 / self.measured.as_secs_f64()
    }
}

/// One side's way to make a debit; anything but a debit that was made is an error.
pub trait Caller: Send + 'static {
    fn debit(&mut self, owner: &str, key: String) -> impl Future<Output = Result<(), String>> + Send;
}

/// Every caller begins its next debit as soon as the last one is answered. A debit counts when it is answered within
/// the measured time.
pub fn closed_loop<C: Caller>(
    runtime: &Runtime,
    load: &Load,
    owners: &Arc<[String]>,
    callers: Vec<C>,
) -> Result<Tally, String> {
    let begin = Instant::now() + load.warm_up;
    let end = begin + load.measured;
    let mut tasks = JoinSet::new();
    for (number, mut caller) in (0..).zip(callers) {
        let mut draw = load.draw(owners, number);
        let task = async move {
            let mut latencies = Latencies::with_room_for(100_000);
            loop {
                let since = Instant::now();
                if since >= end {
                    return Ok::<Latencies, String>(latencies);
                }
                let key = draw.key();
                caller.debit(draw.owner(), key).await?;
                let now = Instant::now();
                if (begin..end).contains(&now) {
                    latencies.record(now - since);
                }
            }
        };
        tasks.spawn_on(task, runtime.handle());
    }
    let mut latencies = Latencies::default();
    runtime.block_on(async {
        while let Some(ended) = tasks.join_next().await {
            latencies.append(ended.map_err(|error| format!("a caller ended: {error}"))??);
        }
        Ok::<(), String>(())
    })?;
    Ok(Tally { latencies, measured: load.measured })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_are_fresh_and_look_like_uuids() {
        let owners: Arc<[String]> = (0..50).map(|number| number.to_string()).collect();
        let (mut seen, mut met) = (HashSet::new(), HashSet::new());
        for seed in 0..20 {
            let mut draw = Draw::new(&owners, Accounts::Random, seed);
            for _ in 0..100 {
                met.insert(draw.owner().to_owned());
                let key = draw.key();
                assert_eq!((key.len(), key.matches('-').count()), (36, 4), "{key}");
                assert!(seen.insert(key));
            }
        }
        assert_eq!(met.len(), 50);
        assert_eq!(Draw::new(&owners, Accounts::Hot, 7).owner(), "0");
    }
}
