//! One connection from its first byte to its last.
//!
//! hyper parses and frames; what it does not offer stands here. It closes an idle connection by the same clock as one
//! that sends its head a byte at a time, answers heads it cannot parse with a bare status line, and keeps 16 KiB of
//! buffers for as long as a connection lives. So the socket is watched from below ([`Watched`]) and requests from above
//! ([`Turn`]); both note in [`Wire`] what they see, and [`talk`] decides: a head has `header_read_ms`, an idle connection
//! [`IDLE`], and after [`REST`] without a request it gives hyper and its buffers back and only the socket stays.

use super::listen::{Seat, Shared};
use super::passage;
use super::{Dialect, Refusal};
use crate::settings::Limits;
use axum::body::{Body, Bytes};
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kernel::Stopwatch;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

/// A connection without a request is kept this long: longer than the 60 s after which common load balancers give up
/// theirs, so that it is they who close and no request meets a closing socket.
const IDLE: Duration = Duration::from_secs(300);
/// ... and this long when the process holds nearly as many as it may.
const IDLE_IN_A_CROWD: Duration = Duration::from_secs(10);
/// How often a connection without a request looks whether there is a crowd.
const IDLE_LOOK: Duration = Duration::from_secs(10);
/// How often a connection is looked at; one that has no request then gives its buffers back. Short, since what many
/// connections hold at once is what the process keeps: 10,000 that each asked three times in turn take 10 KiB each with
/// 250 ms, 14 KiB with 1 s; never asked, 1.4 KiB; all at the same moment, 20 KiB. Building anew costs some microseconds.
const REST: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 250 });
/// A client that takes nothing of its answer for so long is gone.
const STALL: Duration = Duration::from_secs(30);
/// After the wish to stop, a kept connection may still send one request that was on its way.
const LAST_REQUEST: Duration = Duration::from_millis(500);
/// How often a connection is looked at while the process stops.
const DRAIN_LOOK: Duration = Duration::from_millis(100);
/// After an answer that ends the connection, what the client still sends is thrown away for so long and so much: closing
/// with unread bytes would reset the connection and may take the answer with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1024 * 1024;
/// An unread body of so many bytes has usually come with its head; hyper throws it away, and the connection is kept.
const SHORT_BODY: u64 = 4 * 1024;

/// hyper's smallest buffers; heads and body pieces do not grow them beyond the size of a head.
pub(crate) fn http_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Heads are timed by `talk`.
    builder.header_read_timeout(None);
    builder.max_header_size(limits.header_bytes).max_buf_size(limits.header_bytes.max(8 * 1024));
    // hyper's own number is 100, kept on the stack; any other costs an allocation for each request.
    if limits.header_count != 100 {
        builder.max_headers(limits.header_count);
    }
    builder
}

/// What is known about a connection right now. All its users run in one task, so the order of the atomics is plain.
#[derive(Default)]
pub(crate) struct Wire {
    /// Requests whose body is still held by a handler, or whose answer's body is not yet with hyper.
    busy: AtomicU32,
    /// hyper has asked for the next request. Until then it may be about to close: resting instead would take the rest
    /// of a refused body for a request.
    asked: AtomicBool,
    /// An answer is with hyper and not yet flushed.
    owed: AtomicBool,
    /// Bytes that came since the last request's head was complete, while no request was being answered.
    head: AtomicU32,
    /// The head's first line is complete.
    line: AtomicBool,
    /// The client does not take what we write.
    blocked: AtomicBool,
    written: AtomicU64,
    /// The status that hyper wanted to answer by itself; 0 for none.
    own_answer: AtomicU16,
    /// The client has said that it sends no more.
    ended: AtomicBool,
    /// The handler has left a long body unread: hyper will close, and the client has to be told.
    unread: AtomicBool,
}

impl Wire {
    fn is_idle(&self) -> bool {
        self.busy.load(Relaxed) == 0
            && self.asked.load(Relaxed)
            && !self.owed.load(Relaxed)
            && !self.blocked.load(Relaxed)
            && self.head.load(Relaxed) == 0
    }

    fn is_reading_head(&self) -> bool {
        self.busy.load(Relaxed) == 0 && self.head.load(Relaxed) > 0
    }

