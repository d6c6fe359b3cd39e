//! PostgreSQL and Redis for the tests: found or installed, started as private instances on ports of their own, and
//! stopped however the command ends. nginx and Caddy are found or installed; the tests that need them start their own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Outcome, shell};

pub const USAGE: &str = "services [COMMAND …]              run COMMAND beside a private PostgreSQL and Redis (none: wait for Ctrl-C)";

const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Another program may take the port between choosing and listening.
const PORT_ATTEMPTS: usize = 5;

pub fn run(arguments: &[String]) -> Outcome {
    let services = Services::start()?;
    let Some((program, rest)) = arguments.split_first() else {
        for (name, value) in services.environment() {
            println!("export {name}={value}");
        }
        println!("# running until Ctrl-C");
        loop {
            // Ctrl-C ends this process; the keepers stop the services.
            std::thread::park();
        }
    };
    let mut command = shell::command(program);
    command.args(rest).stdin(Stdio::inherit()).envs(services.environment());
    shell::run(&mut command)
}

/// The running pair. Dropping it stops both and removes their folders.
pub struct Services {
    postgres: Instance,
    redis: Instance,
    programs: Programs,
}

impl Services {
    pub fn start() -> Result<Services, String> {
        let programs = Programs::find_or_install()?;
        let postgres = start_postgres(&programs.postgres)?;
        println!("PostgreSQL listens on 127.0.0.1:{}", postgres.port);
        let redis = start_redis(&programs.redis)?;
        println!("Redis listens on 127.0.0.1:{}", redis.port);
        Ok(Services { postgres, redis, programs })
    }

    /// What the tests read. The program paths let a test start instances of its own, to stop or freeze them.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            (
                "TOLLGATE_TEST_POSTGRES",
                format!("postgres://postgres@127.0.0.1:{}/postgres", self.postgres.port),
            ),
            ("TOLLGATE_TEST_REDIS", format!("redis://127.0.0.1:{}", self.redis.port)),
            ("TOLLGATE_TEST_PG_BIN", self.programs.postgres.display().to_string()),
            ("TOLLGATE_TEST_REDIS_BIN", self.programs.redis.display().to_string()),
            ("TOLLGATE_TEST_NGINX", self.programs.nginx.display().to_string()),
            ("TOLLGATE_TEST_CADDY", self.programs.caddy.display().to_string()),
        ]
    }
}

// ---- Finding and installing ----

struct Programs {
    /// The folder with `initdb` and `postgres`.
    postgres: PathBuf,
    /// The `redis-server` (or `valkey-server`) file.
    redis: PathBuf,
    /// The reverse proxies' files.
    nginx: PathBuf,
    caddy: PathBuf,
}

impl Programs {
    fn find_or_install() -> Result<Programs, String> {
        let mut missing = Vec::new();
        if find_postgres().is_none() {
            missing.push("postgresql");
        }
        if find_redis().is_none() {
            missing.push("redis-server");
        }
        // A guide speaks to the server by it.
        if shell::find_program("curl").is_none() {
            missing.push("curl");
        }
        for (package, variable) in [("nginx", NGINX), ("caddy", CADDY)] {
            if find_proxy(package, variable).is_none() {
                missing.push(package);
            }
        }
        if !missing.is_empty() {
            let named = format!(
                ", or name them in TOLLGATE_TEST_PG_BIN (folder), TOLLGATE_TEST_REDIS_BIN, {NGINX} and {CADDY} (files)"
            );
            install(&missing, &named)?;
        }
        let after = "is still missing after the installation; install it by hand and try again";
        Ok(Programs {
            postgres: find_postgres().ok_or_else(|| format!("PostgreSQL {after}"))?,
            redis: find_redis().ok_or_else(|| format!("Redis {after}"))?,
            nginx: find_proxy("nginx", NGINX).ok_or_else(|| format!("nginx {after}"))?,
            caddy: find_proxy("caddy", CADDY).ok_or_else(|| format!("Caddy {after}"))?,
        })
    }
}

const NGINX: &str = "TOLLGATE_TEST_NGINX";
const CADDY: &str = "TOLLGATE_TEST_CADDY";

fn find_proxy(name: &str, variable: &str) -> Option<PathBuf> {
    if let Some(file) = std::env::var_os(variable).map(PathBuf::from) {
        return file.is_file().then_some(file);
    }
    // Debian keeps nginx where only administrators look.
    let elsewhere = Path::new("/usr/sbin").join(name);
    shell::find_program(name).or_else(|| elsewhere.is_file().then_some(elsewhere))
}

