//! A private PostgreSQL for the runs: its cluster stays in the cache, the server runs as long as it is needed. `fsync`
//! and `synchronous_commit` are on; the rest is as the package brings it, but for room between checkpoints.

use crate::cache::is_recent;
use crate::process::Process;
use crate::seed::{Progress, Table, copy_rows};
use crate::server::free_address;
use kernel::{Clock as _, Millis, SystemClock};
use rustix::process::Signal;
use std::io::BufWriter;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const READY_WITHIN: Duration = Duration::from_secs(60);

pub struct Postgres {
    programs: PathBuf,
    address: SocketAddr,
    process: Process,
}

impl Postgres {
    /// Starts the cluster in `folder`, making it when there is none.
    pub fn start(folder: &Path, log: &Path) -> Result<Postgres, String> {
        let programs = programs()?;
        let major = version(&programs)?.split('.').next().unwrap_or_default().to_owned();
        let data = folder.join(format!("data-{major}"));
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        if let Some((user, group)) = owner()? {
            std::os::unix::fs::chown(folder, Some(user), Some(group))
                .map_err(|error| format!("{}: {error}", folder.display()))?;
            run(command(&programs, "psql", folder)?.arg("--version")).map_err(|error| {
                format!(
                    "{error}\nthe user postgres must be able to enter {}; choose another with --folder",
                    folder.display()
                )
            })?;
        }
        if !data.join("PG_VERSION").is_file() {
            run(command(&programs, "initdb", folder)?.arg("-D").arg(&data).args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
            ]))?;
        }
        let address = free_address()?;
        let mut server = command(&programs, "postgres", folder)?;
        server.arg("-D").arg(&data);
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={}", address.port()),
            "unix_socket_directories=",
            "fsync=on",
            "synchronous_commit=on",
            "max_connections=300",
            "max_wal_size=8GB",
        ] {
            server.arg("-c").arg(setting);
        }
        // The fast shutdown, which does not wait for clients.
        let process = Process::start("PostgreSQL", &mut server, Signal::INT, log)?;
        let mut postgres = Postgres { programs, address, process };
        postgres.wait_until_ready()?;
        Ok(postgres)
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let began = Instant::now();
        while let Err(error) = self.sql("postgres", &["SELECT 1"]) {
            self.process.check_alive()?;
            if began.elapsed() > READY_WITHIN {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    pub fn process(&self) -> u32 {
        self.process.id()
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.address)
    }

    pub fn version(&self) -> Result<String, String> {
        version(&self.programs)
    }

    /// A filled database, made by `make` unless there is one of that name.
    pub fn seeded(
        &self,
        prefix: &str,
        fingerprint: &str,
        make: impl FnOnce(&str) -> Result<(), String>,
    ) -> Result<String, String> {
        let name = format!("{prefix}_{fingerprint}");
        // A comment on the database is its mark of completeness.
        let listed = self.sql(
            "postgres",
            &["SELECT datname || ' ' || coalesce(shobj_description(oid, 'pg_database'), '') FROM pg_database"],
        )?;
        for line in listed.lines() {
            let (found, mark) = line.split_once(' ').unwrap_or((line, ""));
            if found == name && mark.parse().is_ok_and(|at| is_recent(Millis(at))) {
                return Ok(name);
            }
            if found.starts_with(&format!("{prefix}_")) {
                self.drop_database(found)?;
            }
        }
        self.create_database(&name, "template1")?;
        make(&name)?;
        self.sql(&name, &["VACUUM (ANALYZE)", "CHECKPOINT"])?;
        self.sql("postgres", &[&format!("COMMENT ON DATABASE {name} IS '{}'", SystemClock.now().0)])?;
        Ok(name)
    }

    pub fn create_database(&self, name: &str, template: &str) -> Result<(), String> {
        self.disconnect(template)?;
        self.sql("postgres", &[&format!("CREATE DATABASE {name} TEMPLATE {template}")]).map(drop)
    }

    pub fn drop_database(&self, name: &str) -> Result<(), String> {
        self.disconnect(name)?;
        self.sql("postgres", &[&format!("DROP DATABASE IF EXISTS {name}")]).map(drop)
    }

    /// A database can only be copied or dropped when nobody is connected.
    fn disconnect(&self, name: &str) -> Result<(), String> {
        let end =
            format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'");
        self.sql("postgres", &[&end]).map(drop)
    }

    pub fn fill(&self, database: &str, title: &str, tables: Vec<Table<'_>>, rows: u32) -> Result<(), String> {
        let now = SystemClock.now();
        let mut progress = Progress::new(title, tables.len() as u32 * rows);
        for table in tables {
            let copy = format!("COPY {} ({}) FROM STDIN", table.name, table.columns.join(", "));
            // Tables are filled in the order of their references, so these need not be checked row by row.
            let mut psql = self.psql(database, &["SET session_replication_role = replica", &copy]);
            let mut child =
                psql.stdin(Stdio::piped()).spawn().map_err(|error| format!("psql did not start: {error}"))?;
            let pipe = child.stdin.take().ok_or("psql has no stdin")?;
            let written = copy_rows(&mut BufWriter::new(pipe), table, rows, now, &mut progress);
            let output = child.wait_with_output().map_err(|error| format!("psql: {error}"))?;
            if !output.status.success() || written.is_err() {
                return Err(format!("COPY failed: {}", String::from_utf8_lossy(&output.stderr)));
            }
        }
        Ok(())
    }

    /// Runs statements one by one; gives the last one's rows as lines.
    pub fn sql(&self, database: &str, statements: &[&str]) -> Result<String, String> {
        run(self.psql(database, statements).stdin(Stdio::null()))
    }

    fn psql(&self, database: &str, statements: &[&str]) -> Command {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"]);
        psql.args(["-p", &self.address.port().to_string(), "-d", database]);
        for statement in statements {
            psql.args(["-c", statement]);
        }
        psql.stdout(Stdio::piped()).stderr(Stdio::piped());
        psql
    }
}

