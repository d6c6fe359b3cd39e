//! What the ledger needs although nobody asks: grants and holds that have ended are settled, and everything is verified
//! again and again, at a pace that nobody notices. What is found goes to the log and to `/metrics`.

use credits::Ledger;
use credits::verify::{self, Report};
use kernel::{Clock as _, Millis, SystemClock, Vault, random};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use store::Store;

/// With jitter at most 30 seconds: what has ended is in the entries within a minute.
const SETTLE_PAUSE: Duration = Duration::from_secs(20);
/// The first walk begins when the start is long over.
const FIRST_VERIFY: Duration = Duration::from_secs(300);
const VERIFY_PAUSE: Duration = Duration::from_secs(3_600);
/// Between two snapshots: the walk takes about a tenth of one core.
const REST: Duration = Duration::from_millis(50);
/// So many problems are told one by one in the log.
const TOLD: usize = 20;

/// What the last walk that came to its end has found.
#[derive(Default)]
pub struct LastWalk {
    problems: AtomicU64,
    at: AtomicI64,
}

impl LastWalk {
    pub fn problems(&self) -> u64 {
        self.problems.load(Ordering::Relaxed)
    }

    /// In seconds since 1970; 0 before the first.
    pub fn at_seconds(&self) -> i64 {
        self.at.load(Ordering::Relaxed) / kernel::time::SECOND
    }

    fn note(&self, report: &Report, now: Millis) {
        self.problems.store(report.problems.len() as u64, Ordering::Relaxed);
        self.at.store(now.0, Ordering::Relaxed);
        for problem in report.problems.iter().take(TOLD) {
            let (owner, unit) = (problem.owner.as_deref(), problem.unit.as_deref());
            tracing::error!(owner, unit, seq = problem.seq, what = %problem.what, "the ledger does not add up");
        }
    }
}

/// Runs until the process ends.
pub async fn run(store: Store, vault: Vault, ledger: Ledger, last: Arc<LastWalk>) {
    tokio::join!(settle(ledger), verify(store, vault, last));
}

/// Nodes that started together do not wake up together.
async fn pause(time: Duration) {
    let factor = random::jitter(&mut random::secure());
    tokio::time::sleep(time.mul_f64(factor)).await;
}

async fn settle(ledger: Ledger) {
    loop {
        pause(SETTLE_PAUSE).await;
        if let Err(error) = ledger.settle_due().await {
            tracing::warn!(%error, "ended grants and holds were not all settled; the next round goes on");
        }
    }
}

async fn verify(store: Store, vault: Vault, last: Arc<LastWalk>) {
    pause(FIRST_VERIFY).await;
    loop {
        match verify::run(&store, &vault, SystemClock.now(), REST, |_, _| {}).await {
            Ok(report) => last.note(&report, SystemClock.now()),
            Err(error) => tracing::warn!(%error, "the ledger was not verified; the next round tries again"),
        }
        pause(VERIFY_PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use credits::verify::Problem;

    #[test]
    fn the_last_walk_says_what_was_found_and_when() {
        let last = LastWalk::default();
        assert_eq!((last.problems(), last.at_seconds()), (0, 0));
        let problem = Problem { owner: None, unit: None, seq: None, what: "less than there was".into() };
        let mut report = Report { problems: vec![problem], ..Report::default() };
        last.note(&report, Millis(5_000));
        assert_eq!((last.problems(), last.at_seconds()), (1, 5));
        report.problems.clear();
        last.note(&report, Millis(9_000));
        assert_eq!((last.problems(), last.at_seconds()), (0, 9));
    }
}
