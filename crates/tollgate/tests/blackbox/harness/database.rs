//! The server's database, from behind: assertions on rows, moving times, and a dump to search for secrets.
//!
//! Everything is text, as the engines print it; booleans differ (`t`/`f`, `1`/`0`), so ask `CASE WHEN x THEN 1 ELSE 0 END`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::types::ValueRef;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::server::Engine;

pub type Row = Vec<Option<String>>;

/// A database of its own for one server, gone when dropped.
pub enum Database {
    Sqlite { folder: TempDir },
    Postgres { admin_url: String, name: String },
}

impl Database {
    pub fn create(engine: Engine) -> Database {
        match engine {
            Engine::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                Database::Sqlite { folder }
            }
            Engine::Postgres => {
                let admin_url = std::env::var("TOLLGATE_TEST_POSTGRES").expect(
                    "TOLLGATE_TEST_POSTGRES names a PostgreSQL: run `cargo xtask test`, or `cargo xtask services cargo test …`",
                );
                let name = fresh_name();
                // Not from template1: somebody may be connected to it.
                Postgres::connect(&admin_url)
                    .batch(&format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'"));
                Database::Postgres { admin_url, name }
            }
        }
    }

    /// As `database_url` of the configuration.
    pub fn url(&self) -> String {
        match self {
            Database::Sqlite { .. } => format!("sqlite://{}", self.file().display()),
            Database::Postgres { admin_url, name } => {
                let (server, _) = admin_url.rsplit_once('/').expect("the URL names a database");
                format!("{server}/{name}")
            }
        }
    }

    /// The SQLite file; there is none on PostgreSQL.
    pub fn file(&self) -> PathBuf {
        match self {
            Database::Sqlite { folder } => folder.path().join("tollgate.db"),
            Database::Postgres { name, .. } => panic!("{name} is no file"),
        }
    }

    /// Runs a statement and says how many rows it changed.
    #[track_caller]
    pub fn execute(&self, sql: &str) -> u64 {
        match self {
            Database::Sqlite { .. } => {
                let changed = self.open().execute(sql, []).unwrap_or_else(|error| panic!("{sql}: {error}"));
                changed as u64
            }
            Database::Postgres { .. } => Postgres::connect(&self.url()).run(sql).1,
        }
    }

