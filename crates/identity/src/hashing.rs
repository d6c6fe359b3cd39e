//! The bounded pool that hashes passwords, so that a storm of sign-ins cannot starve session checks: one thread a core,
//! each at low priority with memory of its own, a short queue, and a refusal when it is full.

use crate::passwords::{self, Workspace};
use crossbeam_channel::{Receiver, Sender, bounded};
use kernel::{Secret, random};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::oneshot;

const QUEUE_PER_THREAD: usize = 32;
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
}

impl HashPool {
    pub fn start(threads: usize) -> std::io::Result<HashPool> {
        let (tasks, waiting) = bounded(threads.max(1) * QUEUE_PER_THREAD);
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
        Ok(HashPool { tasks, done })
    }

    pub async fn hash(&self, password: Secret<String>) -> Result<String, Busy> {
        let (answer, wait) = oneshot::channel();
        self.tasks.try_send(Task::Hash { password, answer }).map_err(|_| Busy)?;
        wait.await.map_err(|_| Busy)
    }

    /// Checks a password; `None` for a user or a password that does not exist costs the same and never matches.
    pub async fn check(&self, password: Secret<String>, stored: Option<String>) -> Result<Checked, Busy> {
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
    let mut workspace = Workspace::new();
    while let Ok(task) = tasks.recv() {
        done.fetch_add(1, Ordering::Relaxed);
        match task {
            Task::Hash { password, answer } => {
                // Nobody waits any more: the connection is gone.
                if !answer.is_closed() {
                    let _ = answer.send(passwords::hash(
                        password.expose(),
                        &mut workspace,
                        &mut random::secure(),
                    ));
                }
            }
            Task::Check { password, stored, answer } => {
                if !answer.is_closed() {
                    let _ = answer.send(check(&password, stored.as_deref(), decoy, &mut workspace));
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
