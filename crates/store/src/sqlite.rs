//! SQLite: inline reads on a connection per thread, one writer thread that commits in groups, a small pool for scans.
//!
//! Measured on the design machine: a session look-up among a million rows takes 7 µs inline, 38 to 47 µs through a pool
//! with channel hops; 32 callers get some 50,000 durable writes a second from group commits, 3,000 to 6,000 from a
//! commit each.

use crate::checkpoints::Checkpoints;
use crate::error::Error;
use crate::job::{Job, Verdict, run_caught};
use crate::tx::{On, Tx};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use kernel::Stopwatch;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Writes that may wait; the next one is refused at once.
const WRITE_QUEUE: usize = 4_096;
const SCAN_QUEUE: usize = 256;
const SCAN_THREADS: usize = 2;
/// One commit takes at most this many closures, and stops taking more after this long, so that answers are not held.
const GROUP: usize = 512;
const GROUP_TIME: Duration = Duration::from_millis(4);
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
const STATEMENT_CACHE: usize = 256;
/// Without writes of ours the shared lock is renewed this often, so that other programs' checkpoints are not kept back.
const LOCK_RENEWAL: Duration = Duration::from_secs(1);

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// This thread's read connections: one a process, several only in tests.
    static READERS: RefCell<Vec<(u64, Connection)>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone)]
pub(crate) struct Sqlite {
    id: u64,
    pub(crate) path: Arc<PathBuf>,
    writer: Sender<Box<dyn Job>>,
    scanner: Sender<Box<dyn Job>>,
}

impl Sqlite {
    pub(crate) fn open(path: &Path) -> Result<Sqlite, Error> {
        create_private(path)?;
        let mut writing = connect(path, Role::Writer)?;
        let checkpoints = Checkpoints::start(path)?;
        checkpoints.watch(&mut writing)?;
        let shared = SharedLock(connect(path, Role::Reader)?);
        let (writer, jobs) = bounded(WRITE_QUEUE);
        let writer_path = path.to_path_buf();
        spawn("store-writer", move || write_loop(writing, checkpoints, &shared, &writer_path, &jobs))?;
        let (scanner, scans) = bounded(SCAN_QUEUE);
        for number in 0..SCAN_THREADS {
            let (path, scans) = (path.to_path_buf(), scans.clone());
            spawn(&format!("store-scan-{number}"), move || scan_loop(&path, &scans))?;
        }
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Ok(Sqlite { id, path: Arc::new(path.to_path_buf()), writer, scanner })
    }

    /// Runs the closure here and now, on this thread's connection. Each statement sees what is committed when it begins, as
    /// on PostgreSQL; a transaction around a look-up would cost as much as the look-up (two more statements of three).
    pub(crate) fn read<T, E: From<Error>>(
        &self,
        mut run: impl FnMut(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        READERS.with_borrow_mut(|readers| {
            let at = match readers.iter().position(|(id, _)| *id == self.id) {
                Some(at) => at,
                None => {
                    readers.push((self.id, connect(&self.path, Role::Reader)?));
                    readers.len() - 1
                }
            };
            run_caught(&mut run, &mut Tx { engine: On::Sqlite(&readers[at].1) })
        })
    }

    pub(crate) fn submit_write(&self, job: Box<dyn Job>) {
        submit(&self.writer, job);
    }

    pub(crate) fn submit_scan(&self, job: Box<dyn Job>) {
        submit(&self.scanner, job);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.writer.len()
    }
}

pub(crate) fn submit(queue: &Sender<Box<dyn Job>>, job: Box<dyn Job>) {
    match queue.try_send(job) {
        Ok(()) => {}
        Err(TrySendError::Full(job)) => job.finish(Err(Error::Busy)),
        Err(TrySendError::Disconnected(job)) => {
            job.finish(Err(Error::Unavailable("the database thread has ended".into())))
        }
    }
}

pub(crate) fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(run);
    thread.map(|_| ()).map_err(|error| Error::Unavailable(format!("cannot start a thread: {error}")))
}

fn run_plain(connection: &Connection, sql: &str) -> Result<(), Error> {
    Ok(connection.prepare_cached(sql)?.raw_execute().map(|_| ())?)
}

fn scan_loop(path: &Path, jobs: &Receiver<Box<dyn Job>>) {
    let mut connection = None;
    while let Ok(mut job) = jobs.recv() {
        if !job.begin() {
            continue;
        }
        let end = match &connection {
            Some(connection) => scan_on(connection, &mut *job),
            None => connect(path, Role::Reader).and_then(|new| scan_on(connection.insert(new), &mut *job)),
        };
        job.finish(end);
    }
}

