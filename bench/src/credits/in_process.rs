//! Debits in this process: the ledger on both engines beside bare statements on the same disk.

use crate::cache::Cache;
use crate::credits::Found;
use crate::credits::ledger::InProcess;
use crate::credits::load::{Load, Tally, owners};
use crate::credits::naive::NaivePostgres;
use crate::credits::options::{Accounts, Options, SideName};
use crate::credits::raw::RawSqlite;
use crate::postgres::Postgres;
use crate::report::{Bar, Better, Column, Group, Row};
use crate::rounds::{say, turns};
use crate::tollgate::sqlite_url;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The bars are for so many callers.
const JUDGED_CALLERS: u32 = 32;

/// `(side, other, wanted)`: the side's debits a second over the other's.
const BARS: [(&str, &str, f64); 6] = [
    ("tollgate-sqlite-hot", "raw-sqlite-hot", 0.6),
    ("tollgate-sqlite-random", "raw-sqlite-random", 0.6),
    ("tollgate-sqlite-hot", "tollgate-sqlite-random", 0.9),
    ("tollgate-postgres-hot", "tollgate-postgres-random", 0.9),
    ("tollgate-postgres-hot", "naive-postgres-hot", 5.0),
    ("tollgate-postgres-random", "naive-postgres-random", 1.5),
];

enum Side {
    Ledger(InProcess),
    Raw(RawSqlite),
    Naive(NaivePostgres),
}

impl Side {
    fn debit(&self, runtime: &Runtime, load: &Load, owners: &Arc<[String]>) -> Result<Tally, String> {
        match self {
            Side::Ledger(ledger) => ledger.debit_at_full_speed(runtime, load, owners),
            Side::Raw(raw) => raw.debit_at_full_speed(load, owners),
            Side::Naive(naive) => naive.debit_at_full_speed(runtime, load, owners),
        }
    }
}

pub fn measure(options: &Options, cache: &Cache, runtime: &Runtime) -> Result<Found, String> {
    let owners = owners();
    let postgres = match [SideName::TollgatePostgres, SideName::NaivePostgres]
        .iter()
        .any(|&side| options.wants_side(side))
    {
        true => Some(Postgres::start(&cache.folder("postgres"), &cache.run_file("postgres.log"))?),
        false => None,
    };
    let mut found = Found::default();
    found.versions.insert("sqlite".into(), json!(rusqlite::version()));
    if let Some(postgres) = &postgres {
        found.versions.insert("postgres".into(), json!(postgres.version()?));
    }
    let sides = sides(options, cache, runtime, postgres.as_ref(), &owners)?;
    let entrants: Vec<(&Side, SideName, Accounts)> = sides
        .iter()
        .flat_map(|(name, side)| options.accounts.iter().map(move |&accounts| (side, *name, accounts)))
        .collect();
    let columns = vec![
        Column::more("per_second", "debits/s", 0),
        Column::less("p50_ms", "p50 ms", 3),
        Column::less("p99_ms", "p99 ms", 3),
    ];
    let mut number = 0;
    for &callers in &options.callers {
        let title = format!("debits in process, {callers} callers (the raw loop has none)");
        let mut rows: Vec<Row> = entrants
            .iter()
            .map(|&(_, side, accounts)| {
                let (key, title) = names(side, accounts);
                Row::new(key, title, columns.len())
            })
            .collect();
        for round in 0..options.rounds() {
            for at in turns(round, entrants.len()) {
                let (side, _, accounts) = entrants[at];
                say(&format!("{callers} callers, round {}: {}", round + 1, rows[at].title));
                number += 1;
                let warm_up = Duration::from_millis(500);
                let load = Load { accounts, callers, warm_up, measured: options.round(), number };
                let tally = side.debit(runtime, &load, &owners);
                let mut tally = tally.map_err(|error| format!("{}: {error}", rows[at].title))?;
                let [p50, p99] = [50.0, 99.0].map(|percent| tally.latencies.percentile(percent));
                rows[at].add(&[tally.per_second(), p50, p99]);
            }
        }
        let group = Group { key: format!("in_process_{callers}"), title, columns: columns.clone(), rows };
        if callers == JUDGED_CALLERS {
            found.bars = bars(&group);
        }
        found.groups.push(group);
    }
    Ok(found)
}

