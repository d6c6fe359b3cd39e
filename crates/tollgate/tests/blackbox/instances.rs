//! A PostgreSQL and a Redis of a test's own, to be stopped, frozen and started again without disturbing other tests.
//!
//! `cargo xtask services` names the programs in `TOLLGATE_TEST_PG_BIN` (folder) and `TOLLGATE_TEST_REDIS_BIN` (file).

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::{Engine, Server, until};
use crate::program::signal;

const READY_WITHIN: Duration = Duration::from_secs(60);
const PORT_ATTEMPTS: usize = 5;

pub struct Instance {
    kind: Kind,
    pub port: u16,
    folder: TempDir,
    process: Option<Child>,
    frozen: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Postgres,
    Redis,
}

impl Instance {
    pub fn postgres() -> Instance {
        let folder =
            tempfile::Builder::new().prefix("tollgate-faulty-pg-").tempdir().expect("a temporary folder");
        if let Some((user, group)) = postgres_user() {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group))
                .expect("root may give a folder away");
        }
        let made = postgres_program("initdb")
            .arg("-D")
            .arg(folder.path().join("data"))
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])
            .current_dir(folder.path())
            .output()
            .expect("initdb runs");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        Instance::start(Kind::Postgres, folder)
    }

    pub fn redis() -> Instance {
        let folder = tempfile::Builder::new().prefix("tollgate-faulty-redis-").tempdir();
        Instance::start(Kind::Redis, folder.expect("a temporary folder"))
    }

    fn start(kind: Kind, folder: TempDir) -> Instance {
        let mut instance = Instance { kind, port: 0, folder, process: None, frozen: Vec::new() };
        for attempt in 1.. {
            instance.port = free_port();
            match instance.try_start() {
                Ok(()) => return instance,
                // Somebody took the port in between.
                Err(_) if attempt < PORT_ATTEMPTS && !is_free(instance.port) => {}
                Err(problem) => panic!("{problem}"),
            }
        }
        unreachable!("the loop above ends by returning")
    }

    /// As `database_url` or `redis_url`.
    pub fn url(&self) -> String {
        match self.kind {
            Kind::Postgres => format!("postgres://postgres@127.0.0.1:{}/postgres", self.port),
            Kind::Redis => format!("redis://127.0.0.1:{}", self.port),
        }
    }

    /// Starts on the same port and data.
    #[track_caller]
    pub fn start_again(&mut self) {
        if let Err(problem) = self.try_start() {
            panic!("{problem}");
        }
    }

    /// Ends it as a crash would: connections are cut, nothing is written any more.
    pub fn crash(&mut self) {
        self.thaw();
        if let Some(mut process) = self.process.take() {
            // PostgreSQL's "immediate" shutdown ends its children too; Redis is one process.
            signal(if self.kind == Kind::Postgres { "QUIT" } else { "KILL" }, process.id());
            process.wait().expect("a child can be waited for");
        }
    }

    /// Falls silent: connections stay open and are even accepted, but nobody answers.
    pub fn freeze(&mut self) {
        let id = self.process.as_ref().expect("the instance runs").id();
        signal("STOP", id);
        self.frozen.push(id);
        // The main process makes no more children now; each of them is in a session of its own.
        for child in children(id) {
            signal("STOP", child);
            self.frozen.push(child);
        }
    }

    pub fn thaw(&mut self) {
        for process in self.frozen.drain(..).rev() {
            signal("CONT", process);
        }
    }

    /// Gives Redis a command that it answers with OK.
    #[track_caller]
    pub fn tell(&self, command: &str) {
        assert_eq!(first_byte(self.port, format!("{command}\r\n").as_bytes()), Some(b'+'), "{command}");
    }

    fn try_start(&mut self) -> Result<(), String> {
        let log_file = self.folder.path().join("log");
        let log = File::create(&log_file).expect("the temporary folder is ours");
        let mut command = self.command();
        let errors = log.try_clone().expect("a file can be named twice");
        let spawned = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        let mut process = spawned.unwrap_or_else(|error| panic!("{:?}: {error}", self.kind));
        let port = self.port;
        let what = format!("{:?} on port {port}", self.kind);
        let ready = until(READY_WITHIN, &what, || match process.try_wait() {
            Ok(Some(_)) => Some(false),
            _ => self.answers().then_some(true),
        });
        if ready {
            self.process = Some(process);
            return Ok(());
        }
        Err(format!("{what} ended at once: {}", std::fs::read_to_string(log_file).unwrap_or_default()))
    }

    fn command(&self) -> Command {
        let folder = self.folder.path();
        match self.kind {
            Kind::Postgres => {
                let mut command = postgres_program("postgres");
                command.arg("-D").arg(folder.join("data")).current_dir(folder);
                for setting in [
                    "listen_addresses=127.0.0.1".to_owned(),
                    format!("port={}", self.port),
                    format!("unix_socket_directories={}", folder.display()),
                    "shared_buffers=16MB".to_owned(),
                ] {
                    command.arg("-c").arg(setting);
                }
                command
            }
            Kind::Redis => {
                let mut command = Command::new(named_by("TOLLGATE_TEST_REDIS_BIN"));
                command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string()]);
                command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(folder);
                command
            }
        }
    }

    /// PostgreSQL says `R` to whoever may come in and `E` while it is starting.
    fn answers(&self) -> bool {
        match self.kind {
            Kind::Postgres => {
                let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
                packet.extend(b"user\0postgres\0database\0postgres\0\0");
                packet[3] = u8::try_from(packet.len()).expect("a short packet");
                first_byte(self.port, &packet) == Some(b'R')
            }
            Kind::Redis => first_byte(self.port, b"PING\r\n") == Some(b'+'),
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.crash();
    }
}

/// A server on a database that the test names; the harness's own stays unused.
pub fn server_on(database_url: &str, toml_extra: &str) -> Server {
    Server::with(Engine::Sqlite, &format!("database_url = \"{database_url}\"\n{toml_extra}"))
}

fn postgres_program(name: &str) -> Command {
    let mut command = Command::new(named_by("TOLLGATE_TEST_PG_BIN").join(name));
    // PostgreSQL refuses to run as root.
    if let Some((user, group)) = postgres_user() {
        command.uid(user).gid(group);
    }
    command
}

/// The user that the package brings, when we are root.
fn postgres_user() -> Option<(u32, u32)> {
    if !is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("users are listed");
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("there is a user postgres");
    let fields: Vec<&str> = line.split(':').collect();
    Some((fields[2].parse().expect("a number"), fields[3].parse().expect("a number")))
}

pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|status| status.uid() == 0)
}

fn named_by(variable: &str) -> PathBuf {
    let value = std::env::var_os(variable);
    value.unwrap_or_else(|| panic!("{variable} is not set: run `cargo xtask test`")).into()
}

fn children(parent: u32) -> Vec<u32> {
    let list = Path::new("/proc").join(parent.to_string()).join(format!("task/{parent}/children"));
    let list = std::fs::read_to_string(list).expect("the system lists a process's children");
    list.split_whitespace().map(|id| id.parse().expect("an id")).collect()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn first_byte(port: u16, request: &[u8]) -> Option<u8> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(request).ok()?;
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    Some(byte[0])
}
