//! Copies of a SQLite database, made while it is in use and never believed unchecked.

use crate::error::Error;
use crate::migrate::newest_version;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a checked copy holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    pub schema_version: i64,
    pub users: i64,
    pub sessions: i64,
    pub bytes: u64,
}

const PAGES_A_STEP: i32 = 2_048;

pub(crate) fn back_up(
    source: &Path,
    target: &Path,
    mut progress: impl FnMut(u64, u64),
) -> Result<Checked, Error> {
    if target.exists() {
        return Err(Error::Misuse(format!("{} exists already; name another file", target.display())));
    }
    let partial = with_suffix(target, ".partial");
    let _ = std::fs::remove_file(&partial);
    copy(source, &partial, &mut progress)?;
    let checked = check(&partial)?;
    std::fs::rename(&partial, target)
        .map_err(|error| Error::Misuse(format!("cannot rename {}: {error}", partial.display())))?;
    sync_folder(target)?;
    Ok(checked)
}

fn copy(source: &Path, target: &Path, progress: &mut impl FnMut(u64, u64)) -> Result<(), Error> {
    let from = Connection::open_with_flags(source, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    from.busy_timeout(Duration::from_secs(10))?;
    // A read transaction pins one state, so that writers need not wait and the copy need not start again.
    from.execute_batch("BEGIN; SELECT COUNT(*) FROM sqlite_master")?;
    let mut to = private(target)?;
    {
        let backup = rusqlite::backup::Backup::new(&from, &mut to)?;
        while backup.step(PAGES_A_STEP)? != rusqlite::backup::StepResult::Done {
            let state = backup.progress();
            progress((state.pagecount - state.remaining).max(0) as u64, state.pagecount.max(0) as u64);
        }
    }
    // One plain file: no journal of its own beside it.
    to.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))?;
    Ok(())
}

fn private(path: &Path) -> Result<Connection, Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path);
    made.map_err(|error| Error::Misuse(format!("cannot create {}: {error}", path.display())))?;
    Ok(Connection::open(path)?)
}

/// Reads every page and counts what matters; a copy that does not pass is no backup.
pub(crate) fn check(path: &Path) -> Result<Checked, Error> {
    let bytes = std::fs::metadata(path)
        .map_err(|error| Error::Misuse(format!("cannot read {}: {error}", path.display())))?
        .len();
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Error::Misuse(format!("{} is damaged: {verdict}", path.display())));
    }
    if number("SELECT COUNT(*) FROM pragma_foreign_key_check")? > 0 {
        return Err(Error::Misuse(format!("{} has rows that refer to nothing", path.display())));
    }
    let schema_version = number("SELECT version FROM schema_version")?;
    if schema_version > newest_version() {
        return Err(Error::Misuse(format!(
            "{} has schema version {schema_version}, this program knows up to {}",
            path.display(),
            newest_version()
        )));
    }
    Ok(Checked {
        schema_version,
        users: number("SELECT COUNT(*) FROM users")?,
        sessions: number("SELECT COUNT(*) FROM sessions")?,
        bytes,
    })
}

pub(crate) fn restore(copy_file: &Path, database: &Path) -> Result<Checked, Error> {
    check(copy_file)?;
    // Held until the new file is in place: nobody can begin to use the old one meanwhile.
    let _alone = alone_with(database)?;
    let partial = with_suffix(database, ".restoring");
    let _ = std::fs::remove_file(&partial);
    copy(copy_file, &partial, &mut |_, _| {})?;
    let checked = check(&partial)?;
    // The old database's journal must not be applied to the new file.
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(with_suffix(database, suffix));
    }
    std::fs::rename(&partial, database)
        .map_err(|error| Error::Misuse(format!("cannot replace {}: {error}", database.display())))?;
    sync_folder(database)?;
    Ok(checked)
}

/// Takes the exclusive lock: it cannot be had while a server has the database open. The journal goes, so that closing this
/// connection later does not remove the one of a server that has begun to use the new file.
fn alone_with(database: &Path) -> Result<Option<Connection>, Error> {
    if !database.exists() {
        return Ok(None);
    }
    let connection = Connection::open(database)?;
    connection.busy_timeout(Duration::from_millis(200))?;
    let alone = connection.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT; PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE",
    );
    let alone = alone.map(|()| Some(connection));
    alone.map_err(|error| {
        Error::Misuse(format!("{} is in use; stop the server first ({error})", database.display()))
    })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

/// A rename is durable once the folder is.
fn sync_folder(path: &Path) -> Result<(), Error> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| Error::Misuse(format!("cannot sync {}: {error}", folder.display())))
}
