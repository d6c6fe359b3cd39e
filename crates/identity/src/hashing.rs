//! The bounded pool that hashes passwords, so that a storm of sign-ins cannot starve session checks: one thread a core,
//! each at low priority with memory of its own, a short queue, and a refusal when it is full.

use crate::passwords::{self, Workspace};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use kernel::{Secret, random};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

const QUEUE_PER_THREAD: usize = 32;
/// Attempts for one address that are judged at once, and that wait for their turn. Every attempt is counted before it is
/// judged and a right one gives the count back; without turns a person's eleven devices, signing in at the same moment,
/// would look like eleven guesses.
const TURNS_AT_ONCE: usize = 4;
const TURNS_WAITING: usize = 64;
/// A thread without work for this long gives its 19 MiB back.
const REST: Duration = Duration::from_secs(5);
/// Added to the threads' niceness: the scheduler prefers every request to them.
const NICENESS: i32 = 10;

/// Too many passwords are waiting; the caller answers 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked")]
pub struct Busy;

/// The outcome of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub matches: bool,
    /// A better hash of the same password, when the stored one is outdated.
    pub better: Option<String>,
}

enum Task {
    Hash { password: Secret<String>, answer: oneshot::Sender<String> },
    Check { password: Secret<String>, stored: Option<String>, answer: oneshot::Sender<Checked> },
}

#[derive(Clone)]
pub struct HashPool {
    tasks: Sender<Task>,
    done: Arc<AtomicU64>,
    /// One for each password that may be hashed or wait: who holds one is never turned away by the queue.
    slots: Arc<Semaphore>,
    turns: Arc<Mutex<HashMap<String, Line>>>,
}

/// Who has a turn for one address, and how many came.
struct Line {
    turns: Arc<Semaphore>,
    present: usize,
}

/// One's turn to be judged, with a place in the queue; the next one's when this is dropped. It is taken before the
/// attempt is counted: a request that is turned away because the server is busy was no guess.
pub struct Turn {
    pool: HashPool,
    subject: String,
    permit: Option<OwnedSemaphorePermit>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.permit = None;
        let mut lines = self.pool.lines();
        if let Some(line) = lines.get_mut(&self.subject) {
            line.present -= 1;
            if line.present == 0 {
                lines.remove(&self.subject);
            }
        }
    }
}

impl HashPool {
    pub fn start(threads: usize) -> std::io::Result<HashPool> {
        let places = threads.max(1) * (QUEUE_PER_THREAD + 1);
        let (tasks, waiting) = bounded(places);
        let done = Arc::new(AtomicU64::new(0));
        // What an unknown user's password is compared with, so that it costs what a known one's does.
        let decoy: Arc<str> =
            passwords::hash("no user has this password", &mut Workspace::new(), &mut random::secure()).into();
        for number in 0..threads.max(1) {
            let (waiting, done, decoy) = (waiting.clone(), done.clone(), decoy.clone());
            std::thread::Builder::new()
                .name(format!("hash-{number}"))
                .spawn(move || work(&waiting, &done, &decoy))?;
        }
        Ok(HashPool { tasks, done, slots: Arc::new(Semaphore::new(places)), turns: Arc::default() })
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.turns.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits for a turn to judge a password for this address.
    pub async fn turn(&self, subject: &str) -> Result<Turn, Busy> {
        let turns = {
            let mut lines = self.lines();
            let line = lines
                .entry(subject.to_string())
                .or_insert_with(|| Line { turns: Arc::new(Semaphore::new(TURNS_AT_ONCE)), present: 0 });
            if line.present >= TURNS_AT_ONCE + TURNS_WAITING {
                return Err(Busy);
            }
            line.present += 1;
            line.turns.clone()
        };
        // Made before the wait, so that a caller who goes away while waiting leaves the line.
        let mut turn = Turn { pool: self.clone(), subject: subject.to_string(), permit: None, slot: None };
        turn.permit = Some(turns.acquire_owned().await.map_err(|_| Busy)?);
        turn.slot = Some(self.slot()?);
        Ok(turn)
    }

    fn slot(&self) -> Result<OwnedSemaphorePermit, Busy> {
        self.slots.clone().try_acquire_owned().map_err(|_| Busy)
    }

    pub async fn hash(&self, password: Secret<String>) -> Result<String, Busy> {
        let _slot = self.slot()?;
        let (answer, wait) = oneshot::channel();
        self.tasks.try_send(Task::Hash { password, answer }).map_err(|_| Busy)?;
        wait.await.map_err(|_| Busy)
    }

    /// Checks a password; `None` for a user or a password that does not exist costs the same and never matches.
    pub async fn check(
        &self,
        _turn: &Turn,
        password: Secret<String>,
        stored: Option<String>,
    ) -> Result<Checked, Busy> {
        let (answer, wait) = oneshot::channel();
        self.tasks.try_send(Task::Check { password, stored, answer }).map_err(|_| Busy)?;
        wait.await.map_err(|_| Busy)
    }

    /// Passwords hashed so far: tests prove by it that known and unknown addresses cost the same.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    pub fn waiting(&self) -> usize {
        self.tasks.len()
    }
}

