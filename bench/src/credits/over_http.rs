//! Debits of the release binary: one request each beside its `/healthz`, and a batch beside single calls.

use crate::answer::{self, Answer};
use crate::cache::Cache;
use crate::credits::Found;
use crate::credits::load::{Draw, OWNERS, PLENTY, owners};
use crate::credits::options::{Accounts, Options, SideName};
use crate::load::{Exchange, Span, Verdict, closed_loop};
use crate::report::{Bar, Better, Column, Group, Row};
use crate::rounds::{milliseconds, say, turns};
use crate::server::{Contents, Server, Side};
use crate::tollgate::{OnPostgres, OnSqlite};
use serde_json::json;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 64;
const A_BATCH: usize = 1_000;
const DEBITS: &str = "/api/credits/debits";
const PATIENCE: Duration = Duration::from_secs(30);

/// Key and title of /healthz, hot and random debits, batches, single calls and parallel ones.
type Names = [(&'static str, &'static str); 6];

/// A server that is up, its owners with plenty of credits.
struct Player {
    names: Names,
    server: Server,
    service_key: String,
}

const SQLITE: Names = [
    ("tollgate-sqlite-healthz", "Tollgate on SQLite, /healthz"),
    ("tollgate-sqlite-hot", "Tollgate on SQLite, debits, hot"),
    ("tollgate-sqlite-random", "Tollgate on SQLite, debits, random"),
    ("tollgate-sqlite-batch", "Tollgate on SQLite, a batch of 1 000"),
    ("tollgate-sqlite-single", "Tollgate on SQLite, 1 000 calls one by one"),
    ("tollgate-sqlite-parallel", "Tollgate on SQLite, 1 000 of calls on 64 connections"),
];
const POSTGRES: Names = [
    ("tollgate-postgres-healthz", "Tollgate on PostgreSQL, /healthz"),
    ("tollgate-postgres-hot", "Tollgate on PostgreSQL, debits, hot"),
    ("tollgate-postgres-random", "Tollgate on PostgreSQL, debits, random"),
    ("tollgate-postgres-batch", "Tollgate on PostgreSQL, a batch of 1 000"),
    ("tollgate-postgres-single", "Tollgate on PostgreSQL, 1 000 calls one by one"),
    ("tollgate-postgres-parallel", "Tollgate on PostgreSQL, 1 000 of calls on 64 connections"),
];

pub fn measure(options: &Options, cache: &Rc<Cache>) -> Result<Found, String> {
    let mut sides: Vec<(Box<dyn Side>, Names)> = Vec::new();
    let program = || {
        let file = &options.tollgate;
        file.canonicalize().map_err(|error| format!("{}: {error}; build it first", file.display()))
    };
    // Its users are the owners.
    if options.wants_side(SideName::TollgateSqlite) {
        sides.push((Box::new(OnSqlite::new(cache.clone(), program()?, OWNERS)), SQLITE));
    }
    if options.wants_side(SideName::TollgatePostgres) {
        sides.push((Box::new(OnPostgres::new(cache.clone(), program()?, OWNERS)), POSTGRES));
    }
    let mut found = Found::default();
    let mut players = Vec::new();
    for (side, names) in &mut sides {
        say(&format!("preparing {}", side.title()));
        side.prepare()?;
        let server = side.start(Contents::Seeded)?;
        let configuration = cache.run_file(&format!("{}.toml", side.key()));
        let service_key = make_key(&program()?, &configuration)?;
        grant_plenty(server.address, &service_key, &owners())?;
        found.versions.insert(side.key().into(), json!(side.versions()));
        players.push(Player { names: *names, server, service_key });
    }
    if !players.is_empty() {
        found.add(single(options, &mut players)?);
        found.add(batches(options, &mut players)?);
    }
    Ok(found)
}

/// `tollgate key create`, as an operator does it while the server runs.
pub(crate) fn make_key(program: &Path, configuration: &Path) -> Result<String, String> {
    let mut command = Command::new(program);
    command.arg("--config").arg(configuration).args(["key", "create", "bench", "--json"]);
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    made["key"].as_str().map(str::to_owned).ok_or_else(|| {
        format!("no service key was made: {}", String::from_utf8_lossy(&output.stderr).trim_end())
    })
}

/// From a few connections at once, so that commits are shared.
pub(crate) fn grant_plenty(address: SocketAddr, service_key: &str, owners: &[String]) -> Result<(), String> {
    const AT_ONCE: usize = 32;
    std::thread::scope(|scope| {
        let grant = |owners: &[String]| {
            let mut client = Client::connect(address)?;
            for owner in owners {
                let body =
                    format!(r#"{{"user_id":"{owner}","amount":{PLENTY},"source":"promo","reason":"bench"}}"#);
                let mut request = Vec::new();
                write_post(&mut request, address, "/api/credits/grants", service_key, owner, &body);
                client.ask(&request, 201)?;
            }
            Ok(())
        };
        let chunks = owners.chunks(owners.len().div_ceil(AT_ONCE));
        let threads: Vec<_> = chunks.map(|owners| scope.spawn(move || grant(owners))).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("a granting thread panicked".into())))
    })
}

