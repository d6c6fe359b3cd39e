//! What a debit costs as the ledger grows, and as its owner has more grants.

use crate::cache::{Cache, copy_database};
use crate::credits::Found;
use crate::credits::ledger::{InProcess, fill, grant};
use crate::credits::load::{Load, owners};
use crate::credits::options::{Accounts, Options, SideName};
use crate::report::{Bar, Better, Column, Group, Row};
use crate::rounds::{say, turns};
use crate::seed;
use crate::tollgate::sqlite_url;
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const CALLERS: [u32; 2] = [1, 32];
/// More than any machine makes in a second; decides how much an owner of many lots is given.
const DEBITS_A_SECOND: i64 = 60_000;

struct Size {
    number: u32,
    key: &'static str,
    title: &'static str,
}

const ENTRIES: [Size; 3] = [
    Size { number: 10_000, key: "10k-entries", title: "10 000 entries" },
    Size { number: 1_000_000, key: "1m-entries", title: "1 000 000 entries" },
    Size { number: 10_000_000, key: "10m-entries", title: "10 000 000 entries" },
];
const LOTS: [Size; 3] = [
    Size { number: 1, key: "1-lot", title: "1 grant" },
    Size { number: 100, key: "100-lots", title: "100 grants" },
    Size { number: 10_000, key: "10k-lots", title: "10 000 grants" },
];

pub fn measure(options: &Options, cache: &Cache, runtime: &Runtime) -> Result<Found, String> {
    let mut found = Found::default();
    if !options.wants_side(SideName::TollgateSqlite) {
        return Ok(found);
    }
    let sizes = if options.quick { &ENTRIES[..2] } else { &ENTRIES[..] };
    let everybody = owners();
    let mut ledgers = Vec::new();
    for size in sizes {
        let ledger = filled(cache, runtime, &everybody, size)?;
        ledgers.push(Entrant { size, ledger, owners: everybody.clone(), accounts: Accounts::Random });
    }
    // Nobody's accounts are in memory at first.
    let warm_up = Duration::from_secs(2);
    found.add(compare(options, runtime, &ledgers, "entries", warm_up, 1.3)?);
    drop(ledgers);

    let mut ledgers = Vec::new();
    for size in &LOTS {
        let ledger = with_lots(options, cache, runtime, size)?;
        let owner: Arc<[String]> = Arc::new([everybody[0].clone()]);
        ledgers.push(Entrant { size, ledger, owners: owner, accounts: Accounts::Hot });
    }
    found.add(compare(options, runtime, &ledgers, "lots", Duration::from_millis(500), 2.0)?);
    Ok(found)
}

struct Entrant<'a> {
    size: &'a Size,
    ledger: InProcess,
    owners: Arc<[String]>,
    accounts: Accounts,
}

/// The bar is the median latency of the largest over the smallest.
fn compare(
    options: &Options,
    runtime: &Runtime,
    entrants: &[Entrant<'_>],
    what: &str,
    first_warm_up: Duration,
    wanted: f64,
) -> Result<Found, String> {
    let mut found = Found::default();
    let columns = vec![
        Column::less("p50_ms", "p50 ms", 3),
        Column::less("p99_ms", "p99 ms", 3),
        Column::more("per_second", "debits/s", 0),
    ];
    let mut number = 0;
    let mut debit = |entrant: &Entrant<'_>, callers: u32, warm_up: Duration, measured: Duration| {
        number += 1;
        let load = Load { accounts: entrant.accounts, callers, warm_up, measured, number };
        let tally = entrant.ledger.debit_at_full_speed(runtime, &load, &entrant.owners);
        tally.map_err(|error| format!("{}: {error}", entrant.size.title))
    };
    for entrant in entrants {
        debit(entrant, 32, Duration::ZERO, first_warm_up)?;
    }
    for callers in CALLERS {
        let mut rows: Vec<Row> = entrants
            .iter()
            .map(|entrant| Row::new(entrant.size.key, entrant.size.title, columns.len()))
            .collect();
        for round in 0..options.rounds() {
            for at in turns(round, entrants.len()) {
                say(&format!("{callers} callers, round {}: {}", round + 1, rows[at].title));
                let mut tally = debit(&entrants[at], callers, Duration::from_millis(500), options.round())?;
                let [p50, p99] = [50.0, 99.0].map(|percent| tally.latencies.percentile(percent));
                rows[at].add(&[p50, p99, tally.per_second()]);
            }
        }
        let key = format!("growth_{what}_{callers}");
        let title = format!("debits on SQLite by {what}, {callers} callers");
        let group = Group { key, title, columns: columns.clone(), rows };
        if let (Some(least), Some(most)) = (entrants.first(), entrants.last())
            && let Some(ratio) = group.ratio(most.size.key, least.size.key)
        {
            let what = format!("{callers} callers, median of {} ÷ {}", most.size.title, least.size.title);
            found.bars.push(Bar { what, found: ratio, wanted, better: Better::Less });
        }
        found.groups.push(group);
    }
    Ok(found)
}

/// A ledger of so many entries with a key for each, from the cache.
fn filled(cache: &Cache, runtime: &Runtime, owners: &[String], size: &Size) -> Result<InProcess, String> {
    let fingerprint = seed::fingerprint(&[&seed::schema_text()?, b"ledger"]);
    let seed = cache.sqlite("ledger", size.number, &fingerprint, |file| {
        say(&format!("filling a ledger of {}", size.title));
        let url = sqlite_url(file);
        let began = Instant::now();
        fill(runtime, &url, owners, size.number)?;
        say(&format!("{} in {:.0} s", size.title, began.elapsed().as_secs_f64()));
        wait_for_checkpoint(file).map_err(|error| format!("{}: {error}", file.display()))
    })?;
    let file = cache.run_file(&format!("{}.db", size.key));
    copy_database(&seed, &file)?;
    // What is still to be written to the disk would slow the first rounds.
    std::fs::File::open(&file)
        .and_then(|file| file.sync_all())
        .map_err(|error| format!("{}: {error}", file.display()))?;
    InProcess::open(runtime, &sqlite_url(&file))
}

/// The ledger that has filled the file ends a little later than its last handle.
fn wait_for_checkpoint(file: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open(file)?;
    connection.execute_batch("PRAGMA busy_timeout = 10000")?;
    let began = Instant::now();
    loop {
        let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy == 0 {
            return Ok(());
        }
        if began.elapsed() > Duration::from_secs(30) {
            return Err(rusqlite::Error::InvalidQuery);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A ledger with one owner, who has so many grants and, together, enough for the whole run.
fn with_lots(options: &Options, cache: &Cache, runtime: &Runtime, size: &Size) -> Result<InProcess, String> {
    let seconds = (options.round().as_secs() + 1) * (u64::from(options.rounds()) + 1) * CALLERS.len() as u64;
    let all = DEBITS_A_SECOND * seconds as i64;
    let file = cache.run_file(&format!("{}.db", size.key));
    let ledger = InProcess::open(runtime, &sqlite_url(&file))?;
    let owner = &owners()[0];
    let lot = (all / i64::from(size.number)).max(1);
    let grants = (0..size.number).map(|_| grant(owner, lot)).collect();
    runtime.block_on(ledger.submit_in_batches(grants))?;
    Ok(ledger)
}