fn work(tasks: &Receiver<Task>, done: &AtomicU64, decoy: &str) {
    // Linux keeps niceness per thread. Where it is refused, the pool's size alone has to do.
    let _ = rustix::process::nice(NICENESS);
    let mut kept: Option<Workspace> = None;
    loop {
        let task = match tasks.recv_timeout(REST) {
            Ok(task) => task,
            Err(RecvTimeoutError::Timeout) => {
                kept = None;
                match tasks.recv() {
                    Ok(task) => task,
                    Err(_) => return,
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        done.fetch_add(1, Ordering::Relaxed);
        let workspace = kept.get_or_insert_with(Workspace::new);
        match task {
            Task::Hash { password, answer } => {
                // Nobody waits any more: the connection is gone.
                if !answer.is_closed() {
                    let _ = answer.send(passwords::hash(password.expose(), workspace, &mut random::secure()));
                }
            }
            Task::Check { password, stored, answer } => {
                if !answer.is_closed() {
                    let _ = answer.send(check(&password, stored.as_deref(), decoy, workspace));
                }
            }
        }
    }
}

fn check(password: &Secret<String>, stored: Option<&str>, decoy: &str, workspace: &mut Workspace) -> Checked {
    let matches =
        passwords::verify(password.expose(), stored.unwrap_or(decoy), workspace) && stored.is_some();
    let outdated = matches && stored.is_some_and(passwords::is_outdated);
    let better = outdated.then(|| passwords::hash(password.expose(), workspace, &mut random::secure()));
    Checked { matches, better }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn turns_for_one_address_are_few_and_end_when_dropped() {
        let pool = HashPool::start(1).expect("threads can be started");
        let mut held = Vec::new();
        for _ in 0..TURNS_AT_ONCE {
            held.push(pool.turn("a").await.expect("a free turn"));
        }
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.turn("a").await.is_ok() }
        });
        assert!(pool.turn("b").await.is_ok(), "another address does not wait");
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        held.pop();
        assert!(waiting.await.expect("no panic"));
        drop(held);
        assert!(pool.lines().is_empty(), "nothing is kept of addresses that nobody asks for");
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_refused_and_leavers_make_room() {
        let pool = HashPool::start(1).expect("threads can be started");
        let first = pool.turn("a").await.expect("a free turn");
        let crowd: Vec<_> = (1..TURNS_AT_ONCE + TURNS_WAITING)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let turn = pool.turn("a").await;
                    std::future::pending::<()>().await;
                    drop(turn);
                })
            })
            .collect();
        while pool.lines()["a"].present < TURNS_AT_ONCE + TURNS_WAITING {
            tokio::task::yield_now().await;
        }
        assert!(pool.turn("a").await.is_err());
        for caller in crowd {
            caller.abort();
            let _ = caller.await;
        }
        drop(first);
        assert!(pool.lines().is_empty());
    }
}
