//! Session checks through `tollgate-client`, in an app that is a process of its own: at a steady rate, alone and while
//! many sign in.

use crate::answer::Answer;
use crate::cache::Cache;
use crate::gate::Found;
use crate::gate::crowd::Crowd;
use crate::gate::field::Field;
use crate::gate::options::{Options, SideName};
use crate::gate::requests::wrong;
use crate::latency::median;
use crate::load::{Exchange, Span, Tally, Verdict, closed_loop, open_loop};
use crate::people::{Dice, SessionChecks, SignIns};
use crate::report::{Bar, Better, Column, Group, Row};
use crate::rounds::{say, turns};
use crate::server::{Server, free_address};
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

const CHECKS_PER_SECOND: u32 = 500;
const CHECK_CONNECTIONS: usize = 64;
const SIGN_IN_CONNECTIONS: usize = 200;
const MOST_ROUNDS: u32 = 3;
/// Of the 95th percentile during the sign-ins.
const WANTED_MS: f64 = 50.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Through the app, and nothing else happens.
    ClientAlone,
    /// Through the app, while people sign in.
    Client,
    /// The server itself is asked, while people sign in: what app and client cost.
    Direct,
}

const WAYS: [Way; 3] = [Way::ClientAlone, Way::Client, Way::Direct];

pub fn measure(options: &Options, cache: &Cache, field: &mut Field, crowd: &Crowd) -> Result<Found, String> {
    let columns = vec![
        Column::less("p95_ms", "p95 ms", 2),
        Column::less("p50_ms", "p50 ms", 2),
        Column::less("p99_ms", "p99 ms", 2),
        Column::less("max_ms", "max ms", 1),
        Column::more("sign_ins_per_second", "sign-ins/s", 1),
        Column::less("refused_per_second", "refused/s", 1),
    ];
    let mut entrants = Vec::new();
    let mut apps = Vec::new();
    for at in field.direct() {
        let app = start_app(cache, crowd, field.address(at))?;
        let mut trial = Trial { options, crowd, app: app.address, tollgate: field.address(at), number: 0 };
        trial.checks_alone(Duration::from_secs(1))?;
        apps.push(app);
        entrants.extend(WAYS.map(|way| (at, apps.len() - 1, way)));
    }
    let mut rows: Vec<Row> = entrants
        .iter()
        .map(|&(at, _, way)| {
            let (key, title) = names(field.players[at].side, way);
            Row::new(key, title, columns.len())
        })
        .collect();
    for round in 0..options.rounds().min(MOST_ROUNDS) {
        for turn in turns(round, entrants.len()) {
            let (at, app, way) = entrants[turn];
            say(&format!("client, round {}: {}", round + 1, rows[turn].title));
            let number = field.next_load();
            let (app, tollgate) = (apps[app].address, field.address(at));
            let mut trial = Trial { options, crowd, app, tollgate, number };
            let figures = trial
                .run(way)
                .map_err(|error| field.explain(at, format!("{}: {error}", rows[turn].title)))?;
            rows[turn].add(&figures);
            field.check_alive(at)?;
        }
        apps.iter_mut().try_for_each(Server::check_alive)?;
    }
    let title = format!(
        "session checks at {CHECKS_PER_SECOND}/s (open loop) through tollgate-client, {} sessions",
        options.rows()
    );
    let bars = bars(&rows);
    Ok((vec![Group { key: "client".into(), title, columns, rows }], bars))
}

fn start_app(cache: &Cache, crowd: &Crowd, tollgate: SocketAddr) -> Result<Server, String> {
    let own = std::env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
    let address = free_address()?;
    let mut command = Command::new(own.with_file_name("bench-client-app"));
    command.arg(address.to_string()).arg(format!("http://{tollgate}"));
    let mut request = Vec::new();
    let person = Whoami::new(crowd, address, 0).write_request(&mut request);
    let expected = crowd.user_id(person).as_bytes();
    let log = cache.run_file(&format!("client-app-{}.log", address.port()));
    Server::start_asking("the app", &mut command, address, &request, expected, &log)
}

/// One load on one server and its app.
struct Trial<'a> {
    options: &'a Options,
    crowd: &'a Crowd,
    app: SocketAddr,
    tollgate: SocketAddr,
    number: u64,
}