    fn note_read(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            self.ended.store(true, Relaxed);
        } else if self.busy.load(Relaxed) == 0 {
            self.head.fetch_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX), Relaxed);
            if !self.line.load(Relaxed) && bytes.contains(&b'\n') {
                self.line.store(true, Relaxed);
            }
        }
    }

    /// hyper writes although no answer was given to it: its own status line for a head that it cannot parse. It is
    /// kept back, to be answered in our words.
    fn keep_back(&self, bytes: &[u8]) -> bool {
        if self.busy.load(Relaxed) > 0 || self.owed.load(Relaxed) {
            return false;
        }
        let digits = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        self.own_answer.store(digits.and_then(|digits| digits.parse().ok()).unwrap_or(400), Relaxed);
        true
    }

    /// What to say in hyper's place.
    fn refusal(&self) -> Option<Refusal> {
        match self.own_answer.load(Relaxed) {
            0 => None,
            414 => Some(Refusal::UrlTooLong),
            431 if !self.line.load(Relaxed) => Some(Refusal::UrlTooLong),
            431 => Some(Refusal::HeadersTooLarge),
            _ => Some(Refusal::Malformed),
        }
    }
}

/// A request's time between its head and the end of its answer's body.
pub(crate) struct Turn {
    wire: Arc<Wire>,
    shared: Arc<Shared>,
}

impl Turn {
    fn begin(wire: Arc<Wire>, shared: Arc<Shared>) -> Turn {
        wire.busy.fetch_add(1, Relaxed);
        wire.head.store(0, Relaxed);
        wire.line.store(false, Relaxed);
        wire.asked.store(false, Relaxed);
        wire.unread.store(false, Relaxed);
        shared.edge.metrics.request_begun();
        Turn { wire, shared }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.wire.busy.fetch_sub(1, Relaxed);
        self.shared.edge.metrics.request_ended();
    }
}

/// A request's body. Who holds it holds the connection, even after the answer.
pub(crate) struct RequestBody {
    body: Incoming,
    /// None for a request without a body.
    hold: Option<Arc<Wire>>,
    /// Read to its end; with chunks only the reading tells.
    ended: bool,
}