fn find_postgres() -> Option<PathBuf> {
    let complete = |folder: &Path| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    if let Some(folder) = std::env::var_os("TOLLGATE_TEST_PG_BIN").map(PathBuf::from) {
        return complete(&folder).then_some(folder);
    }
    // Debian keeps the server's programs out of PATH, a folder per version: the newest one.
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, folder)| complete(folder))
        .collect();
    versions.sort();
    if let Some((_, folder)) = versions.pop() {
        return Some(folder);
    }
    let folder = shell::find_program("initdb")?.canonicalize().ok()?.parent()?.to_path_buf();
    complete(&folder).then_some(folder)
}

fn find_redis() -> Option<PathBuf> {
    if let Some(file) = std::env::var_os("TOLLGATE_TEST_REDIS_BIN").map(PathBuf::from) {
        return file.is_file().then_some(file);
    }
    shell::find_program("redis-server").or_else(|| shell::find_program("valkey-server"))
}

/// Installs Debian packages, or says how to get them; `or_else` is what else can be done.
pub fn install(packages: &[&str], or_else: &str) -> Outcome {
    let list = packages.join(" ");
    let by_hand = format!(
        "The tests need {list}.\n  Debian and Ubuntu: apt-get update && apt-get install -y {list}\n  elsewhere: install \
         them with your package manager{or_else}"
    );
    if shell::find_program("apt-get").is_none() || !is_root() {
        return Err(by_hand);
    }
    println!("Installing {list} with apt-get …");
    let apt = |arguments: &[&str]| {
        let mut command = shell::command("apt-get");
        command.args(["-q", "-y", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"]);
        command.args(arguments);
        // No questions, and no system-wide server started: the tests run their own.
        command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
        shell::run(&mut command)
    };
    // The lists of a fresh machine or image are empty or old.
    apt(&["update"]).map_err(|error| format!("{error}\n{by_hand}"))?;
    let mut arguments = vec!["install", "--no-install-recommends"];
    arguments.extend(packages);
    apt(&arguments).map_err(|error| format!("{error}\n{by_hand}"))
}

fn is_root() -> bool {
    shell::output(shell::command("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

// ---- PostgreSQL ----

fn start_postgres(programs: &Path) -> Result<Instance, String> {
    // PostgreSQL refuses to run as root; the package brings a user for it. Not `runuser`: that stays as a parent of its
    // own and does not pass signals on.
    let user = if is_root() { Some((postgres_id("-u")?, postgres_id("-g")?)) } else { None };
    let postgres_command = |program: &str| {
        let mut command = shell::command(programs.join(program));
        if let Some((user, group)) = user {
            command.uid(user).gid(group);
        }
        command
    };

    // Not under target/: that may lie where the user postgres cannot go, and a socket's path has 107 bytes at most.
    let folder = temporary_folder("postgres")?;
    if let Some((user, group)) = user {
        std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).map_err(|error| {
            format!("cannot hand {} to the user postgres: {error}", folder.path().display())
        })?;
    }
    let data = folder.path().join("data");
    let mut initdb = postgres_command("initdb");
    initdb.arg("-D").arg(&data).args([
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]);
    initdb.current_dir(folder.path());
    shell::output(&mut initdb)?;

    start_on_free_port("PostgreSQL", folder, |folder, port| {
        let mut command = postgres_command("postgres");
        command.arg("-D").arg(&data).current_dir(folder);
        for setting in [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            format!("unix_socket_directories={}", folder.display()),
            "fsync=on".to_owned(),
            "max_connections=300".to_owned(),
        ] {
            command.arg("-c").arg(setting);
        }
        command
    })
}

fn postgres_id(which: &str) -> Result<u32, String> {
    let id = shell::output(shell::command("id").args([which, "postgres"]))?;
    id.trim().parse().map_err(|_| format!("`id {which} postgres` says {id:?}"))
}

/// Waits for a start-up packet's answer: `R` asks for nothing (trust), `E` says it is still starting.
fn postgres_answers(port: u16) -> bool {
    let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
    packet.extend(b"user\0postgres\0database\0postgres\0\0");
    packet[3] = u8::try_from(packet.len()).unwrap_or(0);
    first_byte(port, &packet) == Some(b'R')
}

// ---- Redis ----

fn start_redis(program: &Path) -> Result<Instance, String> {
    start_on_free_port("Redis", temporary_folder("redis")?, |folder, port| {
        let mut command = shell::command(program);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no"]);
        command.arg("--dir").arg(folder);
        command
    })
}

fn redis_answers(port: u16) -> bool {
    first_byte(port, b"PING\r\n") == Some(b'+')
}

fn first_byte(port: u16, request: &[u8]) -> Option<u8> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(request).ok()?;
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    Some(byte[0])
}

// ---- One running service ----

/// A service of our own: the process, its folder, and a keeper that cleans up when we are killed.
struct Instance {
    name: &'static str,
    process: Child,
    port: u16,
    keeper: Keeper,
    folder: TempDir,
}

fn start_on_free_port(
    name: &'static str,
    folder: TempDir,
    command: impl Fn(&Path, u16) -> Command,
) -> Result<Instance, String> {
    let answers = if name == "Redis" { redis_answers } else { postgres_answers };
    let log_file = folder.path().join("log");
    let mut folder = folder;
    for attempt in 1.. {
        let port = free_port()?;
        let log = File::create(&log_file).map_err(|error| format!("{}: {error}", log_file.display()))?;
        let errors = log.try_clone().map_err(|error| format!("{}: {error}", log_file.display()))?;
        let process = command(folder.path(), port)
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("{name} did not start: {error}"))?;
        let keeper = Keeper::watch(process.id(), folder.path())?;
        let mut instance = Instance { name, process, port, keeper, folder };
        match instance.wait_until(|| answers(port)) {
            Ok(()) => return Ok(instance),
            Err(_) if attempt < PORT_ATTEMPTS && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() => {
                folder = instance.give_up_folder()?;
            }
            Err(error) => {
                let log = std::fs::read_to_string(&log_file).unwrap_or_default();
                return Err(format!("{error}; its log says:\n{log}"));
            }
        }
    }
    unreachable!("the loop above ends by returning")
}

impl Instance {
    fn wait_until(&mut self, ready: impl Fn() -> bool) -> Outcome {
        let began = Instant::now();
        loop {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(format!("{} ended at once ({status})", self.name));
            }
            if ready() {
                return Ok(());
            }
            if began.elapsed() > READY_WITHIN {
                return Err(format!("{} was not ready after {} s", self.name, READY_WITHIN.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Keeps the data folder for another attempt on another port.
    fn give_up_folder(mut self) -> Result<TempDir, String> {
        self.stop();
        let empty = temporary_folder("empty")?;
        Ok(std::mem::replace(&mut self.folder, empty))
    }

    fn stop(&mut self) {
        if !has_ended(&mut self.process) {
            // For PostgreSQL the fast shutdown: it does not wait for clients.
            shell::signal("INT", self.process.id());
            if wait_bounded(&mut self.process, STOP_WITHIN).is_none() {
                eprintln!("{} did not stop in {} s and is killed", self.name, STOP_WITHIN.as_secs());
                // Already gone is as good.
                let _ = self.process.kill();
                let _ = self.process.wait();
            }
        }
        self.keeper.dismiss();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A shell that waits at the end of a pipe. When we end without dropping (Ctrl-C, `kill -9`), the pipe closes, and the
/// keeper stops the service and removes its folder.
struct Keeper {
    process: Child,
}

impl Keeper {
    const SCRIPT: &str = r#"
        trap '' INT TERM HUP
        read -r word && exit 0
        kill -s INT "$1" 2>/dev/null
        for _ in 1 2 3 4 5 6 7 8 9 10; do kill -s 0 "$1" 2>/dev/null || break; sleep 0.5; done
        kill -s KILL "$1" 2>/dev/null
        rm -rf "$2"
    "#;

    fn watch(process: u32, folder: &Path) -> Result<Keeper, String> {
        let keeper = shell::command("sh")
            .args(["-c", Self::SCRIPT, "keeper", &process.to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            // Whoever reads our output must not have to wait for the keeper's end.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("no shell to watch over a service: {error}"))?;
        Ok(Keeper { process: keeper })
    }

    fn dismiss(&mut self) {
        if let Some(mut pipe) = self.process.stdin.take() {
            // A keeper that is already gone has nothing to be told.
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.process.wait();
    }
}

fn has_ended(process: &mut Child) -> bool {
    matches!(process.try_wait(), Ok(Some(_)))
}

fn wait_bounded(process: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let began = Instant::now();
    while began.elapsed() < limit {
        if let Ok(Some(status)) = process.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

fn temporary_folder(name: &str) -> Result<TempDir, String> {
    tempfile::Builder::new()
        .prefix(&format!("tollgate-{name}-"))
        .tempdir()
        .map_err(|error| format!("no temporary folder: {error}"))
}

fn free_port() -> Result<u16, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no free port on 127.0.0.1: {error}"))
}
