//! The one call at full speed: without and with a charge, beside `/healthz`, and beside a Node backend that asks Better
//! Auth and debits by itself.

use crate::credits::over_http::Health;
use crate::gate::Found;
use crate::gate::crowd::Crowd;
use crate::gate::field::Field;
use crate::gate::options::{Options, SideName};
use crate::gate::requests::{Asked, Authorize};
use crate::report::{Bar, Better, Column, Group, Row};
use crate::rounds::{say, turns};
use std::time::Duration;

const CONNECTIONS: usize = 64;

/// What each load asks for; nothing is `/healthz`.
type Task = Option<Asked>;
const AT_TOLLGATE: [Task; 4] = [None, Some(Asked::Session), Some(Asked::Random), Some(Asked::Hot)];
const AT_A_BACKEND: [Task; 3] = [Some(Asked::Session), Some(Asked::Random), Some(Asked::Hot)];

pub fn measure(options: &Options, field: &mut Field, crowd: &Crowd) -> Result<Found, String> {
    let entrants: Vec<(usize, Task)> = (0..field.players.len())
        .flat_map(|at| {
            let tasks = if field.players[at].by_backend { &AT_A_BACKEND[..] } else { &AT_TOLLGATE[..] };
            tasks.iter().map(move |&task| (at, task))
        })
        .collect();
    let columns = columns();
    let mut rows: Vec<Row> = entrants
        .iter()
        .map(|&(at, task)| {
            let player = &field.players[at];
            let (key, title) = names(player.side, player.by_backend, task);
            Row::new(key, title, columns.len())
        })
        .collect();
    for (&(at, task), row) in entrants.iter().zip(&rows) {
        say(&format!("warming up: {}", row.title));
        load(field, crowd, at, task, Duration::from_secs(1))?;
    }
    for round in 0..options.rounds() {
        for turn in turns(round, entrants.len()) {
            let (at, task) = entrants[turn];
            say(&format!("authorize, round {}: {}", round + 1, rows[turn].title));
            let figures = load(field, crowd, at, task, options.round());
            let figures = figures.map_err(|error| format!("{}: {error}", rows[turn].title))?;
            rows[turn].add(&figures);
        }
    }
    let groups: Vec<Group> = [Asked::Session, Asked::Random, Asked::Hot]
        .into_iter()
        .map(|asked| {
            let of =
                entrants.iter().zip(&rows).filter(|((_, task), _)| task.is_none_or(|task| task == asked));
            let (key, title) = of_group(asked);
            let title = format!("{title}, {CONNECTIONS} connections");
            Group {
                key: key.into(),
                title,
                columns: columns.clone(),
                rows: of.map(|(_, row)| row.clone()).collect(),
            }
        })
        .collect();
    let bars = bars(&groups);
    Ok((groups, bars))
}

/// Requests a second, median and 99th percentile in milliseconds, processor time for each in microseconds.
fn load(
    field: &mut Field,
    crowd: &Crowd,
    at: usize,
    task: Task,
    measured: Duration,
) -> Result<[f64; 4], String> {
    let (address, number) = (field.address(at), field.next_load());
    let (mut tally, processor) = match task {
        None => field.closed_loop(at, CONNECTIONS, measured, &mut Health(address))?,
        Some(asked) => {
            let service_key = field.players[at].service_key.clone();
            let mut calls = Authorize::new(crowd, asked, address, service_key.as_deref(), number);
            field.closed_loop(at, CONNECTIONS, measured, &mut calls)?
        }
    };
    let [p50, p99] = [50.0, 99.0].map(|percent| tally.latencies.percentile(percent));
    Ok([tally.per_second(), p50, p99, processor.as_secs_f64() * 1e6 / tally.total as f64])
}

fn columns() -> Vec<Column> {
    vec![
        Column::more("per_second", "requests/s", 0),
        Column::less("p50_ms", "p50 ms", 3),
        Column::less("p99_ms", "p99 ms", 3),
        Column::less("cpu_us", "CPU µs each", 1),
    ]
}

fn of_group(asked: Asked) -> (&'static str, &'static str) {
    match asked {
        Asked::Session => ("authorize", "authorize without a charge"),
        Asked::Random => ("authorize_random", "authorize with a charge, people at random"),
        Asked::Hot => ("authorize_hot", "authorize with a charge, always the same person"),
    }
}

