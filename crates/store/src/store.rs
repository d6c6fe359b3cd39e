//! The store as everybody else sees it.

use crate::backup;
use crate::error::Error;
use crate::job::{Closure, wait};
use crate::postgres::{Mode, Postgres};
use crate::sqlite::Sqlite;
use crate::tx::Tx;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

#[derive(Debug, Clone)]
pub struct Options {
    /// `sqlite://path/to/file.db` or `postgres://…`.
    pub url: String,
    /// Connections to PostgreSQL.
    pub pool_size: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("database_url must begin with sqlite:// or postgres://")]
    Scheme,
    #[error("{0}")]
    Store(#[from] Error),
}

/// A handle that is cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) backend: Backend,
}

#[derive(Clone)]
pub(crate) enum Backend {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Store {
    /// Opens the database. For PostgreSQL no connection is made yet: a server that is down at start is a 503, not a
    /// reason to end.
    pub fn open(options: &Options) -> Result<Store, OpenError> {
        let backend = match options.url.split_once("://") {
            Some(("sqlite", path)) => Backend::Sqlite(Sqlite::open(Path::new(path))?),
            Some(("postgres" | "postgresql", _)) => {
                Backend::Postgres(Postgres::open(&options.url, options.pool_size)?)
            }
            _ => return Err(OpenError::Scheme),
        };
        Ok(Store { backend })
    }

    /// For operators' messages and metrics; rules never ask.
    pub fn engine(&self) -> Engine {
        match self.backend {
            Backend::Sqlite(_) => Engine::Sqlite,
            Backend::Postgres(_) => Engine::Postgres,
        }
    }

    /// Point look-ups. Inline on SQLite, so keep it to a few rows.
    pub async fn read<T, E, F>(&self, mut run: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.read(&mut run),
            Backend::Postgres(postgres) => on_postgres(postgres, run, Mode::Read).await,
        }
    }

    /// Lists, searches, exports: reads that may take milliseconds.
    pub async fn scan<T, E, F>(&self, run: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        match &self.backend {
            Backend::Sqlite(sqlite) => {
                let (job, answer, _) = Closure::new(run);
                sqlite.submit_scan(job);
                answered(answer).await
            }
            Backend::Postgres(postgres) => on_postgres(postgres, run, Mode::Read).await,
        }
    }

    /// A change: kept when the closure gives `Ok`, undone when it gives `Err`. On PostgreSQL it runs at READ COMMITTED,
    /// so it has to be made of guarded statements; see [`Store::write_serializable`] for the rest.
    pub async fn write<T, E, F>(&self, run: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.change(run, Mode::Write).await
    }

    /// A change whose reads and writes must look as if no other transaction ran meanwhile.
    pub async fn write_serializable<T, E, F>(&self, run: F) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.change(run, Mode::Serializable).await
    }

    async fn change<T, E, F>(&self, run: F, mode: Mode) -> Result<T, E>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        match &self.backend {
            Backend::Sqlite(sqlite) => {
                let (job, answer, turn) = Closure::new(run);
                sqlite.submit_write(job);
                wait(answer, &turn).await
            }
            Backend::Postgres(postgres) => on_postgres(postgres, run, mode).await,
        }
    }

    /// Closures that wait for the database, for `/metrics`.
    pub fn waiting(&self) -> usize {
        match &self.backend {
            Backend::Sqlite(sqlite) => sqlite.waiting(),
            Backend::Postgres(postgres) => postgres.waiting(),
        }
    }

    /// Transactions that were run again after a collision, for `/metrics`.
    pub fn retried(&self) -> u64 {
        match &self.backend {
            Backend::Sqlite(_) => 0,
            Backend::Postgres(postgres) => postgres.retried(),
        }
    }

    /// Brings the schema to the newest version; several nodes may call it at once.
    pub fn migrate(&self) -> Result<crate::migrate::Migrated, crate::migrate::MigrateError> {
        crate::migrate::migrate(self)
    }

    /// The schema's version as found, 0 for an empty database.
    pub fn schema_version(&self) -> Result<i64, crate::migrate::MigrateError> {
        crate::migrate::version(self)
    }

    /// Copies a running SQLite database to `target`, telling `(pages done, pages in all)`, and checks the copy.
    pub fn back_up(&self, target: &Path, progress: impl FnMut(u64, u64)) -> Result<backup::Checked, Error> {
        match &self.backend {
            Backend::Sqlite(sqlite) => backup::back_up(&sqlite.path, target, progress),
            Backend::Postgres(_) => Err(Error::Misuse(
                "PostgreSQL is backed up with its own tools: pg_dump or a base backup".into(),
            )),
        }
    }

    /// Checks a copy that [`Store::back_up`] made, and puts it in place of a database that nobody uses.
    pub fn restore(copy: &Path, url: &str) -> Result<backup::Checked, Error> {
        let path = url.strip_prefix("sqlite://").map(PathBuf::from);
        let path =
            path.ok_or_else(|| Error::Misuse("only a SQLite database is restored from a file".into()))?;
        backup::restore(copy, &path)
    }
}

async fn answered<T, E: From<Error>>(answer: tokio::sync::oneshot::Receiver<Result<T, E>>) -> Result<T, E> {
    answer.await.unwrap_or_else(|_| Err(E::from(Error::Unavailable("the database thread has ended".into()))))
}

async fn on_postgres<T, E, F>(postgres: &Postgres, run: F, mode: Mode) -> Result<T, E>
where
    F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    let (job, answer, turn) = Closure::new(run);
    postgres.submit(job, mode);
    wait(answer, &turn).await
}
