//! One set of migrations for both engines, each applied whole or not at all.

use crate::error::Error;
use crate::postgres::Link;
use crate::sqlite::{Role, connect};
use crate::store::{Backend, Store};
use rusqlite::Connection;

/// Numbered from 1 in this order. A file that was released is never changed.
const MIGRATIONS: &[(&str, &str)] = &[
    ("0001_spine", include_str!("../migrations/0001_spine.sql")),
    ("0002_credits", include_str!("../migrations/0002_credits.sql")),
    ("0003_guests", include_str!("../migrations/0003_guests.sql")),
    ("0004_billing", include_str!("../migrations/0004_billing.sql")),
    ("0005_hooks", include_str!("../migrations/0005_hooks.sql")),
    ("0006_providers", include_str!("../migrations/0006_providers.sql")),
    ("0007_second_factors", include_str!("../migrations/0007_second_factors.sql")),
    ("0008_organizations", include_str!("../migrations/0008_organizations.sql")),
    ("0009_keys", include_str!("../migrations/0009_keys.sql")),
    ("0010_methods", include_str!("../migrations/0010_methods.sql")),
    ("0011_authjs", include_str!("../migrations/0011_authjs.sql")),
];

/// "tollgate" as a number: the lock that keeps two nodes from migrating one PostgreSQL at once.
const LOCK: i64 = 0x746f_6c6c_6761_7465;

#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error(
        "the database has schema version {found}, this program knows up to {known}: start the newer program, or restore a backup made before the upgrade"
    )]
    Newer { found: i64, known: i64 },
    #[error("migration {name} failed, the database is as before: {error}")]
    Failed { name: &'static str, error: Error },
    #[error("{0}")]
    Store(#[from] Error),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    pub from: i64,
    pub to: i64,
}

/// The version that this program brings a database to.
pub fn newest_version() -> i64 {
    MIGRATIONS.len() as i64
}

/// The one word that the engines do not share; see docs/decisions/0006-session-checks-among-a-million.md.
const IN_KEY_ORDER: &str = "/* in key order */";

/// What a migration needs of an engine.
trait Schema {
    fn control(&mut self, sql: &str) -> Result<(), Error>;
    /// Runs a migration's text.
    fn apply(&mut self, sql: &str) -> Result<(), Error> {
        self.control(sql)
    }
    /// Begins a transaction that no other migration can be in at the same time.
    fn begin_alone(&mut self) -> Result<(), Error>;
    fn version(&mut self) -> Result<i64, Error>;
}

pub(crate) fn migrate(store: &Store) -> Result<Migrated, MigrateError> {
    with_schema(store, |schema| {
        let mut from = None;
        loop {
            schema.begin_alone()?;
            let found = schema.version()?;
            let first = *from.get_or_insert(found);
            if found > newest_version() {
                schema.control("ROLLBACK")?;
                return Err(MigrateError::Newer { found, known: newest_version() });
            }
            let Some((name, sql)) = MIGRATIONS.get(found as usize) else {
                schema.control("ROLLBACK")?;
                return Ok(Migrated { from: first, to: found });
            };
            tracing::info!(migration = name, "migrating the database");
            let done = schema
                .apply(sql)
                .and_then(|()| schema.control(&record(found + 1)))
                .and_then(|()| schema.control("COMMIT"));
            if let Err(error) = done {
                // The transaction may be over with the connection; that undoes it as well.
                let _ = schema.control("ROLLBACK");
                return Err(MigrateError::Failed { name, error });
            }
        }
    })
}

fn record(version: i64) -> String {
    if version == 1 {
        "CREATE TABLE schema_version (version BIGINT NOT NULL); INSERT INTO schema_version (version) VALUES (1)".into()
    } else {
        format!("UPDATE schema_version SET version = {version}")
    }
}

pub(crate) fn version(store: &Store) -> Result<i64, MigrateError> {
    with_schema(store, |schema| Ok(schema.version()?))
}

fn with_schema<T: Send>(
    store: &Store,
    run: impl FnOnce(&mut dyn Schema) -> Result<T, MigrateError> + Send,
) -> Result<T, MigrateError> {
    match &store.backend {
        Backend::Sqlite(sqlite) => run(&mut connect(&sqlite.path, Role::Writer)?),
        // The link drives a runtime of its own, which must not happen on a thread that is part of another one.
        Backend::Postgres(postgres) => std::thread::scope(|scope| {
            let worker = scope.spawn(|| run(&mut postgres.connect_patiently()?));
            worker.join().unwrap_or_else(|_| Err(Error::Fault("the migration thread panicked".into()).into()))
        }),
    }
}

impl Schema for Connection {
    fn control(&mut self, sql: &str) -> Result<(), Error> {
        Ok(self.execute_batch(sql)?)
    }

    fn apply(&mut self, sql: &str) -> Result<(), Error> {
        self.control(&sql.replace(IN_KEY_ORDER, "WITHOUT ROWID"))
    }

    fn begin_alone(&mut self) -> Result<(), Error> {
        self.control("BEGIN IMMEDIATE")
    }

    fn version(&mut self) -> Result<i64, Error> {
        let known: i64 = self.query_row(
            "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'",
            [],
            |row| row.get(0),
        )?;
        Ok(if known == 0 {
            0
        } else {
            self.query_row("SELECT version FROM schema_version", [], |row| row.get(0))?
        })
    }
}

impl Schema for Link {
    fn control(&mut self, sql: &str) -> Result<(), Error> {
        Link::control(self, sql)
    }

    fn begin_alone(&mut self) -> Result<(), Error> {
        Link::control(self, "BEGIN")?;
        Link::control(self, &format!("SELECT pg_advisory_xact_lock({LOCK})"))
    }

    fn version(&mut self) -> Result<i64, Error> {
        let known = self.query("SELECT to_regclass('schema_version') IS NOT NULL", &[])?;
        if !known.first().is_some_and(|row| row.get::<_, bool>(0)) {
            return Ok(0);
        }
        let rows = self.query("SELECT version FROM schema_version", &[])?;
        rows.first()
            .map(|row| row.get::<_, i64>(0))
            .ok_or_else(|| Error::Fault("schema_version is empty".into()))
    }
}
