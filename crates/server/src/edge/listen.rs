//! Taking connections in: the accept loop, the bound on their number, and the orderly end.

use super::connection::{drive, send_off};
use super::{Edge, Refusal, Shutdown};
use axum::Router;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Surplus connections that are held for a moment so that their 503 is not lost in a reset; more are cut at once.
const SEND_OFFS: usize = 256;
/// Connections taken from the kernel's queue after the wish to stop; they were opened before it.
const LAST_ACCEPTS: usize = 1_024;
const SHORTEST_BACK_OFF: Duration = Duration::from_millis(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// What the connections of one [`serve`] share.
pub(crate) struct Shared {
    pub(crate) edge: Arc<Edge>,
    pub(crate) router: Router,
    pub(crate) shutdown: Shutdown,
    pub(crate) http: hyper::server::conn::http1::Builder,
    open: AtomicUsize,
    sending_off: AtomicUsize,
    empty: Notify,
}

/// How [`serve`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that had not ended when the time for it was over.
    pub cut: usize,
}

/// A connection's place among those that may be open; given back when dropped.
pub(crate) struct Seat {
    shared: Arc<Shared>,
    kind: SeatKind,
}

#[derive(Clone, Copy)]
enum SeatKind {
    Open,
    SendingOff,
}

/// Answers on all listeners until `shutdown` begins, then lets requests finish, at most for `limits.drain_ms`.
pub async fn serve(
    listeners: Vec<TcpListener>,
    router: Router,
    edge: Arc<Edge>,
    shutdown: Shutdown,
) -> Drained {
    let http = super::connection::http_builder(&edge.limits);
    let drain = Duration::from_millis(edge.limits.drain_ms);
    let shared = Arc::new(Shared {
        edge,
        router,
        shutdown,
        http,
        open: AtomicUsize::new(0),
        sending_off: AtomicUsize::new(0),
        empty: Notify::new(),
    });
    let mut loops = JoinSet::new();
    for listener in listeners {
        loops.spawn(accept(listener, shared.clone()));
    }
    while loops.join_next().await.is_some() {}
    let all_gone = async {
        while shared.open.load(Ordering::Acquire) > 0 {
            shared.empty.notified().await;
        }
    };
    // Connections end themselves when the time is over; the rest is for those whose handler never gives way.
    let _ =
        tokio::time::timeout(drain.saturating_sub(shared.shutdown.elapsed().unwrap_or_default()), all_gone)
            .await;
    Drained { cut: shared.open.load(Ordering::Acquire) }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut begun = pin!(shared.shutdown.begun());
    let mut back_off = Duration::ZERO;
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut begun => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                back_off = Duration::ZERO;
                take_in(&shared, stream, peer.ip());
            }
            // The client went away before it was taken in: says nothing about the next one.
            Err(error) if concerns_one_client(&error) => shared.edge.metrics.accept_failed(),
            Err(error) => {
                shared.edge.metrics.accept_failed();
                if back_off.is_zero() {
                    tracing::warn!(target: "http", %error, "connections cannot be taken in; trying again");
                }
                back_off = next_back_off(back_off);
                tokio::select! {
                    () = &mut begun => break,
                    () = tokio::time::sleep(back_off) => {}
                }
            }
        }
    }
    for _ in 0..LAST_ACCEPTS {
        match poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await {
            Poll::Ready(Ok((stream, peer))) => take_in(&shared, stream, peer.ip()),
            _ => break,
        }
    }
}

fn take_in(shared: &Arc<Shared>, stream: TcpStream, peer: IpAddr) {
    // Answers are written whole; waiting to fill packets would only delay them.
    let _ = stream.set_nodelay(true);
    let limit = shared.edge.limits.max_connections;
    if let Some(seat) = Seat::take(shared, SeatKind::Open, limit) {
        tokio::spawn(drive(shared.clone(), stream, peer, seat));
        return;
    }
    shared.edge.metrics.refused(Refusal::TooManyConnections);
    if let Some(seat) = Seat::take(shared, SeatKind::SendingOff, SEND_OFFS) {
        let shared = shared.clone();
        tokio::spawn(async move {
            let _seat = seat;
            send_off(&shared, stream, Some(Refusal::TooManyConnections)).await;
        });
    }
}

fn concerns_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | TimedOut)
}

/// When file descriptors run out, asking again at once would only burn the time that ends connections need.
fn next_back_off(last: Duration) -> Duration {
    (last * 2).clamp(SHORTEST_BACK_OFF, LONGEST_BACK_OFF)
}

impl Seat {
    fn take(shared: &Arc<Shared>, kind: SeatKind, limit: usize) -> Option<Seat> {
        let taken = Seat::counter(shared, kind);
        let room =
            taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| (open < limit).then(|| open + 1));
        room.ok()?;
        if matches!(kind, SeatKind::Open) {
            shared.edge.metrics.connection_opened();
        }
        Some(Seat { shared: shared.clone(), kind })
    }

    fn counter(shared: &Shared, kind: SeatKind) -> &AtomicUsize {
        match kind {
            SeatKind::Open => &shared.open,
            SeatKind::SendingOff => &shared.sending_off,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let before = Seat::counter(&self.shared, self.kind).fetch_sub(1, Ordering::AcqRel);
        if matches!(self.kind, SeatKind::Open) {
            self.shared.edge.metrics.connection_closed();
            if before == 1 {
                self.shared.empty.notify_one();
            }
        }
    }
}

impl Shared {
    /// Little room is left: connections that do nothing must go sooner.
    pub(crate) fn is_crowded(&self) -> bool {
        self.open.load(Ordering::Relaxed) > self.edge.limits.max_connections / 4 * 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_of_descriptors_slows_down_and_a_client_that_left_does_not() {
        let out_of_descriptors = io::Error::from_raw_os_error(24);
        assert!(!concerns_one_client(&out_of_descriptors));
        assert!(concerns_one_client(&io::ErrorKind::ConnectionAborted.into()));
        let mut pause = Duration::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            pause = next_back_off(pause);
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1_000, 1_000]);
    }
}