    #[track_caller]
    pub fn rows(&self, sql: &str) -> Vec<Row> {
        match self {
            Database::Sqlite { .. } => {
                sqlite_rows(&self.open(), sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
            }
            Database::Postgres { .. } => Postgres::connect(&self.url()).run(sql).0,
        }
    }

    /// The first value of the first row.
    #[track_caller]
    pub fn value(&self, sql: &str) -> Option<String> {
        self.rows(sql).into_iter().next()?.into_iter().next()?
    }

    #[track_caller]
    pub fn integer(&self, sql: &str) -> i64 {
        let value = self.value(sql);
        let number = value.as_deref().and_then(|text| text.parse().ok());
        number.unwrap_or_else(|| panic!("{sql}: {value:?} is not an integer"))
    }

    /// Moves a time of the rows that fit: `shift("sessions", "expires_at", -60_000, "user_id = 'x'")`. Says how many.
    #[track_caller]
    pub fn shift(&self, table: &str, column: &str, milliseconds: i64, condition: &str) -> u64 {
        self.execute(&format!("UPDATE {table} SET {column} = {column} + ({milliseconds}) WHERE {condition}"))
    }

    pub fn tables(&self) -> Vec<String> {
        let sql = match self {
            Database::Sqlite { .. } => "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name",
            Database::Postgres { .. } => {
                "SELECT table_name FROM information_schema.tables \
                 WHERE table_schema = 'public' AND table_type = 'BASE TABLE' ORDER BY table_name"
            }
        };
        self.rows(sql).into_iter().flatten().flatten().collect()
    }

    /// Every row of every table, a line each; bytes also as the text they may hold.
    pub fn dump(&self) -> String {
        let mut dump = String::new();
        for table in self.tables() {
            for row in self.rows(&format!("SELECT * FROM \"{table}\"")) {
                let cells: Vec<String> = row.into_iter().map(readable).collect();
                dump.push_str(&format!("{table}: {}\n", cells.join(" | ")));
            }
        }
        dump
    }

    fn open(&self) -> rusqlite::Connection {
        let file = self.file();
        let connection =
            rusqlite::Connection::open(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        // The server may be writing.
        connection.busy_timeout(Duration::from_secs(10)).expect("a time limit can be set");
        connection
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Database::Postgres { admin_url, name } = self
            && !std::thread::panicking()
        {
            // A failed test's database stays for a look; the cluster is thrown away at the end.
            Postgres::connect(admin_url).batch(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

/// Text as an SQL literal, on both engines.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn fresh_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock stands after 1970");
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("blackbox_{}_{}_{count}", std::process::id(), since.as_millis())
}

fn readable(cell: Option<String>) -> String {
    let Some(text) = cell else { return "NULL".into() };
    let bytes = text.strip_prefix("\\x").and_then(|digits| {
        let pairs = digits
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        pairs.collect::<Option<Vec<u8>>>()
    });
    match bytes {
        Some(bytes) => format!("{text} {}", String::from_utf8_lossy(&bytes)),
        None => text,
    }
}

fn sqlite_rows(connection: &rusqlite::Connection, sql: &str) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let rows = statement
        .query_map([], |row| (0..columns).map(|column| Ok(sqlite_text(row.get_ref(column)?))).collect())?;
    rows.collect()
}

/// As PostgreSQL would print it.
fn sqlite_text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => {
            Some(bytes.iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}")))
        }
    }
}

/// One blocking PostgreSQL connection in the simple protocol: statements and answers are text.
struct Postgres {
    runtime: Runtime,
    client: Client,
}

impl Postgres {
    fn connect(url: &str) -> Postgres {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = runtime.block_on(async {
            let (client, connection) =
                tokio_postgres::connect(url, NoTls).await.unwrap_or_else(|error| panic!("{url}: {error}"));
            tokio::spawn(connection);
            client
        });
        Postgres { runtime, client }
    }

    fn batch(&self, sql: &str) {
        self.runtime
            .block_on(self.client.batch_execute(sql))
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    fn run(&self, sql: &str) -> (Vec<Row>, u64) {
        let messages = self
            .runtime
            .block_on(self.client.simple_query(sql))
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let (mut rows, mut changed) = (Vec::new(), 0);
        for message in messages {
            match message {
                SimpleQueryMessage::Row(row) => {
                    rows.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
                }
                SimpleQueryMessage::CommandComplete(count) => changed = count,
                _ => {}
            }
        }
        (rows, changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::on_both_engines;

    fn statements_rows_and_dumps_read_alike(engine: Engine) {
        let database = Database::create(engine);
        let bytes = if engine == Engine::Sqlite { "BLOB" } else { "BYTEA" };
        database
            .execute(&format!("CREATE TABLE things (id TEXT PRIMARY KEY, expires_at BIGINT, hash {bytes})"));
        assert_eq!(
            database.execute(&format!("INSERT INTO things VALUES ({}, 1000, NULL)", quoted("it's"))),
            1
        );
        let secret = if engine == Engine::Sqlite { "x'63616e617279'" } else { "'\\x63616e617279'" };
        database.execute(&format!("INSERT INTO things VALUES ('b', 2000, {secret})"));
        assert_eq!(database.shift("things", "expires_at", -500, "id = 'b'"), 1);
        assert_eq!(database.integer("SELECT expires_at FROM things WHERE id = 'b'"), 1500);
        assert_eq!(database.value("SELECT hash FROM things WHERE expires_at = 1000"), None);
        assert_eq!(database.tables(), ["things"]);
        assert!(database.dump().contains("things: it's | 1000 | NULL\n"), "{}", database.dump());
        assert!(database.dump().contains("canary"), "{}", database.dump());
    }
    on_both_engines!(statements_rows_and_dumps_read_alike);
}
