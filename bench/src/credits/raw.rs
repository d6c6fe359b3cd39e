//! What SQLite itself gives: one thread that debits without asking anybody, 32 debits a commit.

use crate::credits::load::{Load, PLENTY, Tally};
use crate::latency::Latencies;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const A_COMMIT: usize = 32;

const SCHEMA: &str = "
    CREATE TABLE account (id TEXT PRIMARY KEY, balance BIGINT NOT NULL) WITHOUT ROWID;
    CREATE TABLE entry (
      id INTEGER PRIMARY KEY,
      account_id TEXT NOT NULL,
      amount BIGINT NOT NULL,
      balance_after BIGINT NOT NULL,
      created_at BIGINT NOT NULL,
      idempotency_key TEXT NOT NULL UNIQUE
    );";
const TAKE: &str =
    "UPDATE account SET balance = balance - ?1 WHERE id = ?2 AND balance >= ?1 RETURNING balance";
const NOTE: &str = "
    INSERT INTO entry (account_id, amount, balance_after, created_at, idempotency_key) VALUES (?1, ?2, ?3, ?4, ?5)";

pub struct RawSqlite {
    connection: Connection,
}

impl RawSqlite {
    pub fn open(file: &Path, owners: &[String]) -> Result<RawSqlite, String> {
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(file)?;
            settings(&connection)?;
            connection.execute_batch(SCHEMA)?;
            connection.execute_batch("BEGIN")?;
            {
                let mut add = connection.prepare("INSERT INTO account (id, balance) VALUES (?1, ?2)")?;
                for owner in owners {
                    add.execute((owner, PLENTY))?;
                }
            }
            connection.execute_batch("COMMIT")?;
            Ok(connection)
        };
        let connection = open().map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(RawSqlite { connection })
    }

    /// The latency of a debit is that of its commit.
    pub fn debit_at_full_speed(&self, load: &Load, owners: &Arc<[String]>) -> Result<Tally, String> {
        let begin = Instant::now() + load.warm_up;
        let end = begin + load.measured;
        let mut draw = load.draw(owners, 0);
        let mut latencies = Latencies::with_room_for(1_000_000);
        loop {
            let since = Instant::now();
            if since >= end {
                return Ok(Tally { latencies, measured: load.measured });
            }
            self.debit_together(&mut draw).map_err(|error| error.to_string())?;
            let now = Instant::now();
            if (begin..end).contains(&now) {
                (0..A_COMMIT).for_each(|_| latencies.record(now - since));
            }
        }
    }

    fn debit_together(&self, draw: &mut crate::credits::load::Draw) -> rusqlite::Result<()> {
        let run = |sql| self.connection.prepare_cached(sql)?.execute([]).map(drop);
        run("BEGIN IMMEDIATE")?;
        let mut take = self.connection.prepare_cached(TAKE)?;
        let mut note = self.connection.prepare_cached(NOTE)?;
        for _ in 0..A_COMMIT {
            let key = draw.key();
            let owner = draw.owner();
            let balance: i64 = take.query_row((1, owner), |row| row.get(0))?;
            note.execute((owner, -1, balance, 1_767_225_600_000_i64, key))?;
        }
        run("COMMIT")
    }
}

/// Those of the store's writer (`crates/store/src/sqlite.rs`).
fn settings(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    for (name, value) in
        [("synchronous", "2"), ("foreign_keys", "1"), ("temp_store", "2"), ("cache_size", "-16384")]
    {
        connection.pragma_update(None, name, value)?;
    }
    connection.pragma_update_and_check(None, "wal_autocheckpoint", "8000", |_| Ok(()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credits::options::Accounts;
    use std::time::Duration;

    #[test]
    fn every_debit_is_taken_and_noted() {
        let file = std::env::temp_dir().join(format!("tollgate-bench-raw-{}.db", std::process::id()));
        let owners: Arc<[String]> = (0..3).map(|number| number.to_string()).collect();
        let raw = RawSqlite::open(&file, &owners).unwrap();
        let load = Load {
            accounts: Accounts::Random,
            callers: 1,
            warm_up: Duration::ZERO,
            measured: Duration::from_millis(20),
            number: 1,
        };
        let tally = raw.debit_at_full_speed(&load, &owners).unwrap();
        let count = |sql| raw.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        let noted = count("SELECT COUNT(*) FROM entry");
        assert!(noted >= tally.latencies.count() as i64);
        assert_eq!(count("SELECT SUM(balance) FROM account"), 3 * PLENTY - noted);
        drop(raw);
        for ending in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{ending}", file.display()));
        }
    }
}
