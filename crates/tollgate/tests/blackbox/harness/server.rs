//! The real binary, running on a database of its own: started, killed, stopped, frozen, restarted, doubled.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::database::Database;
use super::http::Request;
use super::mail_sink::MailSink;
use super::output::Output;
use super::wait::until;

const BINARY: &str = env!("CARGO_BIN_EXE_tollgate");
const SECRET: &str = "blackbox-5fQ2vW8rT1yU4iO7pA0sD3gH6jK9lZ";
const START_WITHIN: Duration = Duration::from_secs(20);
const PORT_ATTEMPTS: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

pub struct Server {
    pub engine: Engine,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its public address, as configured.
    pub base_url: String,
    pub database: Arc<Database>,
    pub mail: Arc<MailSink>,
    config: toml::Table,
    folder: TempDir,
    output: Output,
    process: Option<Child>,
}

/// A command of the binary that has run to its end.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Server {
    pub fn start(engine: Engine) -> Server {
        Server::with(engine, "")
    }

    /// With more configuration; tables are merged into the base, and what is named twice is taken from here. The port
    /// is chosen by the harness.
    pub fn with(engine: Engine, toml_extra: &str) -> Server {
        let extra = toml::from_str(toml_extra).unwrap_or_else(|error| panic!("{toml_extra}\n{error}"));
        Server::launch(engine, Arc::new(Database::create(engine)), Arc::new(MailSink::start()), &extra)
    }

    /// Another node with the same configuration on the same database and mail, on a port of its own.
    pub fn second_node(first: &Server) -> Server {
        Server::launch(first.engine, Arc::clone(&first.database), Arc::clone(&first.mail), &first.config)
    }

    fn launch(engine: Engine, database: Arc<Database>, mail: Arc<MailSink>, extra: &toml::Table) -> Server {
        for attempt in 1.. {
            let address = free_address();
            let mut config = base_config(address, &database, &mail);
            merge(&mut config, extra);
            config.insert("listen".into(), address.to_string().into());
            let base_url = config["base_url"].as_str().expect("base_url is text").to_owned();
            let mut server = Server {
                engine,
                address,
                base_url,
                database: Arc::clone(&database),
                mail: Arc::clone(&mail),
                config,
                folder: tempfile::tempdir().expect("a temporary folder"),
                output: Output::default(),
                process: None,
            };
            server.write_config();
            match server.try_run() {
                Ok(()) => return server,
                // Somebody took the port in between.
                Err(_) if attempt < PORT_ATTEMPTS && TcpListener::bind(address).is_err() => {}
                Err(problem) => panic!("{problem}"),
            }
        }
        unreachable!("the loop above ends by returning")
    }

    /// Starts again on the same port, data and configuration; the one before must have ended.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.process.is_none(), "stop or kill the server before the restart");
        if let Err(problem) = self.try_run() {
            panic!("{problem}");
        }
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself; then there is nothing to kill.
            let _ = process.kill();
            process.wait().expect("a child can be waited for");
        }
    }

    /// Asks it to end (SIGTERM) and waits: the exit status and how long it took.
    #[track_caller]
    pub fn stop(&mut self) -> (ExitStatus, Duration) {
        self.signal("TERM");
        self.wait_for_end(Duration::from_secs(20))
    }

    #[track_caller]
    pub fn wait_for_end(&mut self, limit: Duration) -> (ExitStatus, Duration) {
        let began = Instant::now();
        let process = self.process.as_mut().expect("the server runs");
        let status =
            until(limit, "the server's end", || process.try_wait().expect("a child can be waited for"));
        self.process = None;
        (status, began.elapsed())
    }

    /// Sends `TERM`, `STOP` (freeze), `CONT` (thaw), … After `STOP` every thread stands still: on a busy machine one may
    /// answer for a while after the signal was sent.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        let id = self.process.as_ref().expect("the server runs").id().to_string();
        // The shell has `kill` built in; not every machine has the program.
        let status = Command::new("sh").args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &id]).status();
        assert!(status.is_ok_and(|status| status.success()), "signal {name} was not sent");
        if name == "STOP" {
            until(Duration::from_secs(10), "every thread to stand still", || stands_still(&id).then_some(()));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    /// Everything it has printed since the first start.
    pub fn log(&self) -> String {
        self.output.text()
    }

    /// Runs a command of the binary with this configuration: `server.command(&["key", "list", "--json"])`.
    pub fn command(&self, arguments: &[&str]) -> Finished {
        let output = self.binary().args(arguments).arg("--config").arg(self.config_file()).output();
        let output = output.unwrap_or_else(|error| panic!("{BINARY}: {error}"));
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// A fresh service key with all scopes.
    #[track_caller]
    pub fn service_key(&self) -> String {
        let made = self.command(&["key", "create", "blackbox", "--json"]).expect_done().json();
        made["key"].as_str().unwrap_or_else(|| panic!("no key in {made}")).to_owned()
    }

    /// Changes the configuration file; the next start reads it.
    pub fn reconfigure(&mut self, toml_extra: &str) {
        let extra = toml::from_str(toml_extra).unwrap_or_else(|error| panic!("{toml_extra}\n{error}"));
        merge(&mut self.config, &extra);
        self.write_config();
    }

    /// A value of `/metrics` that has no labels.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        let page =
            Request::get("/metrics").send(self.address).expect("metrics are answered").expect(200).text();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("{name} is not in\n{page}"))
    }

    /// How many passwords were hashed, to be stored or to be compared.
    #[track_caller]
    pub fn passwords_hashed(&self) -> i64 {
        self.metric("tollgate_passwords_total") as i64
    }

    /// What the process holds in memory, in bytes (Linux).
    pub fn resident_bytes(&self) -> u64 {
        let id = self.process.as_ref().expect("the server runs").id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the process has a status");
        let kibibytes =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
        kibibytes.and_then(|text| text.parse::<u64>().ok()).expect("the status names the memory") * 1024
    }

    /// Where its configuration lies, and whatever it writes beside it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("tollgate.toml")
    }

    fn write_config(&self) {
        let text = toml::to_string(&self.config).expect("the configuration is TOML");
        std::fs::write(self.config_file(), text).expect("the temporary folder is ours");
    }

    /// Only what a program needs to run: settings of the surroundings must not reach the server.
    fn binary(&self) -> Command {
        let mut command = Command::new(BINARY);
        command.env_clear().current_dir(self.folder.path()).stdin(Stdio::null());
        for name in ["PATH", "TMPDIR", "LLVM_PROFILE_FILE"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.env("HOME", self.folder.path()).env("RUST_BACKTRACE", "1").env("NO_COLOR", "1");
        command
    }

    fn try_run(&mut self) -> Result<(), String> {
        let already = self.output.length();
        let mut command = self.binary();
        command
            .arg("serve")
            .arg("--config")
            .arg(self.config_file())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().map_err(|error| format!("{BINARY}: {error}"))?;
        self.output.follow(process.stdout.take().expect("stdout is piped"));
        self.output.follow(process.stderr.take().expect("stderr is piped"));
        let announcement = format!("listening on http://{}", self.address);
        let began = Instant::now();
        let problem = loop {
            if self.log()[already..].contains(&announcement) {
                self.process = Some(process);
                return Ok(());
            }
            if let Ok(Some(status)) = process.try_wait() {
                break format!("the server ended at once ({status})");
            }
            if began.elapsed() > START_WITHIN {
                // Killing and waiting cannot fail for a child that has not been waited for.
                let _ = process.kill();
                let _ = process.wait();
                break format!("the server did not print `{announcement}` within {START_WITHIN:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Err(format!("{problem}; its output:\n{}", self.log()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- output of the {:?} server at {}:\n{}", self.engine, self.address, self.log());
        }
    }
}

impl Finished {
    #[track_caller]
    pub fn expect_done(self) -> Finished {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}

fn base_config(address: SocketAddr, database: &Database, mail: &MailSink) -> toml::Table {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "base_url = \"http://{address}\"\n\
         secrets = [\"{SECRET}\"]\n\
         database_url = \"{}\"\n\
         trusted_origins = [\"https://app.example\"]\n\
         [mail]\nsmtp_url = \"{}\"\nfrom = \"Tollgate <no-reply@tollgate.example>\"\n\
         [rate_limit]\nenabled = false\n",
        database.url(),
        mail.url(),
    );
    toml::from_str(&text).expect("the base configuration is TOML")
}

fn merge(base: &mut toml::Table, extra: &toml::Table) {
    for (key, value) in extra {
        match (base.get_mut(key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Whether all threads of a process are stopped.
fn stands_still(process: &str) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return false };
    let stopped = |thread: std::fs::DirEntry| {
        // `id (name) state …`; a name may hold spaces and brackets.
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['T', 't']))
    };
    threads.flatten().all(stopped)
}

/// A port below those the system gives to outgoing connections, so that a restarted server finds its own still free.
pub fn free_address() -> SocketAddr {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test processes that run side by side begin at different places.
    let begin = std::process::id().wrapping_mul(101);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + begin.wrapping_add(step) % COUNT).expect("32,000 is a port");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port from {FIRST} on");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_configuration_is_merged_into_the_tables() {
        let read = |text: &str| toml::from_str::<toml::Table>(text).expect("TOML");
        let mut config = read("a = 1\n[mail]\nfrom = \"x\"\nsmtp_url = \"y\"\n");
        merge(&mut config, &read("a = 2\n[mail]\nfrom = \"z\"\n[guest]\nttl = \"1h\"\n"));
        assert_eq!(config, read("a = 2\n[mail]\nfrom = \"z\"\nsmtp_url = \"y\"\n[guest]\nttl = \"1h\"\n"));
    }

    #[test]
    fn two_servers_get_two_ports() {
        assert_ne!(free_address(), free_address());
    }
}
