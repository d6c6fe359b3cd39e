//! The comparison itself: prepares every side, measures them in turns, and gives the figures.

use crate::bare_handler::{BareHandler, answer_file};
use crate::better_auth::BetterAuth;
use crate::cache::Cache;
use crate::load::{Span, Tally, closed_loop, open_loop};
use crate::machine::Conditions;
use crate::options::{Measure, Options, SideName};
use crate::people::{Cookies, SessionChecks, SignIns};
use crate::report::{Column, Group, Outcome, Row};
use crate::rounds::{end_after, milliseconds, say, turns};
use crate::server::{Contents, Server, Side};
use crate::tollgate::{OnPostgres, OnSqlite};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// Of session checks at full speed.
const CONNECTIONS: [usize; 2] = [16, 64];
const SIGN_IN_CONNECTIONS: usize = 16;
const STORM_CONNECTIONS: usize = 200;
const CHECKS_PER_SECOND: u32 = 500;
const MOST_STARTS: u32 = 5;
const MOST_STORMS: u32 = 3;

pub fn run(options: &Options) -> Result<Outcome, String> {
    let conditions = Conditions::look();
    let cache = Rc::new(Cache::open(&options.folder)?);
    let mut sides = sides(options, &cache)?;
    for side in &mut sides {
        say(&format!("preparing {}", side.title()));
        side.prepare()?;
    }
    end_after(time_limit(options, sides.len()));

    let cookies = Cookies::of(options.rows());
    let mut groups = Vec::new();
    if options.wants(Measure::Start) {
        groups.push(start_times(options, &mut sides, &cache)?);
    }
    let mut field = Field::start(options, &cookies, &mut sides, &cache)?;
    if options.wants(Measure::GetSession) {
        for connections in CONNECTIONS {
            groups.push(field.session_checks(connections)?);
        }
    }
    if options.wants(Measure::SignIn) {
        groups.push(field.sign_ins()?);
    }
    if options.wants(Measure::Storm) {
        groups.push(field.steady_checks()?);
        groups.push(field.checks_in_a_storm()?);
    }
    groups.push(field.memory());
    drop(field);
    let versions: serde_json::Map<String, Value> =
        sides.iter().map(|side| (side.key().to_owned(), json!(side.versions()))).collect();
    let conditions = conditions.to_json(json!({
        "rows": options.rows(),
        "rounds": options.rounds(),
        "seconds_per_round": options.round().as_secs(),
        "versions": versions,
    }));
    Ok(Outcome { conditions, groups, bars: Vec::new() })
}

fn sides(options: &Options, cache: &Rc<Cache>) -> Result<Vec<Box<dyn Side>>, String> {
    let program = |file: PathBuf| {
        file.canonicalize().map_err(|error| format!("{}: {error}; build it first", file.display()))
    };
    let rows = options.rows();
    let mut sides: Vec<Box<dyn Side>> = Vec::new();
    if options.wants_side(SideName::TollgateSqlite) {
        sides.push(Box::new(OnSqlite::new(cache.clone(), program(options.tollgate.clone())?, rows)));
    }
    if options.wants_side(SideName::TollgateEveryMethod) {
        let side = OnSqlite::new(cache.clone(), program(options.tollgate.clone())?, rows);
        sides.push(Box::new(side.with_every_method()));
    }
    if options.wants_side(SideName::TollgatePostgres) {
        sides.push(Box::new(OnPostgres::new(cache.clone(), program(options.tollgate.clone())?, rows)));
    }
    if options.wants_side(SideName::BetterAuth) {
        sides.push(Box::new(BetterAuth { cache: cache.clone(), rows, workers: options.peer_workers }));
    }
    if options.wants_side(SideName::BareHandler) {
        let own = std::env::current_exe().map_err(|error| format!("where is this program? {error}"))?;
        let beside = program(own.with_file_name("bench-bare-handler"))?;
        sides.push(Box::new(BareHandler { cache: cache.clone(), program: beside }));
    }
    Ok(sides)
}

/// Starts a side, and keeps an answer of Tollgate for the bare handler, which comes after it.
fn start(side: &mut Box<dyn Side>, contents: Contents, cache: &Cache) -> Result<Server, String> {
    let server = side.start(contents)?;
    if contents == Contents::Seeded && side.key().starts_with("tollgate") {
        let file = answer_file(cache);
        std::fs::write(&file, &server.first_answer)
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(server)
}

fn start_times(options: &Options, sides: &mut [Box<dyn Side>], cache: &Cache) -> Result<Group, String> {
    let columns = vec![Column::less("seeded_ms", "full ms", 1), Column::less("empty_ms", "empty ms", 1)];
    let mut rows: Vec<Row> =
        sides.iter().map(|side| Row::new(side.key(), side.title(), columns.len())).collect();
    for round in 0..options.rounds().min(MOST_STARTS) {
        for at in turns(round, sides.len()) {
            say(&format!("start {}: {}", round + 1, sides[at].title()));
            let full = start(&mut sides[at], Contents::Seeded, cache)?.started_in;
            // The bare handler has no database to be empty.
            let empty = match sides[at].signs_in() {
                true => milliseconds(sides[at].start(Contents::Empty)?.started_in),
                false => f64::NAN,
            };
            rows[at].add(&[milliseconds(full), empty]);
        }
    }
    let title = format!("Start to first answer, {} rows and none", options.rows());
    Ok(Group { key: "start".into(), title, columns, rows })
}

/// All sides at once, up and warm. Only one of them has work at a time.
struct Field<'a> {
    options: &'a Options,
    cookies: &'a Cookies,
    players: Vec<Player>,
    /// Counts every load, so that each draws other people.
    draw: u64,
}