impl Trial<'_> {
    fn run(&mut self, way: Way) -> Result<[f64; 6], String> {
        let measured = self.options.storm();
        let (mut tally, [sign_ins, refused]) = match way {
            Way::ClientAlone => (self.checks_alone(measured)?, [f64::NAN; 2]),
            Way::Client => self.in_a_storm(&mut Whoami::new(self.crowd, self.app, self.number), self.app)?,
            Way::Direct => {
                let mut checks = SessionChecks::new(self.crowd.cookies(), self.tollgate, self.number << 32);
                self.in_a_storm(&mut checks, self.tollgate)?
            }
        };
        let [p50, p95, p99, max] =
            [50.0, 95.0, 99.0, 100.0].map(|percent| tally.latencies.percentile(percent));
        Ok([p95, p50, p99, max, sign_ins, refused])
    }

    fn checks_alone(&mut self, measured: Duration) -> Result<Tally, String> {
        let span = steadily(self.app, measured);
        open_loop(span, CHECKS_PER_SECOND, &mut Whoami::new(self.crowd, self.app, self.number))
    }

    /// With the sign-ins made and refused, in a second.
    fn in_a_storm(&self, checks: &mut impl Exchange, asked: SocketAddr) -> Result<(Tally, [f64; 2]), String> {
        let span = steadily(asked, self.options.storm());
        let storm = Span {
            address: self.tollgate,
            connections: SIGN_IN_CONNECTIONS,
            warm_up: Duration::ZERO,
            measured: span.warm_up + span.measured,
        };
        let mut sign_ins = SignIns::new(self.options.rows(), self.tollgate, self.number << 32);
        let (stormed, checked) = std::thread::scope(|scope| {
            let storm = scope.spawn(move || closed_loop(storm, &mut sign_ins));
            let checked = open_loop(span, CHECKS_PER_SECOND, checks);
            (storm.join().unwrap_or_else(|_| Err("the sign-ins panicked".into())), checked)
        });
        let stormed = stormed?;
        let refused = stormed.refused as f64 / stormed.measured.as_secs_f64();
        Ok((checked?, [stormed.per_second(), refused]))
    }
}

/// The first second is not counted: the storm is rising.
fn steadily(address: SocketAddr, measured: Duration) -> Span {
    Span { address, connections: CHECK_CONNECTIONS, warm_up: Duration::from_secs(1), measured }
}

/// `GET /me` of the app with the cookies of random people; it answers with their ids.
struct Whoami<'a> {
    crowd: &'a Crowd,
    head: String,
    dice: Dice,
}

impl<'a> Whoami<'a> {
    fn new(crowd: &'a Crowd, address: SocketAddr, number: u64) -> Whoami<'a> {
        let head = format!("GET /me HTTP/1.1\r\nHost: {address}\r\nCookie: better-auth.session_token=");
        Whoami { crowd, head, dice: Dice(number << 32) }
    }
}

impl Exchange for Whoami<'_> {
    fn write_request(&mut self, out: &mut Vec<u8>) -> usize {
        let person = self.dice.below(self.crowd.cookies().rows()) as usize;
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(self.crowd.cookie(person));
        out.extend_from_slice(b"\r\n\r\n");
        person
    }

    fn check(&mut self, person: usize, answer: &Answer<'_>) -> Verdict {
        let good = answer.status == 200 && *answer.body == *self.crowd.user_id(person).as_bytes();
        if good { Verdict::Good } else { wrong("a session check of the app", answer) }
    }
}

fn bars(rows: &[Row]) -> Vec<Bar> {
    let bar = |side| {
        let (key, _) = names(side, Way::Client);
        let row = rows.iter().find(|row| row.side == key)?;
        let what = format!("{CHECKS_PER_SECOND}/s during {SIGN_IN_CONNECTIONS} sign-ins, p95 in ms, {key}");
        Some(Bar { what, found: median(&row.rounds[0]), wanted: WANTED_MS, better: Better::Less })
    };
    [SideName::TollgateSqlite, SideName::TollgatePostgres].into_iter().filter_map(bar).collect()
}

/// Key and title of a row; only Tollgate is asked.
fn names(side: SideName, way: Way) -> (&'static str, &'static str) {
    match (side == SideName::TollgatePostgres, way) {
        (false, Way::ClientAlone) => ("sqlite-client-alone", "Tollgate on SQLite, through the client, alone"),
        (false, Way::Client) => ("sqlite-client", "Tollgate on SQLite, through the client, 200 sign-ins"),
        (false, Way::Direct) => ("sqlite-direct", "Tollgate on SQLite, without it, 200 sign-ins"),
        (true, Way::ClientAlone) => {
            ("postgres-client-alone", "Tollgate on PostgreSQL, through the client, alone")
        }
        (true, Way::Client) => {
            ("postgres-client", "Tollgate on PostgreSQL, through the client, 200 sign-ins")
        }
        (true, Way::Direct) => ("postgres-direct", "Tollgate on PostgreSQL, without it, 200 sign-ins"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    #[test]
    fn the_app_must_name_the_person_who_asked() {
        let crowd = Crowd::new(100);
        let mut asked = Whoami::new(&crowd, SocketAddr::from(([127, 0, 0, 1], 80)), 1);
        let person = asked.write_request(&mut Vec::new());
        let mut verdict = |status, person: usize| {
            let body = Cow::Borrowed(crowd.user_id(person).as_bytes());
            asked.check(0, &Answer { status, head: b"", body, length: 0, closes: false })
        };
        assert!(person < 100);
        assert_eq!(verdict(200, 0), Verdict::Good);
        assert!(matches!(verdict(200, 1), Verdict::Wrong(_)));
        assert!(matches!(verdict(503, 0), Verdict::Wrong(_)));
    }
}
