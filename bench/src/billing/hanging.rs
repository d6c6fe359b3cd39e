//! Checkouts that hang at Stripe: whoever only asks for a session does not notice, and whoever buys is told in time.

use super::options::{Options, SideName};
use super::shop::Shop;
use crate::credits::over_http::Client;
use crate::load::{Span, Tally, open_loop};
use crate::people::{Cookies, SessionChecks};
use crate::report::{Bar, Better, Column, Group, Row};
use crate::rounds::say;
use std::time::{Duration, Instant};
use till::Fault;

const CHECKS_PER_SECOND: u32 = 500;
const CONNECTIONS: usize = 64;
const CHECKOUTS: u32 = 100;
const WANTED_MS: f64 = 50.0;
const WANTED_TOLD_SECONDS: f64 = 10.0;

pub fn group(options: &Options) -> Group {
    let columns = vec![
        Column::less("p95_ms", "p95 ms", 2),
        Column::less("p50_ms", "p50 ms", 2),
        Column::less("p99_ms", "p99 ms", 2),
        Column::less("max_ms", "max ms", 1),
        Column::less("told_s", "buyers told after s", 1),
    ];
    let title = format!(
        "session checks at {CHECKS_PER_SECOND}/s (open loop) while {CHECKOUTS} checkouts hang at Stripe, {} sessions",
        options.rows()
    );
    Group { key: "hanging".into(), title, columns, rows: Vec::new() }
}

pub fn measure(options: &Options, shop: &mut Shop, name: SideName) -> Result<(Vec<Row>, Vec<Bar>), String> {
    let (alone, hung) = match name {
        SideName::TollgateSqlite => ("sqlite-alone", "sqlite-hanging"),
        SideName::TollgatePostgres => ("postgres-alone", "postgres-hanging"),
    };
    let (alone_title, hung_title) = match name {
        SideName::TollgateSqlite => ("Tollgate on SQLite, alone", "Tollgate on SQLite, 100 hang"),
        SideName::TollgatePostgres => ("Tollgate on PostgreSQL, alone", "Tollgate on PostgreSQL, 100 hang"),
    };
    let cookies = Cookies::of(options.rows());
    let check = |round: u64| {
        let span = Span {
            address: shop.backend.address,
            connections: CONNECTIONS,
            warm_up: Duration::from_secs(1),
            measured: options.checked(),
        };
        open_loop(
            span,
            CHECKS_PER_SECOND,
            &mut SessionChecks::new(&cookies, shop.backend.address, round << 32),
        )
    };
    say(&format!("{}: session checks, alone", name.title()));
    let mut rows = vec![row(alone, alone_title, check(1)?, f64::NAN)];
    say(&format!("{}: session checks while {CHECKOUTS} checkouts hang", name.title()));
    shop.till.fault(Fault::Silent, u32::MAX);
    // People whom Stripe does not know yet, so that the first call hangs already.
    let backend = &shop.backend;
    let ask = |person: u32| {
        let mut client = Client::connect(backend.address)?;
        let began = Instant::now();
        client.ask(&backend.checkout(person), 503)?;
        Ok::<_, String>(began.elapsed().as_secs_f64())
    };
    let (told, checked) = std::thread::scope(|scope| {
        let first = options.rows() - CHECKOUTS;
        let ask = &ask;
        let buyers: Vec<_> = (first..options.rows()).map(|person| scope.spawn(move || ask(person))).collect();
        let checked = check(2);
        let told = buyers.into_iter().try_fold(0.0_f64, |longest, buyer| {
            let told = buyer.join().unwrap_or_else(|_| Err("a buyer panicked".into()))?;
            Ok::<_, String>(longest.max(told))
        });
        (told, checked)
    });
    shop.till.clear_faults();
    let told = told?;
    rows.push(row(hung, hung_title, checked?, told));
    shop.server.check_alive()?;
    let bar = |what: &str, found, wanted| Bar {
        what: format!("{CHECKOUTS} checkouts hang, {what}, {}", name.key()),
        found,
        wanted,
        better: Better::Less,
    };
    let bars = vec![
        bar("p95 of session checks in ms", rows[1].rounds[0][0], WANTED_MS),
        bar("all buyers told after s", told, WANTED_TOLD_SECONDS),
    ];
    Ok((rows, bars))
}

fn row(key: &'static str, title: &'static str, mut tally: Tally, told: f64) -> Row {
    let [p50, p95, p99, max] = [50.0, 95.0, 99.0, 100.0].map(|percent| tally.latencies.percentile(percent));
    let mut row = Row::new(key, title, 5);
    row.add(&[p95, p50, p99, max, told]);
    row
}