struct Player {
    key: &'static str,
    title: &'static str,
    signs_in: bool,
    server: Server,
    memory_at_rest: f64,
}

impl<'a> Field<'a> {
    fn start(
        options: &'a Options,
        cookies: &'a Cookies,
        sides: &mut [Box<dyn Side>],
        cache: &Cache,
    ) -> Result<Field<'a>, String> {
        let mut players = Vec::new();
        for side in sides {
            let server = start(side, Contents::Seeded, cache)?;
            players.push(Player {
                key: side.key(),
                title: side.title(),
                signs_in: side.signs_in(),
                server,
                memory_at_rest: 0.0,
            });
        }
        // Whatever a server does right after its start is over by then.
        std::thread::sleep(Duration::from_secs(1));
        for player in &mut players {
            player.memory_at_rest = player.server.resident_mib();
        }
        let mut field = Field { options, cookies, players, draw: 0 };
        for at in 0..field.players.len() {
            say(&format!("warming up {}", field.players[at].title));
            field.check_at_full_speed(at, CONNECTIONS[0], options.round())?;
        }
        Ok(field)
    }

    fn session_checks(&mut self, connections: usize) -> Result<Group, String> {
        let columns = vec![
            Column::more("per_second", "requests/s", 0),
            Column::less("p50_ms", "p50 ms", 3),
            Column::less("p95_ms", "p95 ms", 3),
            Column::less("p99_ms", "p99 ms", 3),
            Column::less("cpu_us", "CPU µs each", 1),
        ];
        let what = format!("get-session, {connections} connections");
        let (rounds, measured) = (self.options.rounds(), self.options.round());
        let rows = self.in_turns(&what, &columns, rounds, false, |field, at| {
            let (mut tally, processor) = field.check_at_full_speed(at, connections, measured)?;
            let each = processor.as_secs_f64() * 1e6 / tally.total as f64;
            let [p50, p95, p99] = percentiles(&mut tally);
            Ok(vec![tally.per_second(), p50, p95, p99, each])
        })?;
        Ok(Group { key: format!("get_session_{connections}"), title: what, columns, rows })
    }

    fn sign_ins(&mut self) -> Result<Group, String> {
        let columns = vec![
            Column::more("per_second", "sign-ins/s", 1),
            Column::less("p50_ms", "p50 ms", 0),
            Column::less("p95_ms", "p95 ms", 0),
            Column::less("p99_ms", "p99 ms", 0),
            Column::less("cpu_ms", "CPU ms each", 1),
        ];
        let what =
            format!("sign-in, {SIGN_IN_CONNECTIONS} connections (each side with its own default hash)");
        let (rounds, measured) = (self.options.rounds(), self.options.round());
        let rows = self.in_turns(&what, &columns, rounds, true, |field, at| {
            let span = Span { warm_up: Duration::ZERO, ..field.span(at, SIGN_IN_CONNECTIONS, measured) };
            let mut sign_ins = SignIns::new(field.options.rows(), span.address, field.next_draw());
            let before = field.players[at].server.processor_time();
            let mut tally = closed_loop(span, &mut sign_ins)?;
            let processor = field.players[at].server.processor_time() - before;
            let [p50, p95, p99] = percentiles(&mut tally);
            Ok(vec![tally.per_second(), p50, p95, p99, milliseconds(processor) / tally.total as f64])
        })?;
        Ok(Group { key: "sign_in".into(), title: what, columns, rows })
    }

    fn steady_checks(&mut self) -> Result<Group, String> {
        let columns = steady_columns();
        let what = format!("get-session at {CHECKS_PER_SECOND}/s (open loop), nothing else");
        let rows = self.in_turns(&what, &columns, self.storms(), false, |field, at| {
            let mut tally = field.check_steadily(at)?;
            let [p50, p95, p99] = percentiles(&mut tally);
            Ok(vec![p95, p50, p99, tally.latencies.percentile(100.0)])
        })?;
        Ok(Group { key: "steady".into(), title: what, columns, rows })
    }

    fn checks_in_a_storm(&mut self) -> Result<Group, String> {
        let mut columns = steady_columns();
        columns.extend([
            Column::more("sign_ins_per_second", "sign-ins/s", 1),
            Column::less("refused_per_second", "refused/s", 1),
        ]);
        let what = format!(
            "get-session at {CHECKS_PER_SECOND}/s (open loop) during {STORM_CONNECTIONS} parallel sign-ins"
        );
        let rows = self.in_turns(&what, &columns, self.storms(), true, |field, at| {
            let storm =
                Span { warm_up: Duration::ZERO, ..field.span(at, STORM_CONNECTIONS, field.storm_time()) };
            let mut sign_ins = SignIns::new(field.options.rows(), storm.address, field.next_draw());
            let (stormed, checked) = std::thread::scope(|scope| {
                let storm = scope.spawn(move || closed_loop(storm, &mut sign_ins));
                let checked = field.check_steadily(at);
                (storm.join().unwrap_or_else(|_| Err("the sign-ins panicked".into())), checked)
            });
            let (stormed, mut tally) = (stormed?, checked?);
            let [p50, p95, p99] = percentiles(&mut tally);
            let slowest = tally.latencies.percentile(100.0);
            let refused = stormed.refused as f64 / stormed.measured.as_secs_f64();
            Ok(vec![p95, p50, p99, slowest, stormed.per_second(), refused])
        })?;
        Ok(Group { key: "storm".into(), title: what, columns, rows })
    }

    fn memory(&self) -> Group {
        let columns = vec![
            Column::less("at_rest_mib", "at rest MiB", 1),
            Column::less("after_load_mib", "after load MiB", 1),
            Column::less("database_mib", "database server MiB", 1),
        ];
        let row = |player: &Player| {
            let mut row = Row::new(player.key, player.title, columns.len());
            let database = player.server.database_mib().unwrap_or(f64::NAN);
            row.add(&[player.memory_at_rest, player.server.resident_mib(), database]);
            row
        };
        let rows = self.players.iter().map(row).collect();
        let title = "Memory of the server (VmRSS)".to_owned();
        Group { key: "memory".into(), title, columns, rows }
    }

    /// Measures all sides round by round, each round beginning with another one.
    fn in_turns(
        &mut self,
        what: &str,
        columns: &[Column],
        rounds: u32,
        only_sign_ins: bool,
        mut measure: impl FnMut(&mut Field<'a>, usize) -> Result<Vec<f64>, String>,
    ) -> Result<Vec<Row>, String> {
        let taking_part: Vec<usize> =
            (0..self.players.len()).filter(|&at| self.players[at].signs_in || !only_sign_ins).collect();
        let mut rows: Vec<Row> = taking_part
            .iter()
            .map(|&at| Row::new(self.players[at].key, self.players[at].title, columns.len()))
            .collect();
        for round in 0..rounds {
            for turn in turns(round, taking_part.len()) {
                let at = taking_part[turn];
                let title = self.players[at].title;
                say(&format!("{what}, round {}: {title}", round + 1));
                let values = measure(self, at).map_err(|error| format!("{title}: {error}"));
                self.players[at].server.check_alive()?;
                rows[turn].add(&values?);
            }
        }
        Ok(rows)
    }

    /// The tally and the processor time that the server took for it.
    fn check_at_full_speed(
        &mut self,
        at: usize,
        connections: usize,
        measured: Duration,
    ) -> Result<(Tally, Duration), String> {
        let span = self.span(at, connections, measured);
        let mut checks = self.checks(at);
        let before = self.players[at].server.processor_time();
        let tally = closed_loop(span, &mut checks)?;
        Ok((tally, self.players[at].server.processor_time() - before))
    }

    fn check_steadily(&mut self, at: usize) -> Result<Tally, String> {
        // The first second is not counted: the storm is rising.
        let warm_up = Duration::from_secs(1);
        let span = Span { warm_up, ..self.span(at, 64, self.storm_time() - warm_up) };
        open_loop(span, CHECKS_PER_SECOND, &mut self.checks(at))
    }

    fn checks(&mut self, at: usize) -> SessionChecks<'a> {
        let draw = self.next_draw();
        let player = &self.players[at];
        let checks = SessionChecks::new(self.cookies, player.server.address, draw);
        if player.signs_in { checks } else { checks.answered_alike() }
    }

    fn span(&self, at: usize, connections: usize, measured: Duration) -> Span {
        let address = self.players[at].server.address;
        Span { address, connections, warm_up: Duration::from_millis(500), measured }
    }

    fn next_draw(&mut self) -> u64 {
        self.draw += 1;
        self.draw << 32
    }

    fn storms(&self) -> u32 {
        self.options.rounds().min(MOST_STORMS)
    }

    fn storm_time(&self) -> Duration {
        self.options.storm() + Duration::from_secs(1)
    }
}

fn steady_columns() -> Vec<Column> {
    vec![
        Column::less("p95_ms", "p95 ms", 2),
        Column::less("p50_ms", "p50 ms", 2),
        Column::less("p99_ms", "p99 ms", 2),
        Column::less("max_ms", "max ms", 1),
    ]
}

fn percentiles(tally: &mut Tally) -> [f64; 3] {
    [50.0, 95.0, 99.0].map(|percent| tally.latencies.percentile(percent))
}

/// What the measures should take, three times over.
fn time_limit(options: &Options, sides: usize) -> Duration {
    let round = options.round() + Duration::from_secs(1);
    let storm = options.storm() + Duration::from_secs(2);
    let planned = round * options.rounds() * 3 + storm * MOST_STORMS * 2 + Duration::from_secs(20);
    planned * sides as u32 * 3
}
