//! The load generator: one thread, one epoll, requests rendered beforehand. It is the same for every side and cheap,
//! since it shares the cores with the server.
//!
//! [`closed_loop`] keeps every connection busy and finds the throughput. [`open_loop`] sends at fixed times whether or
//! not earlier answers have come, and counts each latency from the time the request was due: a server that stalls is
//! charged for everybody who would have come meanwhile.

use crate::answer::{self, Answer};
use crate::latency::Latencies;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// An answer that takes longer fails the run. A peer takes half a minute for 200 sign-ins on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const TIMER: u64 = u64::MAX;

/// What is asked, and what must come back.
pub trait Exchange {
    /// Appends the next request. The number is handed to [`Exchange::check`] together with its answer.
    fn write_request(&mut self, out: &mut Vec<u8>) -> usize;
    fn check(&mut self, number: usize, answer: &Answer<'_>) -> Verdict;
}

#[derive(Debug, PartialEq)]
pub enum Verdict {
    Good,
    /// A first step: the same connection sends its next request at once, and the time runs on until the last answer.
    GoesOn,
    /// The server is busy and says so; a polite client comes again after that time.
    Refused(Duration),
    /// Fails the run.
    Wrong(String),
}

#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub address: SocketAddr,
    pub connections: usize,
    /// Load that is not counted, at the beginning. Without it a closed loop counts every answer and measures until the
    /// last one.
    pub warm_up: Duration,
    pub measured: Duration,
}

impl Span {
    /// Whether every answer counts, those after the end too. For slow requests, whose answers may come in bursts that a
    /// short span would catch or miss by chance.
    fn is_whole(&self) -> bool {
        self.warm_up.is_zero()
    }
}

#[derive(Debug)]
pub struct Tally {
    pub latencies: Latencies,
    pub refused: u64,
    pub measured: Duration,
    /// Answers of all kinds, those before and after the measured time too.
    pub total: u64,
}

impl Tally {
    pub fn per_second(&self) -> f64 {
        self.latencies.count() as f64 / self.measured.as_secs_f64()
    }
}

/// Every connection sends its next request as soon as it has the answer to the last one.
pub fn closed_loop(span: Span, exchange: &mut impl Exchange) -> Result<Tally, String> {
    let mut pool = Pool::open(span.address, span.connections)?;
    let begin = Instant::now() + span.warm_up;
    let end = begin + span.measured;
    let mut tally = Tally::new(span, 100_000);
    let mut parked: Vec<(Instant, usize)> = Vec::new();
    for at in 0..span.connections {
        pool.send(at, exchange, Instant::now())?;
    }
    let mut ready = Vec::with_capacity(span.connections);
    loop {
        let until = parked.iter().map(|&(time, _)| time).fold(end, Instant::min);
        pool.wait(until, &mut ready)?;
        for at in ready.drain(..) {
            let Some(verdict) = pool.receive(at, exchange)? else { continue };
            let now = Instant::now();
            let until = if span.is_whole() { now + PATIENCE } else { end };
            tally.note(&verdict, pool.connections[at].since, now, begin, until)?;
            match verdict {
                Verdict::Refused(pause) => parked.push((now + pause, at)),
                _ if now < end => pool.send(at, exchange, now)?,
                _ => {}
            }
        }
        let now = Instant::now();
        if now >= end {
            break;
        }
        while let Some(place) = parked.iter().position(|&(time, _)| time <= now) {
            let (_, at) = parked.swap_remove(place);
            pool.send(at, exchange, now)?;
        }
    }
    pool.drain(exchange, |verdict, since, now| {
        let until = if span.is_whole() { now + PATIENCE } else { end };
        tally.note(verdict, since, now, begin, until)
    })?;
    if span.is_whole() {
        tally.measured = begin.elapsed();
    }
    Ok(tally)
}

