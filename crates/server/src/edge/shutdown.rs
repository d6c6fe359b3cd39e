//! The wish to stop, told to everybody at once.

use kernel::Stopwatch;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;

/// Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Shutdown(Arc<Inner>);

#[derive(Default)]
struct Inner {
    since: OnceLock<Stopwatch>,
    begun: Notify,
}

impl Shutdown {
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// From now on nothing new is taken in. A second call changes nothing.
    pub fn begin(&self) {
        let _ = self.0.since.set(Stopwatch::start());
        self.0.begun.notify_waiters();
    }

    pub fn has_begun(&self) -> bool {
        self.0.since.get().is_some()
    }

    /// Resolves when [`Shutdown::begin`] is or was called.
    pub async fn begun(&self) {
        let mut notified = pin!(self.0.begun.notified());
        // Listening before looking: a begin between the two is not missed.
        notified.as_mut().enable();
        if !self.has_begun() {
            notified.await;
        }
    }

    /// How long ago it began; `None` before.
    pub fn elapsed(&self) -> Option<Duration> {
        self.0.since.get().map(Stopwatch::elapsed)
    }
}