/// On SQLite, as shares of its own /healthz.
fn bars(groups: &[Group]) -> Vec<Bar> {
    let wanted = [(Asked::Session, 0.4), (Asked::Random, 0.25), (Asked::Hot, 0.25)];
    let bar = |(group, (asked, wanted)): (&Group, (Asked, f64))| {
        let (side, _) = names(SideName::TollgateSqlite, false, Some(asked));
        let (healthz, _) = names(SideName::TollgateSqlite, false, None);
        let found = group.ratio(side, healthz)?;
        let what = format!("{CONNECTIONS} connections, requests/s, {side} ÷ {healthz}");
        Some(Bar { what, found, wanted, better: Better::More })
    };
    groups.iter().zip(wanted).filter_map(bar).collect()
}

/// Key and title of a row.
fn names(side: SideName, by_backend: bool, task: Task) -> (&'static str, &'static str) {
    use SideName::{BetterAuth, TollgatePostgres, TollgateSqlite};
    match (side, by_backend, task) {
        (TollgateSqlite, false, None) => ("sqlite-healthz", "Tollgate on SQLite, /healthz"),
        (TollgateSqlite, false, Some(Asked::Session)) => {
            ("sqlite-authorize", "Tollgate on SQLite, authorize")
        }
        (TollgateSqlite, false, Some(Asked::Random)) => {
            ("sqlite-charge-random", "Tollgate on SQLite, authorize")
        }
        (TollgateSqlite, false, Some(Asked::Hot)) => ("sqlite-charge-hot", "Tollgate on SQLite, authorize"),
        (TollgatePostgres, _, None) => ("postgres-healthz", "Tollgate on PostgreSQL, /healthz"),
        (TollgatePostgres, _, Some(Asked::Session)) => {
            ("postgres-authorize", "Tollgate on PostgreSQL, authorize")
        }
        (TollgatePostgres, _, Some(Asked::Random)) => {
            ("postgres-charge-random", "Tollgate on PostgreSQL, authorize")
        }
        (TollgatePostgres, _, Some(Asked::Hot)) => {
            ("postgres-charge-hot", "Tollgate on PostgreSQL, authorize")
        }
        (TollgateSqlite, true, None | Some(Asked::Session)) => {
            ("backend-sqlite-authorize", "Node backend before Tollgate on SQLite")
        }
        (TollgateSqlite, true, Some(Asked::Random)) => {
            ("backend-sqlite-charge-random", "Node backend before Tollgate on SQLite")
        }
        (TollgateSqlite, true, Some(Asked::Hot)) => {
            ("backend-sqlite-charge-hot", "Node backend before Tollgate on SQLite")
        }
        (BetterAuth, _, None | Some(Asked::Session)) => {
            ("backend-better-auth", "Node backend before Better Auth")
        }
        (BetterAuth, _, Some(Asked::Random)) => {
            ("backend-better-auth-debit-random", "Node backend before Better Auth, debits by itself")
        }
        (BetterAuth, _, Some(Asked::Hot)) => {
            ("backend-better-auth-debit-hot", "Node backend before Better Auth, debits by itself")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_keys_of_their_own_and_bars_find_them() {
        use SideName::{BetterAuth, TollgatePostgres, TollgateSqlite};
        let direct = [TollgateSqlite, TollgatePostgres]
            .into_iter()
            .flat_map(|side| AT_TOLLGATE.map(|task| names(side, false, task).0));
        let backends = [TollgateSqlite, BetterAuth]
            .into_iter()
            .flat_map(|side| AT_A_BACKEND.map(|task| names(side, true, task).0));
        let keys: std::collections::BTreeSet<_> = direct.chain(backends).collect();
        assert_eq!(keys.len(), 14);
        let row = |task, rate| {
            let (key, title) = names(TollgateSqlite, false, task);
            let mut row = Row::new(key, title, 4);
            row.add(&[rate, 1.0, 1.0, 1.0]);
            row
        };
        let group = |asked, rate| {
            let rows = vec![row(None, 100.0), row(Some(asked), rate)];
            Group { key: "k".into(), title: "t".into(), columns: columns(), rows }
        };
        let groups = [group(Asked::Session, 50.0), group(Asked::Random, 20.0), group(Asked::Hot, 30.0)];
        let met: Vec<bool> = bars(&groups).iter().map(Bar::is_met).collect();
        assert_eq!(met, [true, false, true]);
    }
}
