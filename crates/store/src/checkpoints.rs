//! SQLite's journal is copied into the database beside the writer, not by it.
//!
//! By itself SQLite does this within a commit, when the journal has grown long enough: all who wait for that commit wait
//! for some thousand pages and two syncs (30 ms each time, a quarter of all time under random debits). Here a thread of
//! its own copies most of them while the writer goes on; what the writer has added meanwhile is little, and the writer
//! copies it between two commits, after it has answered. Then nothing is left to copy, and the journal begins anew.

use crate::error::Error;
use crate::sqlite::{Role, connect, spawn};
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Pages that many commits change are copied once for all of them: the journal grows to 32 MB first.
const LONG: u32 = 8_000;
/// Few enough for the writer to copy.
const SHORT: u32 = 400;
/// A reader of an old state keeps the journal: it is tried again after so many more pages, not at each commit.
const MORE: u32 = 4_000;
/// Each pass copies what was written during the one before, which is less; on a disk that cannot keep up it is not.
const PASSES: usize = 4;

/// Of the writer's thread.
pub(crate) struct Checkpoints {
    /// Pages in the journal after the last commit.
    length: Arc<AtomicU32>,
    seen: u32,
    /// The length at which to copy.
    due: u32,
    is_copying: bool,
    begin: Sender<()>,
    done: Receiver<()>,
}

impl Checkpoints {
    pub(crate) fn start(path: &Path) -> Result<Checkpoints, Error> {
        let copying = connect(path, Role::Copier)?;
        let ((begin, begun), (tell, done)) = (bounded::<()>(1), bounded(1));
        spawn("store-checkpoint", move || {
            while begun.recv().is_ok() {
                copy_most(&copying);
                if tell.send(()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Checkpoints {
            length: Arc::new(AtomicU32::new(0)),
            seen: 0,
            due: LONG,
            is_copying: false,
            begin,
            done,
        })
    }

    /// In place of SQLite's own rule, which this hook replaces.
    pub(crate) fn watch(&self, writer: &mut Connection) -> Result<(), Error> {
        let length = self.length.clone();
        Ok(writer.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
            length.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?)
    }

    /// Between two commits, with everybody answered.
    pub(crate) fn attend(&mut self, writer: &Connection) {
        let length = self.length.load(Ordering::Relaxed);
        if length < self.seen {
            // Begun anew.
            self.due = LONG;
        }
        self.seen = length;
        if self.is_copying {
            if self.done.try_recv() != Err(TryRecvError::Empty) {
                self.is_copying = false;
                self.finish(writer, length);
            }
        } else if length >= self.due {
            self.is_copying = self.begin.try_send(()).is_ok();
            if !self.is_copying {
                // Whoever copied beside the writer is gone: better slow than a journal without end.
                self.finish(writer, length);
            }
        }
    }

    fn finish(&mut self, writer: &Connection, length: u32) {
        copy(writer);
        self.due = length.saturating_add(MORE);
    }
}

fn copy_most(connection: &Connection) {
    let mut before = 0;
    for _ in 0..PASSES {
        match copy(connection) {
            Some(copied) if copied.saturating_sub(before) > SHORT => before = copied,
            _ => return,
        }
    }
}

/// Copies what no reader of an older state holds back, and tells how many of the journal's pages are copied now. A
/// failure is no loss, the journal is as good as the file: it is only longer, and copied later.
fn copy(connection: &Connection) -> Option<u32> {
    let copied = connection
        .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")
        .and_then(|mut passive| passive.query_row([], |row| row.get::<_, i64>(2)));
    match copied {
        Ok(pages) => u32::try_from(pages).ok(),
        Err(error) => {
            tracing::warn!(%error, "the journal could not be copied into the database; it grows until it can");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::Stopwatch;
    use std::time::Duration;

    struct Journal {
        writer: Connection,
        checkpoints: Checkpoints,
        written: i64,
    }

    impl Journal {
        /// Writes a few hundred pages and gives the length of the journal.
        fn write(&mut self) -> u32 {
            self.writer.execute("INSERT INTO t (a) VALUES (zeroblob(1000000))", []).unwrap();
            self.written += 1;
            self.checkpoints.attend(&self.writer);
            self.checkpoints.seen
        }

        fn write_until(&mut self, enough: impl Fn(u32, u32) -> bool) {
            let clock = Stopwatch::start();
            let mut before = 0;
            loop {
                let length = self.write();
                if enough(before, length) {
                    return;
                }
                before = length;
                assert!(clock.elapsed() < Duration::from_secs(60), "the journal has {length} pages");
            }
        }
    }

    #[test]
    fn a_long_journal_begins_anew_while_writes_go_on_unless_somebody_reads_an_old_state() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let mut writer = connect(&path, Role::Writer).unwrap();
        writer.execute_batch("CREATE TABLE t (a BLOB)").unwrap();
        let checkpoints = Checkpoints::start(&path).unwrap();
        checkpoints.watch(&mut writer).unwrap();
        let mut journal = Journal { writer, checkpoints, written: 0 };
        journal.write_until(|before, length| before >= LONG && length < before);

        let reader = connect(&path, Role::Reader).unwrap();
        let rows = || reader.query_row("SELECT COUNT(*) FROM t", [], |row| row.get::<_, i64>(0)).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        let held = rows();
        assert_eq!(held, journal.written);
        journal.write_until(|_, length| length >= LONG + 2 * MORE);
        assert_eq!(rows(), held, "the state that is being read stays");
        reader.execute_batch("COMMIT").unwrap();
        assert_eq!(rows(), journal.written);
        journal.write_until(|before, length| length < before);
        assert_eq!(rows(), journal.written);
    }
}
