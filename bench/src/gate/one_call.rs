//! One call with a charge beside a session check and then a debit by the same caller.

use crate::gate::Found;
use crate::gate::crowd::Crowd;
use crate::gate::field::Field;
use crate::gate::options::{Options, SideName};
use crate::gate::requests::{Asked, Authorize, TwoCalls};
use crate::report::{Bar, Better, Column, Group, Row};
use crate::rounds::{say, turns};
use std::time::Duration;

/// One caller after the other, and as many as a busy backend has under way.
const CONNECTIONS: [usize; 2] = [1, 64];
const WANTED: f64 = 0.6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    OneCall,
    TwoCalls,
}

pub fn measure(options: &Options, field: &mut Field, crowd: &Crowd) -> Result<Found, String> {
    let mut found = Found::default();
    for connections in CONNECTIONS {
        let group = at_connections(options, field, crowd, connections)?;
        found.1.extend(bars(&group, connections));
        found.0.push(group);
    }
    Ok(found)
}

fn at_connections(
    options: &Options,
    field: &mut Field,
    crowd: &Crowd,
    connections: usize,
) -> Result<Group, String> {
    let columns = vec![
        Column::less("p50_ms", "p50 ms", 3),
        Column::less("p99_ms", "p99 ms", 3),
        Column::more("per_second", "operations/s", 0),
        Column::less("cpu_us", "CPU µs each", 1),
    ];
    let entrants: Vec<(usize, Way)> = field
        .direct()
        .into_iter()
        .flat_map(|at| [Way::OneCall, Way::TwoCalls].map(|way| (at, way)))
        .collect();
    let mut rows: Vec<Row> = entrants
        .iter()
        .map(|&(at, way)| {
            let (key, title) = names(field.players[at].side, way);
            Row::new(key, title, columns.len())
        })
        .collect();
    for &(at, way) in &entrants {
        load(field, crowd, at, way, connections, Duration::from_secs(1))?;
    }
    for round in 0..options.rounds() {
        for turn in turns(round, entrants.len()) {
            let (at, way) = entrants[turn];
            say(&format!("{connections} connection(s), round {}: {}", round + 1, rows[turn].title));
            let figures = load(field, crowd, at, way, connections, options.round());
            let figures = figures.map_err(|error| format!("{}: {error}", rows[turn].title))?;
            rows[turn].add(&figures);
        }
    }
    let connected =
        if connections == 1 { "1 connection".to_owned() } else { format!("{connections} connections") };
    let title = format!("a session and a credit: one call beside two, {connected}");
    Ok(Group { key: format!("one_call_{connections}"), title, columns, rows })
}

/// Median and 99th percentile in milliseconds, operations a second, processor time for each in microseconds.
fn load(
    field: &mut Field,
    crowd: &Crowd,
    at: usize,
    way: Way,
    connections: usize,
    measured: Duration,
) -> Result<[f64; 4], String> {
    let (address, number) = (field.address(at), field.next_load());
    let service_key = field.players[at].service_key.clone().unwrap_or_default();
    let (mut tally, processor) = match way {
        Way::OneCall => {
            let mut calls = Authorize::new(crowd, Asked::Random, address, Some(&service_key), number);
            field.closed_loop(at, connections, measured, &mut calls)?
        }
        Way::TwoCalls => {
            let mut calls = TwoCalls::new(crowd, address, &service_key, number);
            field.closed_loop(at, connections, measured, &mut calls)?
        }
    };
    let [p50, p99] = [50.0, 99.0].map(|percent| tally.latencies.percentile(percent));
    Ok([p50, p99, tally.per_second(), processor.as_secs_f64() * 1e6 / tally.total as f64])
}

fn bars(group: &Group, connections: usize) -> Vec<Bar> {
    let bar = |side| {
        let ((one, _), (two, _)) = (names(side, Way::OneCall), names(side, Way::TwoCalls));
        let what = format!("{connections} connection(s), median time, {one} ÷ {two}");
        Some(Bar { what, found: group.ratio(one, two)?, wanted: WANTED, better: Better::Less })
    };
    [SideName::TollgateSqlite, SideName::TollgatePostgres].into_iter().filter_map(bar).collect()
}

/// Key and title of a row; only Tollgate is asked both ways.
fn names(side: SideName, way: Way) -> (&'static str, &'static str) {
    let on_postgres = side == SideName::TollgatePostgres;
    match (on_postgres, way) {
        (false, Way::OneCall) => ("sqlite-one-call", "Tollgate on SQLite, authorize with a charge"),
        (false, Way::TwoCalls) => ("sqlite-two-calls", "Tollgate on SQLite, get-session, then a debit"),
        (true, Way::OneCall) => ("postgres-one-call", "Tollgate on PostgreSQL, authorize with a charge"),
        (true, Way::TwoCalls) => ("postgres-two-calls", "Tollgate on PostgreSQL, get-session, then a debit"),
    }
}