fn scan_on(connection: &Connection, job: &mut dyn Job) -> Result<(), Error> {
    run_plain(connection, "BEGIN")?;
    job.run(&mut Tx { engine: On::Sqlite(connection) });
    run_plain(connection, "COMMIT")
}

/// A read transaction that is open while nothing is being committed. With it the lock that every reader of the newest
/// state takes is held by this process anyway, so that a read neither asks the system for it nor gives it back, which
/// cost a tenth of a session check and made readers wait for each other (docs/decisions/0006). Readers still begin
/// their own transactions and see what is newest.
struct SharedLock(Connection);

impl SharedLock {
    /// Failing is no harm: reads are slower then.
    fn hold(&self) {
        let held = run_plain(&self.0, "BEGIN").and_then(|()| {
            self.0.prepare_cached("SELECT 1 FROM sqlite_schema")?.raw_query().next()?;
            Ok(())
        });
        if let Err(error) = held {
            tracing::debug!(%error, "the readers' lock is not held");
        }
    }

    /// Before each commit, which may copy the journal into the file and begin it anew when nobody reads an older state.
    fn release(&self) {
        if !self.0.is_autocommit() {
            // Nothing can be undone or lost; a failure shows at the next `hold`.
            let _ = run_plain(&self.0, "ROLLBACK");
        }
    }
}

fn write_loop(
    mut connection: Connection,
    mut checkpoints: Checkpoints,
    shared: &SharedLock,
    path: &Path,
    jobs: &Receiver<Box<dyn Job>>,
) {
    loop {
        shared.hold();
        let first = jobs.recv_timeout(LOCK_RENEWAL);
        if let Err(RecvTimeoutError::Disconnected) = first {
            return;
        }
        let mut group = Vec::with_capacity(8);
        let end = match first {
            Ok(first) => write_group(&connection, shared, first, jobs, &mut group),
            Err(_) => Ok(()),
        };
        shared.release();
        if let Err(error) = &end {
            tracing::warn!(%error, writes = group.len(), "a group of writes was not committed");
            // After a failed sync the pages in memory prove nothing: read everything from the file again.
            let fresh = connect(path, Role::Writer);
            match fresh.and_then(|mut fresh| checkpoints.watch(&mut fresh).map(|()| fresh)) {
                Ok(fresh) => connection = fresh,
                Err(error) => tracing::error!(%error, "the database could not be opened again"),
            }
            // Whoever has waited as long for the lock that another program holds is told now, not each in turn.
            group.extend(jobs.try_iter().filter(|job| job.begin()));
            tracing::warn!(%error, refused = group.len(), "nothing was written");
        }
        for job in group {
            job.finish(end.clone());
        }
        checkpoints.attend(&connection);
    }
}

/// Runs what waits, so that each closure can be undone by itself, and commits once.
fn write_group(
    connection: &Connection,
    shared: &SharedLock,
    first: Box<dyn Job>,
    jobs: &Receiver<Box<dyn Job>>,
    group: &mut Vec<Box<dyn Job>>,
) -> Result<(), Error> {
    let clock = Stopwatch::start();
    let mut next = Some(first);
    let begun = run_plain(connection, "BEGIN IMMEDIATE");
    while let Some(mut job) = next.take() {
        if job.begin() {
            let ran = begun.clone().and_then(|()| write_one(connection, &mut *job, group.is_empty()));
            group.push(job);
            ran?;
        }
        if group.len() < GROUP && clock.elapsed() < GROUP_TIME {
            next = jobs.try_recv().ok();
        }
    }
    shared.release();
    begun.and_then(|()| run_plain(connection, "COMMIT")).inspect_err(|_| {
        // The transaction may be over already; the connection is replaced in any case.
        let _ = run_plain(connection, "ROLLBACK");
    })
}

