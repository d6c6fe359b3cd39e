//! `target/bench/`: filled databases that are used again, and the files of the current run.

use crate::people::CACHE_LIFE_DAYS;
use kernel::{Clock as _, Millis, SystemClock};
use std::fs::File;
use std::path::{Path, PathBuf};

pub struct Cache {
    root: PathBuf,
    /// Held as long as this is: two runs at once would measure each other.
    _lock: File,
}

impl Cache {
    pub fn open(root: &Path) -> Result<Cache, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", root.display());
        std::fs::create_dir_all(root).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        let lock = File::create(root.join("lock")).map_err(failed)?;
        lock.try_lock().map_err(|_| format!("another run uses {}", root.display()))?;
        let cache = Cache { root, _lock: lock };
        cache.clear_run()?;
        Ok(cache)
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A file that lasts as long as the run.
    pub fn run_file(&self, name: &str) -> PathBuf {
        self.root.join("run").join(name)
    }

    /// Removes what a run has left, databases above all.
    pub fn clear_run(&self) -> Result<(), String> {
        let run = self.root.join("run");
        if run.exists() {
            std::fs::remove_dir_all(&run).map_err(|error| format!("{}: {error}", run.display()))?;
        }
        std::fs::create_dir(&run).map_err(|error| format!("{}: {error}", run.display()))
    }

    /// A filled SQLite file, made by `make` unless there is one of this size and fingerprint. Older ones of the same
    /// side and size are removed.
    pub fn sqlite(
        &self,
        side: &str,
        rows: u32,
        fingerprint: &str,
        make: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Result<PathBuf, String> {
        let prefix = format!("{side}-{rows}-");
        let folder = self.root.join(format!("{prefix}{fingerprint}"));
        let file = folder.join("seed.db");
        let marker = folder.join("seeded-at");
        let seeded_at = std::fs::read_to_string(&marker).ok().and_then(|text| text.trim().parse().ok());
        if seeded_at.is_some_and(|at| is_recent(Millis(at))) {
            return Ok(file);
        }
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        for entry in std::fs::read_dir(&self.root).map_err(failed)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                std::fs::remove_dir_all(entry.path()).map_err(failed)?;
            }
        }
        std::fs::create_dir(&folder).map_err(failed)?;
        make(&file)?;
        std::fs::write(&marker, SystemClock.now().0.to_string()).map_err(failed)?;
        Ok(file)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        // What stays is removed by the next run.
        let _ = std::fs::remove_dir_all(self.root.join("run"));
    }
}

/// Whether sessions seeded then are far from their end.
pub fn is_recent(seeded_at: Millis) -> bool {
    seeded_at.plus(CACHE_LIFE_DAYS * kernel::time::DAY) > SystemClock.now()
}

/// Brings a database file into the run, without the log files of an older one.
pub fn copy_database(from: &Path, to: &Path) -> Result<(), String> {
    for ending in ["-wal", "-shm"] {
        let mut stale = to.as_os_str().to_owned();
        stale.push(ending);
        let _ = std::fs::remove_file(stale);
    }
    std::fs::copy(from, to).map(drop).map_err(|error| format!("{}: {error}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_made_once_and_again_when_its_fingerprint_changes() {
        let root = std::env::temp_dir().join(format!("tollgate-bench-cache-{}", std::process::id()));
        let cache = Cache::open(&root).unwrap();
        let make =
            |text: &'static str| move |file: &Path| std::fs::write(file, text).map_err(|e| e.to_string());
        let first = cache.sqlite("side", 10, "aa", make("one")).unwrap();
        assert_eq!(cache.sqlite("side", 10, "aa", |_| Err("made twice".into())).unwrap(), first);
        let second = cache.sqlite("side", 10, "bb", make("two")).unwrap();
        assert_eq!(std::fs::read_to_string(second).unwrap(), "two");
        assert!(!first.exists());
        assert!(Cache::open(&root).is_err(), "the lock is held");
        // What failed halfway is not taken for a database.
        assert!(cache.sqlite("side", 10, "cc", |_| Err("no".into())).is_err());
        cache.sqlite("side", 10, "cc", make("three")).unwrap();
        drop(cache);
        std::fs::remove_dir_all(root).unwrap();
    }
}