/// Sends `per_second` requests a second at even distances.
pub fn open_loop(span: Span, per_second: u32, exchange: &mut impl Exchange) -> Result<Tally, String> {
    let mut pool = Pool::open(span.address, span.connections)?;
    let start = Instant::now();
    let (begin, end) = (start + span.warm_up, start + span.warm_up + span.measured);
    let distance = Duration::from_secs(1) / per_second;
    let mut tally = Tally::new(span, 100_000);
    let mut idle: VecDeque<usize> = (0..span.connections).collect();
    // Requests that are due while every connection waits for an answer.
    let mut late: VecDeque<Instant> = VecDeque::new();
    let mut due = start;
    let mut ready = Vec::with_capacity(span.connections);
    while due < end || !late.is_empty() || idle.len() < span.connections {
        let now = Instant::now();
        if now > end + PATIENCE {
            return Err(format!(
                "{} requests were not answered in time",
                late.len() + span.connections - idle.len()
            ));
        }
        while due <= now && due < end {
            late.push_back(due);
            due += distance;
        }
        while !idle.is_empty()
            && let Some(since) = late.pop_front()
        {
            if let Some(at) = idle.pop_front() {
                pool.send(at, exchange, since)?;
            }
        }
        pool.wait(if due < end { due } else { end + PATIENCE }, &mut ready)?;
        for at in ready.drain(..) {
            let Some(verdict) = pool.receive(at, exchange)? else { continue };
            // Everything that was due in the measured time counts, however late its answer comes.
            let since = pool.connections[at].since;
            let counts_from = if since >= begin { begin } else { end + PATIENCE };
            tally.note(&verdict, since, Instant::now(), counts_from, end + PATIENCE)?;
            idle.push_back(at);
        }
    }
    Ok(tally)
}

impl Tally {
    fn new(span: Span, per_second: usize) -> Tally {
        let room = per_second * span.measured.as_secs() as usize;
        Tally {
            latencies: Latencies::with_room_for(room.min(10_000_000)),
            refused: 0,
            measured: span.measured,
            total: 0,
        }
    }

    /// An answer counts when it arrives within the measured time.
    fn note(
        &mut self,
        verdict: &Verdict,
        since: Instant,
        now: Instant,
        begin: Instant,
        end: Instant,
    ) -> Result<(), String> {
        self.total += 1;
        match verdict {
            Verdict::Wrong(what) => return Err(what.clone()),
            _ if now < begin || now >= end => {}
            // Only the last step is noted.
            Verdict::GoesOn => {}
            Verdict::Good => self.latencies.record(now - since),
            Verdict::Refused(_) => self.refused += 1,
        }
        Ok(())
    }
}

struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    /// The beginning of an answer that came in pieces.
    input: Vec<u8>,
    number: usize,
    since: Instant,
    waiting: bool,
}

struct Pool {
    address: SocketAddr,
    epoll: OwnedFd,
    timer: OwnedFd,
    /// What the timer is set to.
    armed: Option<Instant>,
    connections: Vec<Connection>,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
}