impl RequestBody {
    fn new(body: Incoming, wire: &Arc<Wire>) -> RequestBody {
        let hold = (!body.is_end_stream()).then(|| wire.clone());
        if let Some(wire) = &hold {
            wire.busy.fetch_add(1, Relaxed);
        }
        RequestBody { body, hold, ended: false }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(wire) = &self.hold {
            let short = self.body.size_hint().upper().is_some_and(|left| left <= SHORT_BODY);
            wire.unread.store(!self.ended && !short, Relaxed);
            wire.busy.fetch_sub(1, Relaxed);
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.ended |= frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body that ends the request's turn when hyper has taken the last of it.
pub(crate) struct TurnBody {
    body: Body,
    _turn: Turn,
}

impl HttpBody for TurnBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The socket, and bytes that were read from it before.
struct Watched {
    stream: TcpStream,
    before: Bytes,
    wire: Arc<Wire>,
}

impl Watched {
    /// Notes how a write went.
    fn note_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.wire.blocked.store(written.is_pending(), Relaxed);
        if let Poll::Ready(Ok(bytes)) = &written {
            self.wire.written.fetch_add(*bytes as u64, Relaxed);
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let begin = buffer.filled().len();
        if self.before.is_empty() {
            let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
            if read.is_pending() && self.wire.busy.load(Relaxed) == 0 && !self.wire.owed.load(Relaxed) {
                self.wire.asked.store(true, Relaxed);
            }
            ready!(read)?;
        } else {
            let piece = self.before.len().min(buffer.remaining());
            buffer.put_slice(&self.before.split_to(piece));
        }
        self.wire.note_read(&buffer.filled()[begin..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.wire.keep_back(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_write(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.wire.keep_back(pieces.first().map_or(&[], |piece| piece)) {
            return Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.note_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes the socket only when its own buffer is empty.
        if self.wire.busy.load(Relaxed) == 0 {
            self.wire.owed.store(false, Relaxed);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.wire.refusal().is_some() {
            // Our own words are still to come.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// How a stretch of requests ended.
enum End {
    /// No request for a while; these bytes of the next one are here already.
    Idle(TcpStream, Bytes),
    /// To be told why, then closed.
    Refused(TcpStream, Refusal),
    /// Answered for the last time.
    Over(TcpStream),
    /// Nobody is there any more.
    Gone,
}

pub(crate) async fn drive(shared: Arc<Shared>, mut stream: TcpStream, peer: IpAddr, _seat: Seat) {
    let mut before = Bytes::new();
    loop {
        if before.is_empty() {
            shared.edge.metrics.rest_begun();
            let readable = wait_for_request(&shared, &stream).await;
            shared.edge.metrics.rest_ended();
            if !readable {
                return;
            }
        }
        // In a box, so that an idle connection does not hold the room that a talking one needs.
        match Box::pin(talk(&shared, stream, before, peer)).await {
            End::Idle(idle, begun) => (stream, before) = (idle, begun),
            End::Refused(stream, refusal) => {
                shared.edge.metrics.refused(refusal);
                return send_off(&shared, stream, Some(refusal)).await;
            }
            End::Over(stream) => return send_off(&shared, stream, None).await,
            End::Gone => return,
        }
    }
}

/// Waits without buffers; false when the connection should end.
async fn wait_for_request(shared: &Shared, stream: &TcpStream) -> bool {
    let waited = Stopwatch::start();
    let mut begun = pin!(shared.shutdown.begun());
    let mut stopping = false;
    let mut first = [0];
    // Looking for a byte instead of readiness, which is also reported without one: half of 10,000 silent connections
    // were woken for nothing, and held buffers.
    let mut peeked = pin!(stream.peek(&mut first));
    loop {
        let look = if stopping { DRAIN_LOOK } else { IDLE_LOOK };
        tokio::select! {
            biased;
            found = &mut peeked => return found.is_ok_and(|bytes| bytes > 0),
            () = &mut begun, if !stopping => stopping = true,
            () = tokio::time::sleep(look) => {
                let allowed = if shared.is_crowded() { IDLE_IN_A_CROWD } else { IDLE };
                let last_chance = shared.shutdown.elapsed().is_some_and(|since| since >= LAST_REQUEST);
                if waited.elapsed() >= allowed || last_chance {
                    return false;
                }
            }
        }
    }
}

/// Requests and answers, until the connection ends or rests.
async fn talk(shared: &Arc<Shared>, stream: TcpStream, before: Bytes, peer: IpAddr) -> End {
    let wire = Arc::new(Wire::default());
    let service = service_fn(|request| answer(shared.clone(), wire.clone(), peer, request));
    let watched = TokioIo::new(Watched { stream, before, wire: wire.clone() });
    let mut http = shared.http.serve_connection(watched, service);
    let mut clock = Watch::new(shared, &wire);
    let mut timer = pin!(tokio::time::sleep(REST));
    let mut begun = pin!(shared.shutdown.begun());
    // A timer that was polled once wakes this task by itself; polling it with each request would cost a lock.
    let mut registered = false;
    let verdict = poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut http).poll(cx) {
            return Poll::Ready(Verdict::Done(result));
        }
        loop {
            if let Some(pause) = clock.changed() {
                timer.set(tokio::time::sleep(pause));
                registered = false;
            }
            if !registered {
                registered = true;
                // A future that has resolved must not be polled again.
                if !clock.stopping && begun.as_mut().poll(cx).is_ready() {
                    clock.stopping = true;
                    continue;
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            } else if !timer.is_elapsed() {
                return Poll::Pending;
            }
            match clock.judge() {
                Ok(pause) => timer.set(tokio::time::sleep(pause)),
                Err(verdict) => return Poll::Ready(verdict),
            }
            registered = false;
        }
    })
    .await;
    let parts = http.into_parts();
    let stream = parts.io.into_inner().stream;
    match verdict {
        Verdict::Done(result) => match (wire.refusal(), result) {
            (Some(refusal), _) => End::Refused(stream, refusal),
            (None, Err(error)) if error.is_parse() => End::Refused(stream, Refusal::Malformed),
            (None, Ok(())) if !wire.ended.load(Relaxed) => End::Over(stream),
            (None, _) => End::Gone,
        },
        Verdict::Rest => End::Idle(stream, parts.read_buf),
        Verdict::HeadTooSlow => End::Refused(stream, Refusal::HeadersTooSlow),
        Verdict::Cut => End::Gone,
    }
}

enum Verdict {
    Done(hyper::Result<()>),
    Rest,
    HeadTooSlow,
    Cut,
}

/// Judges a connection by the time that its present state lasts. It reads the clock only when something is amiss, so
/// requests that come and go whole cost nothing here.
struct Watch<'a> {
    shared: &'a Shared,
    wire: &'a Wire,
    /// Since when a head is incomplete.
    head: Option<Stopwatch>,
    /// Since when the client has taken nothing, and how much it had taken then.
    stall: Option<(Stopwatch, u64)>,
    stopping: bool,
    /// The timer was told that the process stops.
    hurried: bool,
}

impl<'a> Watch<'a> {
    fn new(shared: &'a Shared, wire: &'a Wire) -> Watch<'a> {
        Watch { shared, wire, head: None, stall: None, stopping: false, hurried: false }
    }

    /// After each step: when to look next, if sooner than planned.
    fn changed(&mut self) -> Option<Duration> {
        let reading = self.wire.is_reading_head();
        if !reading {
            self.head = None;
        }
        if self.stopping && !self.hurried {
            self.hurried = true;
            return Some(DRAIN_LOOK);
        }
        if reading && self.head.is_none() {
            self.head = Some(Stopwatch::start());
            let time = self.header_time();
            return Some(if self.stopping { time.min(DRAIN_LOOK) } else { time });
        }
        None
    }

    fn header_time(&self) -> Duration {
        Duration::from_millis(self.shared.edge.limits.header_read_ms)
    }

    /// When the timer has run out: the verdict, or when to look next.
    fn judge(&mut self) -> Result<Duration, Verdict> {
        let mut next = if self.stopping { DRAIN_LOOK } else { REST };
        let stopped_for = self.shared.shutdown.elapsed().unwrap_or_default();
        if self.stopping && stopped_for >= Duration::from_millis(self.shared.edge.limits.drain_ms) {
            return Err(Verdict::Cut);
        }
        if self.wire.blocked.load(Relaxed) {
            let written = self.wire.written.load(Relaxed);
            match &self.stall {
                Some((since, before)) if *before == written => {
                    if since.elapsed() >= STALL {
                        return Err(Verdict::Cut);
                    }
                }
                _ => self.stall = Some((Stopwatch::start(), written)),
            }
        } else {
            self.stall = None;
        }
        if let Some(since) = &self.head {
            let left = self.header_time().saturating_sub(since.elapsed());
            if left.is_zero() {
                return Err(Verdict::HeadTooSlow);
            }
            next = next.min(left);
        }
        if self.wire.is_idle() && (!self.stopping || stopped_for >= LAST_REQUEST) {
            return Err(Verdict::Rest);
        }
        Ok(next)
    }
}

async fn answer(
    shared: Arc<Shared>,
    wire: Arc<Wire>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<TurnBody>, Infallible> {
    let request = request.map(|body| RequestBody::new(body, &wire));
    let turn = Turn::begin(wire, shared);
    let mut response = passage::pass(&turn.shared.edge, &turn.shared.router, peer, request, || {
        turn.shared.shutdown.has_begun()
    })
    .await;
    turn.wire.owed.store(true, Relaxed);
    if turn.wire.unread.load(Relaxed) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response.map(|body| TurnBody { body, _turn: turn }))
}

/// The last words, if any, and then the end of the connection in such a way that they arrive.
pub(crate) async fn send_off(shared: &Shared, mut stream: TcpStream, refusal: Option<Refusal>) {
    let time = if shared.shutdown.has_begun() { LINGER / 4 } else { LINGER };
    let last = async {
        if let Some(refusal) = refusal {
            let words = passage::raw_refusal(&shared.edge, refusal, Dialect::Tollgate);
            stream.write_all(&words).await?;
        }
        stream.shutdown().await?;
        let mut left = LINGER_BYTES;
        while left > 0 {
            stream.readable().await?;
            match throw_away(&stream) {
                Ok(0) => break,
                Ok(bytes) => left = left.saturating_sub(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        io::Result::Ok(())
    };
    // Whether the client listens to the end is its own affair.
    let _ = tokio::time::timeout(time, last).await;
}

/// Not in the async function, where the scrap would be part of every connection's state.
fn throw_away(stream: &TcpStream) -> io::Result<usize> {
    let mut scrap = [0; 8 * 1024];
    stream.try_read(&mut scrap)
}