/// The user and group that own the cluster, when this program is root: PostgreSQL refuses to run as root, and its
/// package brings a user for it.
fn owner() -> Result<Option<(u32, u32)>, String> {
    if !rustix::process::getuid().is_root() {
        return Ok(None);
    }
    let number = |option: &str| {
        let text = run(Command::new("id").args([option, "postgres"]))?;
        text.trim().parse().map_err(|error| format!("id {option} postgres: {error}"))
    };
    Ok(Some((number("-u")?, number("-g")?)))
}

/// A program of the cluster's owner. Not by `runuser`, which stays between and keeps signals to itself.
fn command(programs: &Path, program: &str, folder: &Path) -> Result<Command, String> {
    let mut command = Command::new(programs.join(program));
    command.current_dir(folder);
    if let Some((user, group)) = owner()? {
        command.uid(user).gid(group);
    }
    Ok(command)
}

/// Debian keeps the server's programs out of `PATH`, a folder per version: the newest one.
fn programs() -> Result<PathBuf, String> {
    let complete =
        |folder: &PathBuf| ["initdb", "postgres", "psql"].iter().all(|name| folder.join(name).is_file());
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, folder)| complete(folder))
        .max();
    let found = newest.map(|(_, folder)| folder).or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(complete)
    });
    found.ok_or_else(|| {
        "PostgreSQL is missing: apt-get install -y postgresql, or leave it out with --only".to_owned()
    })
}

/// Such as `15.18`.
fn version(programs: &Path) -> Result<String, String> {
    let text = run(Command::new(programs.join("postgres")).arg("--version"))?;
    text.split_whitespace().nth(2).map(str::to_owned).ok_or_else(|| format!("no version in {text}"))
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?} did not start: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim_end()))
}
