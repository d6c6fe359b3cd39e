//! Filling databases with a million people, in whatever format a side keeps them.

use crate::people::Person;
use kernel::{Clock as _, Millis, SystemClock};
use rusqlite::Connection;
use rusqlite::types::ToSqlOutput;
use sha2::{Digest as _, Sha256};
use std::io::{IsTerminal as _, Write};
use std::path::{Path, PathBuf};

/// Changes whenever the people or the way they are stored do, so that no stale cache is used.
const FORMAT: &str = "1";

/// A column's value.
pub enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<Millis> for Value {
    fn from(time: Millis) -> Value {
        Value::Integer(time.0)
    }
}

impl rusqlite::ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Value::Text(text) => text.as_str().into(),
            Value::Integer(number) => (*number).into(),
            Value::Boolean(flag) => (*flag).into(),
        })
    }
}

/// One table of a side, a row for each person.
pub struct Table<'a> {
    pub name: &'static str,
    pub columns: &'static [&'static str],
    pub row: Box<dyn FnMut(Person) -> Vec<Value> + 'a>,
}

/// Fills an SQLite file that has the schema and no rows, and leaves no write-ahead log behind.
pub fn fill_sqlite(title: &str, file: &Path, tables: Vec<Table<'_>>, rows: u32) -> Result<(), String> {
    let failed = |error: rusqlite::Error| format!("{}: {error}", file.display());
    let mut connection = Connection::open(file).map_err(failed)?;
    // A crash only costs the cache; the sides themselves run with their own settings.
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -1000000; PRAGMA busy_timeout = 10000")
        .map_err(failed)?;
    let now = SystemClock.now();
    let mut progress = Progress::new(title, tables.len() as u32 * rows);
    for mut table in tables {
        let places = vec!["?"; table.columns.len()].join(", ");
        let insert = format!("INSERT INTO {} ({}) VALUES ({places})", table.name, table.columns.join(", "));
        for from in (0..rows).step_by(50_000) {
            let transaction = connection.transaction().map_err(failed)?;
            {
                let mut statement = transaction.prepare_cached(&insert).map_err(failed)?;
                for number in from..rows.min(from + 50_000) {
                    let values = (table.row)(Person::new(number, now));
                    statement.execute(rusqlite::params_from_iter(values)).map_err(failed)?;
                    progress.step();
                }
            }
            transaction.commit().map_err(failed)?;
        }
    }
    let busy: i64 =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).map_err(failed)?;
    if busy != 0 {
        return Err(format!("{}: somebody else uses it", file.display()));
    }
    Ok(())
}

/// Writes a table's rows as PostgreSQL's `COPY` reads them.
pub fn copy_rows(
    out: &mut impl Write,
    mut table: Table<'_>,
    rows: u32,
    now: Millis,
    progress: &mut Progress,
) -> std::io::Result<()> {
    let mut line = String::new();
    for number in 0..rows {
        line.clear();
        for value in (table.row)(Person::new(number, now)) {
            if !line.is_empty() {
                line.push('\t');
            }
            match value {
                // None of the values holds a tab, a line end or a backslash.
                Value::Text(text) => line.push_str(&text),
                Value::Integer(number) => line.push_str(&number.to_string()),
                Value::Boolean(flag) => line.push(if flag { 't' } else { 'f' }),
            }
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
        progress.step();
    }
    out.flush()
}

/// What a cached database depends on, in 12 letters.
pub fn fingerprint(parts: &[&[u8]]) -> String {
    let mut digest = Sha256::new().chain_update(FORMAT);
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every migration of the store, in order.
pub fn schema_text() -> Result<Vec<u8>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/store/migrations");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    let mut text = Vec::new();
    for file in files {
        text.extend(std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?);
    }
    Ok(text)
}

/// How far the seeding is: one line that rewrites itself on a terminal, a line for every tenth elsewhere.
pub struct Progress {
    title: String,
    end: u32,
    done: u32,
    shown: u32,
}

impl Progress {
    pub fn new(title: &str, end: u32) -> Progress {
        Progress { title: title.to_owned(), end: end.max(1), done: 0, shown: 0 }
    }

    pub fn step(&mut self) {
        self.done += 1;
        let percent = (u64::from(self.done) * 100 / u64::from(self.end)) as u32;
        if percent == self.shown {
            return;
        }
        self.shown = percent;
        if std::io::stderr().is_terminal() {
            eprint!("\rfilling {}: {percent} %{}", self.title, if percent == 100 { "\n" } else { "" });
        } else if percent.is_multiple_of(10) {
            eprintln!("filling {}: {percent} %", self.title);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_row_has_a_column_for_each_value() {
        let table = Table {
            name: "t",
            columns: &["a", "b", "c"],
            row: Box::new(|person| vec![person.name.into(), Millis(5).into(), Value::Boolean(true)]),
        };
        let mut out = Vec::new();
        copy_rows(&mut out, table, 2, Millis(0), &mut Progress::new("t", 2)).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "Person 0\t5\tt\nPerson 1\t5\tt\n");
    }

    #[test]
    fn fingerprints_tell_parts_apart() {
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        assert_eq!(fingerprint(&[b"ab"]).len(), 12);
    }
}