/// The first of a group needs no savepoint: when it is to be undone, the transaction is begun anew. Often it is the only
/// one, and a savepoint makes SQLite keep a copy of each page that it changes.
fn write_one(connection: &Connection, job: &mut dyn Job, first: bool) -> Result<(), Error> {
    let (begin, undo, end) = match first {
        true => (None, ["ROLLBACK", "BEGIN IMMEDIATE"].as_slice(), None),
        false => (Some("SAVEPOINT one"), ["ROLLBACK TO one"].as_slice(), Some("RELEASE one")),
    };
    begin.map_or(Ok(()), |sql| run_plain(connection, sql))?;
    if job.run(&mut Tx { engine: On::Sqlite(connection) }) == Verdict::Undo {
        // An I/O error or a full disk ends the whole transaction; then this fails, and with it the group.
        undo.iter().try_for_each(|sql| run_plain(connection, sql))?;
    }
    end.map_or(Ok(()), |sql| run_plain(connection, sql))
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Role {
    Reader,
    Writer,
    /// Copies the journal into the database.
    Copier,
}

/// Opens a connection and reads its settings back: a database that does not keep what it is told must not be used.
pub(crate) fn connect(path: &Path, role: Role) -> Result<Connection, Error> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    // Without this guarantee SQLite plans a cached join anew whenever its bindings were cleared (15 µs against 7).
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    if role == Role::Writer {
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    }
    for (name, value) in settings(role) {
        connection.pragma_update(None, name, value)?;
    }
    for (name, value) in [("journal_mode", "wal")].into_iter().chain(settings(role)) {
        let found: String = connection.pragma_query_value(None, name, |row| match row.get_ref(0)? {
            rusqlite::types::ValueRef::Integer(number) => Ok(number.to_string()),
            _ => row.get(0),
        })?;
        if found != value {
            return Err(Error::Fault(format!(
                "SQLite keeps {name} = {found} although {value} was asked for; the folder of {} may be on a file system that cannot do WAL",
                path.display()
            )));
        }
    }
    Ok(connection)
}

fn settings(role: Role) -> impl Iterator<Item = (&'static str, &'static str)> {
    let read_only = if role == Role::Reader { "1" } else { "0" };
    // 2 is FULL: a commit is on disk before it is answered. Temporary tables stay in memory. The cache is in KiB.
    [
        ("synchronous", "2"),
        ("foreign_keys", "1"),
        ("temp_store", "2"),
        ("cache_size", "-16384"),
        // A look-up among a million rows touches pages that no cache of ours holds: mapped, they are read in place from the
        // system's cache (measured in docs/decisions/0006). Writers read and write through the file as ever.
        ("mmap_size", if role == Role::Reader { "2147418112" } else { "0" }),
        ("query_only", read_only),
        // See `checkpoints`.
        ("wal_autocheckpoint", "0"),
    ]
    .into_iter()
}

/// The file is made with rights for its owner only, before SQLite would make it with wider ones. A file that is there is
/// not even opened: closing any handle of it drops every lock that this process holds on it (POSIX), and without its
/// locks another program may take the journal away.
fn create_private(path: &Path) -> Result<(), Error> {
    use std::io::ErrorKind;
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(Error::Unavailable(format!("cannot open {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(connection: &Connection) -> i32 {
        connection.prepare_cached(HOT).unwrap().get_status(rusqlite::StatementStatus::RePrepare)
    }

    const HOT: &str =
        "SELECT s.id, u.id FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.token_hash = $1";

    #[test]
    fn a_hot_statement_is_never_prepared_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        create_private(&path).unwrap();
        let connection = connect(&path, Role::Writer).unwrap();
        connection.execute_batch(include_str!("../migrations/0001_spine.sql")).unwrap();
        for number in 0..50 {
            let hash = format!("hash-{number}");
            let mut tx = Tx { engine: On::Sqlite(&connection) };
            tx.query_opt(HOT, &[hash.as_str().into()], |_| Ok(())).unwrap();
        }
        assert_eq!(counters(&connection), 0);
    }

    #[test]
    fn a_second_store_on_the_file_leaves_the_first_ones_locks_in_place() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let first = Sqlite::open(&path).unwrap();
        // A connection keeps its lock from its first look at the file on.
        first.read(|tx| tx.query("SELECT name FROM sqlite_master", &[], |_| Ok::<_, Error>(()))).unwrap();
        drop(Sqlite::open(&path).unwrap());
        let inode = format!(":{} ", std::fs::metadata(&path).unwrap().ino());
        let process = format!(" {} ", std::process::id());
        // The list is not read in one piece, so a lock can be missed while others come and go; a lost one never appears.
        let clock = Stopwatch::start();
        let held = || {
            let locks = std::fs::read_to_string("/proc/locks").unwrap();
            locks.lines().any(|line| line.contains(&inode) && line.contains(&process))
        };
        while !held() {
            assert!(clock.elapsed() < Duration::from_secs(5), "the lock on the database is gone");
        }
        drop(first);
    }

    #[test]
    fn readers_cannot_write_and_files_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        create_private(&path).unwrap();
        connect(&path, Role::Writer).unwrap();
        let reader = connect(&path, Role::Reader).unwrap();
        assert!(reader.execute_batch("CREATE TABLE t (a TEXT)").is_err());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