fn sides(
    options: &Options,
    cache: &Cache,
    runtime: &Runtime,
    postgres: Option<&Postgres>,
    owners: &[String],
) -> Result<Vec<(SideName, Side)>, String> {
    let mut sides = Vec::new();
    if options.wants_side(SideName::TollgateSqlite) {
        let ledger = InProcess::open(runtime, &sqlite_url(&cache.run_file("ledger.db")))?;
        ledger.grant_plenty(runtime, owners)?;
        sides.push((SideName::TollgateSqlite, Side::Ledger(ledger)));
    }
    if options.wants_side(SideName::RawSqlite) {
        let raw = RawSqlite::open(&cache.run_file("raw.db"), owners)?;
        sides.push((SideName::RawSqlite, Side::Raw(raw)));
    }
    if let Some(postgres) = postgres {
        if options.wants_side(SideName::TollgatePostgres) {
            let database = "run_ledger";
            postgres.drop_database(database)?;
            postgres.create_database(database, "template1")?;
            let ledger = InProcess::open(runtime, &postgres.url(database))?;
            ledger.grant_plenty(runtime, owners)?;
            postgres.sql(database, &["VACUUM (ANALYZE)"])?;
            sides.push((SideName::TollgatePostgres, Side::Ledger(ledger)));
        }
        if options.wants_side(SideName::NaivePostgres) {
            let most = options.callers.iter().copied().max().unwrap_or(1);
            let naive = NaivePostgres::open(runtime, postgres, "run_naive", owners, most)?;
            sides.push((SideName::NaivePostgres, Side::Naive(naive)));
        }
    }
    Ok(sides)
}

fn names(side: SideName, accounts: Accounts) -> (&'static str, &'static str) {
    match (side, accounts) {
        (SideName::TollgateSqlite, Accounts::Hot) => ("tollgate-sqlite-hot", "Tollgate on SQLite, hot"),
        (SideName::TollgateSqlite, Accounts::Random) => {
            ("tollgate-sqlite-random", "Tollgate on SQLite, random")
        }
        (SideName::TollgatePostgres, Accounts::Hot) => {
            ("tollgate-postgres-hot", "Tollgate on PostgreSQL, hot")
        }
        (SideName::TollgatePostgres, Accounts::Random) => {
            ("tollgate-postgres-random", "Tollgate on PostgreSQL, random")
        }
        (SideName::RawSqlite, Accounts::Hot) => ("raw-sqlite-hot", "raw loop on SQLite, hot"),
        (SideName::RawSqlite, Accounts::Random) => ("raw-sqlite-random", "raw loop on SQLite, random"),
        (SideName::NaivePostgres, Accounts::Hot) => {
            ("naive-postgres-hot", "naive statement on PostgreSQL, hot")
        }
        (SideName::NaivePostgres, Accounts::Random) => {
            ("naive-postgres-random", "naive statement on PostgreSQL, random")
        }
    }
}

fn bars(group: &Group) -> Vec<Bar> {
    let bar = |&(side, other, wanted): &(&str, &str, f64)| {
        let found = group.ratio(side, other)?;
        let what = format!("{JUDGED_CALLERS} callers, {side} ÷ {other}");
        Some(Bar { what, found, wanted, better: Better::More })
    };
    BARS.iter().filter_map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn every_bar_names_sides_that_there_are() {
        let known: Vec<&str> = SideName::value_variants()
            .iter()
            .flat_map(|&side| Accounts::value_variants().iter().map(move |&accounts| names(side, accounts).0))
            .collect();
        for (side, other, _) in BARS {
            assert!(known.contains(&side) && known.contains(&other), "{side} {other}");
        }
    }
}