impl Pool {
    fn open(address: SocketAddr, count: usize) -> Result<Pool, String> {
        let failed = |error: rustix::io::Errno| format!("no epoll: {error}");
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(failed)?;
        // epoll's own time limit has a resolution of a millisecond, too coarse for 500 requests a second.
        let timer =
            rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC).map_err(failed)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)
            .map_err(failed)?;
        let mut pool = Pool {
            address,
            epoll,
            timer,
            armed: None,
            connections: Vec::with_capacity(count),
            events: Vec::with_capacity(count + 1),
            buffer: vec![0; 64 * 1024],
        };
        for at in 0..count {
            let connection = Connection {
                stream: pool.connect(at)?,
                out: Vec::with_capacity(1024),
                input: Vec::new(),
                number: 0,
                since: Instant::now(),
                waiting: false,
            };
            pool.connections.push(connection);
        }
        Ok(pool)
    }

    fn connect(&self, at: usize) -> Result<TcpStream, String> {
        let failed = |error: std::io::Error| format!("cannot connect to {}: {error}", self.address);
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        epoll::add(&self.epoll, &stream, epoll::EventData::new_u64(at as u64), epoll::EventFlags::IN)
            .map_err(|error| failed(error.into()))?;
        Ok(stream)
    }

    fn send(&mut self, at: usize, exchange: &mut impl Exchange, since: Instant) -> Result<(), String> {
        let connection = &mut self.connections[at];
        connection.out.clear();
        connection.number = exchange.write_request(&mut connection.out);
        connection.since = since;
        connection.waiting = true;
        // A few hundred bytes always fit into the socket's buffer when the last answer has been read.
        connection
            .stream
            .write_all(&connection.out)
            .map_err(|error| format!("a request was not sent: {error}"))
    }

    /// Collects the connections with something to read, or none when the time has come.
    fn wait(&mut self, until: Instant, ready: &mut Vec<usize>) -> Result<(), String> {
        let failed = |error: rustix::io::Errno| format!("waiting for answers failed: {error}");
        if self.armed != Some(until) {
            // Zero would switch the timer off.
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            let value = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let setting = Itimerspec { it_interval: Timespec::default(), it_value: value };
            rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)
                .map_err(failed)?;
            self.armed = Some(until);
        }
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error)),
        }
        for event in &self.events {
            match event.data.u64() {
                TIMER => self.armed = None,
                at => ready.push(at as usize),
            }
        }
        Ok(())
    }

    /// Reads what is there; gives the verdict when the answer is whole and nothing follows it.
    fn receive(&mut self, at: usize, exchange: &mut impl Exchange) -> Result<Option<Verdict>, String> {
        let connection = &mut self.connections[at];
        let count = match connection.stream.read(&mut self.buffer) {
            Ok(0) if connection.waiting => return Err("the server closed a connection in use".into()),
            Ok(0) => {
                self.connections[at].stream = self.connect(at)?;
                return Ok(None);
            }
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(format!("an answer was not received: {error}")),
        };
        if !connection.waiting {
            return Err(format!("bytes that nobody asked for: {}", answer::shown(&self.buffer[..count])));
        }
        let mut bytes = &self.buffer[..count];
        if !connection.input.is_empty() {
            connection.input.extend_from_slice(bytes);
            bytes = &connection.input;
        }
        let Some(answer) = answer::parse(bytes)? else {
            if connection.input.is_empty() {
                connection.input.extend_from_slice(&self.buffer[..count]);
            }
            return Ok(None);
        };
        if answer.length != bytes.len() {
            return Err(format!("bytes after an answer: {}", answer::shown(&bytes[answer.length..])));
        }
        let verdict = exchange.check(connection.number, &answer);
        let closes = answer.closes;
        connection.input.clear();
        connection.waiting = false;
        if closes {
            self.connections[at].stream = self.connect(at)?;
        }
        if verdict == Verdict::GoesOn {
            let since = self.connections[at].since;
            self.send(at, exchange, since)?;
            return Ok(None);
        }
        Ok(Some(verdict))
    }

    /// Waits for the answers that are still to come, so that the next round finds the server idle.
    fn drain(
        &mut self,
        exchange: &mut impl Exchange,
        mut note: impl FnMut(&Verdict, Instant, Instant) -> Result<(), String>,
    ) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        let mut ready = Vec::new();
        while self.connections.iter().any(|connection| connection.waiting) {
            if Instant::now() >= end {
                return Err(format!("an answer did not come within {} s", PATIENCE.as_secs()));
            }
            self.wait(end, &mut ready)?;
            for at in ready.drain(..) {
                if let Some(verdict) = self.receive(at, exchange)? {
                    note(&verdict, self.connections[at].since, Instant::now())?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    struct Plain;

    impl Exchange for Plain {
        fn write_request(&mut self, out: &mut Vec<u8>) -> usize {
            out.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
            7
        }

        fn check(&mut self, number: usize, answer: &Answer<'_>) -> Verdict {
            assert_eq!(number, 7);
            match answer.status {
                200 => Verdict::Good,
                503 => Verdict::Refused(Duration::from_millis(1)),
                other => Verdict::Wrong(format!("status {other}")),
            }
        }
    }

    /// Answers every request on any number of connections; `answer` is told how many came before.
    fn server(answer: impl Fn(usize) -> &'static [u8] + Send + Sync + 'static) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let answer = std::sync::Arc::new(answer);
        let served = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, answer, served) = (stream.unwrap(), answer.clone(), served.clone());
                std::thread::spawn(move || {
                    stream.set_nodelay(true).unwrap();
                    let mut request = [0; 18];
                    while stream.read_exact(&mut request).is_ok() {
                        let before = served.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        // In two pieces, as a busy network may deliver it.
                        let (first, rest) = answer(before).split_at(20);
                        if stream.write_all(first).and_then(|()| stream.write_all(rest)).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        address
    }

    fn span(address: SocketAddr, connections: usize, milliseconds: u64) -> Span {
        let measured = Duration::from_millis(milliseconds);
        Span { address, connections, warm_up: Duration::from_millis(10), measured }
    }

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    const BUSY: &[u8] = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";

    #[test]
    fn a_closed_loop_counts_answers_and_refusals() {
        let address = server(|before| if before % 2 == 0 { OK } else { BUSY });
        let tally = closed_loop(span(address, 4, 300), &mut Plain).unwrap();
        assert!(tally.latencies.count() > 0);
        assert!(tally.refused > 0 && tally.total >= tally.refused + tally.latencies.count() as u64);
    }

    #[test]
    fn without_a_warm_up_the_answers_after_the_end_count_too() {
        let address = server(|_| {
            std::thread::sleep(Duration::from_millis(200));
            OK
        });
        let span = Span { warm_up: Duration::ZERO, ..span(address, 4, 50) };
        let tally = closed_loop(span, &mut Plain).unwrap();
        assert_eq!(tally.latencies.count(), 4);
        assert!(tally.measured >= Duration::from_millis(200));
    }

    #[test]
    fn one_wrong_answer_fails_the_run() {
        let address =
            server(
                |before| {
                    if before == 50 { b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n" } else { OK }
                },
            );
        assert_eq!(closed_loop(span(address, 4, 1_000), &mut Plain).unwrap_err(), "status 500");
    }

    /// Two requests for each operation.
    struct InSteps {
        begun: bool,
        sent: usize,
    }

    impl Exchange for InSteps {
        fn write_request(&mut self, out: &mut Vec<u8>) -> usize {
            out.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
            self.sent += 1;
            usize::from(std::mem::take(&mut self.begun))
        }

        fn check(&mut self, step: usize, _: &Answer<'_>) -> Verdict {
            self.begun = step == 0;
            if step == 0 { Verdict::GoesOn } else { Verdict::Good }
        }
    }

    #[test]
    fn an_operation_in_steps_counts_once_and_takes_the_time_of_all() {
        let address = server(|_| {
            std::thread::sleep(Duration::from_millis(20));
            OK
        });
        let mut exchange = InSteps { begun: false, sent: 0 };
        let mut tally = closed_loop(span(address, 4, 300), &mut exchange).unwrap();
        assert_eq!(tally.total as usize * 2, exchange.sent);
        assert!(tally.latencies.percentile(0.0) >= 40.0, "{}", tally.latencies.percentile(0.0));
    }

    #[test]
    fn an_open_loop_charges_a_stall_to_everybody_who_was_due() {
        // One stall of 200 ms while 100 requests fall due, on one connection: half of all 200 wait.
        let address = server(|before| {
            if before == 60 {
                std::thread::sleep(Duration::from_millis(200));
            }
            OK
        });
        let mut tally = open_loop(span(address, 1, 400), 500, &mut Plain).unwrap();
        assert_eq!(tally.latencies.count(), 200);
        assert!(tally.latencies.percentile(75.0) > 50.0, "{}", tally.latencies.percentile(75.0));
    }
}