pub(crate) fn write_post(
    out: &mut Vec<u8>,
    address: SocketAddr,
    path: &str,
    service_key: &str,
    key: &str,
    body: &str,
) {
    let length = body.len();
    // Writing to memory cannot fail.
    let _ = write!(
        out,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {service_key}\r\nIdempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
}

/// `GET /healthz`: what HTTP itself costs this server.
pub(crate) struct Health(pub SocketAddr);

impl Exchange for Health {
    fn write_request(&mut self, out: &mut Vec<u8>) -> usize {
        let _ = write!(out, "GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", self.0);
        0
    }

    fn check(&mut self, _: usize, answer: &Answer<'_>) -> Verdict {
        if answer.status == 200 { Verdict::Good } else { wrong("/healthz", answer) }
    }
}

struct Debits {
    address: SocketAddr,
    service_key: String,
    draw: Draw,
}

impl Debits {
    fn new(player: &Player, accounts: Accounts, number: u64) -> Debits {
        let draw = Draw::new(&owners(), accounts, number);
        Debits { address: player.server.address, service_key: player.service_key.clone(), draw }
    }

    fn batch(&mut self, out: &mut Vec<u8>) {
        let mut body = String::from(r#"{"debits":["#);
        for at in 0..A_BATCH {
            let key = self.draw.key();
            let comma = if at == 0 { "" } else { "," };
            let owner = self.draw.owner();
            let _ = write!(body, r#"{comma}{{"user_id":"{owner}","amount":1,"idempotency_key":"{key}"}}"#);
        }
        body.push_str("]}");
        let key = self.draw.key();
        write_post(out, self.address, "/api/credits/debits/batch", &self.service_key, &key, &body);
    }
}

impl Exchange for Debits {
    fn write_request(&mut self, out: &mut Vec<u8>) -> usize {
        let key = self.draw.key();
        let body = format!(r#"{{"user_id":"{}","amount":1}}"#, self.draw.owner());
        write_post(out, self.address, DEBITS, &self.service_key, &key, &body);
        0
    }

    fn check(&mut self, _: usize, answer: &Answer<'_>) -> Verdict {
        if answer.status == 201 { Verdict::Good } else { wrong("a debit", answer) }
    }
}

fn wrong(what: &str, answer: &Answer<'_>) -> Verdict {
    Verdict::Wrong(format!("wrong answer to {what}: {} {}", answer.status, answer::shown(&answer.body)))
}

fn single(options: &Options, players: &mut [Player]) -> Result<Found, String> {
    let columns = vec![
        Column::more("per_second", "requests/s", 0),
        Column::less("p50_ms", "p50 ms", 3),
        Column::less("p99_ms", "p99 ms", 3),
        Column::less("cpu_us", "CPU µs each", 1),
    ];
    let title = format!("debits over HTTP, {CONNECTIONS} connections");
    let entrants: Vec<(usize, usize)> =
        (0..players.len()).flat_map(|player| [0, 1, 2].map(|kind| (player, kind))).collect();
    let mut rows = rows(players, &entrants, columns.len());
    let mut number = 0;
    for round in 0..options.rounds() {
        for at in turns(round, entrants.len()) {
            let (player, kind) = entrants[at];
            say(&format!("{title}, round {}: {}", round + 1, rows[at].title));
            number += 1;
            let player = &mut players[player];
            let span = Span {
                address: player.server.address,
                connections: CONNECTIONS,
                warm_up: Duration::from_millis(500),
                measured: options.round(),
            };
            let before = player.server.processor_time();
            let tally = match kind {
                0 => closed_loop(span, &mut Health(span.address)),
                1 => closed_loop(span, &mut Debits::new(player, Accounts::Hot, number)),
                _ => closed_loop(span, &mut Debits::new(player, Accounts::Random, number)),
            };
            let mut tally = tally.map_err(|error| format!("{}: {error}", rows[at].title))?;
            let each = (player.server.processor_time() - before).as_secs_f64() * 1e6 / tally.total as f64;
            player.server.check_alive()?;
            let [p50, p99] = [50.0, 99.0].map(|percent| tally.latencies.percentile(percent));
            rows[at].add(&[tally.per_second(), p50, p99, each]);
        }
    }
    let group = Group { key: "over_http".into(), title, columns, rows };
    let mut found = Found::default();
    for player in players {
        let [(healthz, _), debits @ ..] = player.names;
        for (debits, _) in &debits[..2] {
            if let Some(ratio) = group.ratio(debits, healthz) {
                let what = format!("{CONNECTIONS} connections, {debits} ÷ {healthz}");
                found.bars.push(Bar { what, found: ratio, wanted: 0.3, better: Better::More });
            }
        }
    }
    found.groups.push(group);
    Ok(found)
}

fn rows(players: &[Player], entrants: &[(usize, usize)], columns: usize) -> Vec<Row> {
    let row = |&(player, kind): &(usize, usize)| {
        let (key, title): (&'static str, &'static str) = players[player].names[kind];
        Row::new(key, title, columns)
    };
    entrants.iter().map(row).collect()
}

/// A thousand debits in one request, one after the other on one connection, and as they come on 64.
fn batches(options: &Options, players: &mut [Player]) -> Result<Found, String> {
    let columns =
        vec![Column::less("time_ms", "ms for 1 000", 1), Column::less("cpu_ms", "CPU ms for 1 000", 1)];
    let entrants: Vec<(usize, usize)> =
        (0..players.len()).flat_map(|player| [3, 4, 5].map(|kind| (player, kind))).collect();
    let mut rows = rows(players, &entrants, columns.len());
    // Other keys than those of the single debits.
    let mut number = 1 << 32;
    for round in 0..options.rounds() {
        for at in turns(round, entrants.len()) {
            let (player, kind) = entrants[at];
            say(&format!("batches, round {}: {}", round + 1, rows[at].title));
            number += 1;
            let player = &mut players[player];
            let mut debits = Debits::new(player, Accounts::Random, number);
            let before = player.server.processor_time();
            let took = match kind {
                5 => {
                    let span = Span {
                        address: player.server.address,
                        connections: CONNECTIONS,
                        warm_up: Duration::ZERO,
                        measured: options.round(),
                    };
                    let tally = closed_loop(span, &mut debits);
                    tally.map(|tally| (tally.measured, tally.total as f64 / A_BATCH as f64))
                }
                kind => one_by_one(&mut debits, kind == 3, options.round()),
            };
            let (time, thousands) = took.map_err(|error| format!("{}: {error}", rows[at].title))?;
            let processor = player.server.processor_time() - before;
            player.server.check_alive()?;
            rows[at].add(&[milliseconds(time) / thousands, milliseconds(processor) / thousands]);
        }
    }
    let title = "A batch of 1 000 debits beside single calls".to_owned();
    let group = Group { key: "batches".into(), title, columns, rows };
    let mut found = Found::default();
    for player in players {
        let [.., (batch, _), (single, _), _] = player.names;
        if let Some(ratio) = group.ratio(batch, single) {
            let what = format!("time for each debit, {batch} ÷ {single}");
            found.bars.push(Bar { what, found: ratio, wanted: 0.05, better: Better::Less });
        }
    }
    found.groups.push(group);
    Ok(found)
}

/// On one connection: the time taken, and how many thousands of debits were made.
fn one_by_one(debits: &mut Debits, together: bool, least: Duration) -> Result<(Duration, f64), String> {
    let mut client = Client::connect(debits.address)?;
    let (mut count, mut request) = (0, Vec::new());
    let began = Instant::now();
    while began.elapsed() < least {
        request.clear();
        if together {
            debits.batch(&mut request);
            let body = client.ask(&request, 200)?;
            // Each debit was made, and not only judged.
            let made = body.windows(7).filter(|window| window == b"\"debit\"").count();
            if made < A_BATCH {
                return Err(format!("{made} debits in the answer to a batch: {}", answer::shown(&body)));
            }
            count += A_BATCH;
        } else {
            debits.write_request(&mut request);
            client.ask(&request, 201)?;
            count += 1;
        }
    }
    Ok((began.elapsed(), count as f64 / A_BATCH as f64))
}

/// One connection that waits, for requests of any length.
/// A caller on one connection, which waits for each answer.
pub(crate) struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Client, String> {
        let open = || {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let stream =
            open().map_err(|error: std::io::Error| format!("cannot connect to {address}: {error}"))?;
        Ok(Client { stream, input: Vec::new() })
    }

    /// The body of the answer, which must have that status.
    pub(crate) fn ask(&mut self, request: &[u8], status: u16) -> Result<Vec<u8>, String> {
        let failed = |error: std::io::Error| format!("no answer: {error}");
        self.stream.write_all(request).map_err(failed)?;
        self.input.clear();
        let mut buffer = [0; 64 * 1024];
        loop {
            let count = self.stream.read(&mut buffer).map_err(failed)?;
            self.input.extend_from_slice(&buffer[..count]);
            match answer::parse(&self.input)? {
                Some(answer) if answer.status == status => return Ok(answer.body.into_owned()),
                Some(answer) => {
                    return Err(format!("status {}: {}", answer.status, answer::shown(&answer.body)));
                }
                None if count == 0 => return Err("the server closed a connection in use".into()),
                None => {}
            }
        }
    }
}
