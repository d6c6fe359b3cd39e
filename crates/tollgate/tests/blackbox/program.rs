//! The binary without a server around it: commands in a folder and with variables of their own, and servers that a test
//! starts by hand (`dev`, an unusual `serve`).

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::output::Output;
use crate::harness::server::Finished;
use crate::harness::{Browser, until};

pub const BINARY: &str = env!("CARGO_BIN_EXE_tollgate");

pub struct Program {
    pub folder: TempDir,
    variables: Vec<(String, String)>,
}

/// A server that a test started by hand; killed when dropped.
pub struct Running {
    pub address: SocketAddr,
    pub output: Output,
    pub process: Child,
}

impl Program {
    pub fn in_new_folder() -> Program {
        Program { folder: tempfile::tempdir().expect("a temporary folder"), variables: Vec::new() }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Program {
        self.variables.push((name.into(), value.into()));
        self
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Only what a program needs to run, and the variables of the test.
    pub fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).env_clear().current_dir(self.path()).stdin(Stdio::null());
        for name in ["PATH", "TMPDIR", "LLVM_PROFILE_FILE"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.env("HOME", self.path()).env("NO_COLOR", "1").envs(self.variables.iter().cloned());
        command
    }

    pub fn run(&self, arguments: &[impl AsRef<OsStr>]) -> Finished {
        let output = self.command(arguments).output().expect("the binary runs");
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Another program in the same surroundings, such as a shell that starts ours.
    pub fn wrapped(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let like = self.command(&[] as &[&str]);
        command.args(arguments).env_clear().current_dir(self.path()).stdin(Stdio::null());
        for (name, value) in like.get_envs() {
            command.envs(value.map(|value| (name, value)));
        }
        command
    }

    /// Starts a server and waits until it says where it listens; `Err` is what it printed instead.
    pub fn start(&self, arguments: &[&str]) -> Result<Running, String> {
        Program::follow(&mut self.command(arguments))
    }

    /// As [`Program::start`], with a command that ends in arguments for our binary.
    pub fn follow(command: &mut Command) -> Result<Running, String> {
        let spawned = command.arg("--json").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut process = spawned.expect("the program runs");
        let output = Output::default();
        output.follow(process.stdout.take().expect("stdout is piped"));
        output.follow(process.stderr.take().expect("stderr is piped"));
        let listening = until(Duration::from_secs(20), "the server's announcement", || {
            let text = output.text();
            let line = text.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
            match line.as_ref().and_then(|line| line["listening"].as_str()) {
                Some(listening) => Some(Ok(listening.trim_start_matches("http://").to_owned())),
                None => matches!(process.try_wait(), Ok(Some(_))).then_some(Err(())),
            }
        });
        match listening {
            Ok(address) => {
                Ok(Running { address: address.parse().expect("an address and a port"), output, process })
            }
            Err(()) => Err(output.text()),
        }
    }
}

impl Running {
    /// A browser on a page that the configuration trusts.
    pub fn browser(&self) -> Browser {
        Browser::open(self.address, "https://app.example")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends a signal by its name: `TERM`, `STOP`, `CONT`, `QUIT`. A process that is gone is no failure.
pub fn signal(name: &str, process: u32) {
    // The shell has `kill` built in; not every machine has the program.
    let sent = Command::new("sh")
        .args(["-c", "kill -s \"$1\" \"$2\" 2>/dev/null", "sh", name, &process.to_string()])
        .status();
    sent.expect("a shell can be run");
}
