//! Running other programs: from the repository's root, without a stdin, and with errors that say what to do.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where this repository lies, whatever folder the command was started from.
pub fn repository() -> &'static Path {
    // `xtask/` lies directly under the root.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

pub fn enter_repository() -> Result<(), String> {
    std::env::set_current_dir(repository())
        .map_err(|error| format!("cannot enter {}: {error}", repository().display()))
}

/// A command without a stdin.
///
/// `cargo run` tells its child which package it runs. Build scripts such as ring's watch those variables, so a cargo
/// started from here would build half the tree again; they go no further.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command.stdin(Stdio::null());
    command
}

pub fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// Runs to the end; anything but exit code 0 is an error that shows the command line.
pub fn run(command: &mut Command) -> Result<(), String> {
    let line = line(command);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{line}` failed ({status})")),
        Err(error) => Err(format!("`{line}` did not start: {error}")),
    }
}

/// Runs to the end and returns its standard output; what it wrote to standard error goes into the error.
pub fn output(command: &mut Command) -> Result<String, String> {
    let line = line(command);
    let output = command.output().map_err(|error| format!("`{line}` did not start: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "`{line}` failed ({})\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim_end()
    ))
}

/// The first file of that name along `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Sends a signal such as `INT` to one process. The standard library can only kill, and `kill(1)` is not on every
/// Debian, but every shell has it built in.
pub fn signal(name: &str, process: u32) {
    let mut shell = command("sh");
    shell.args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &process.to_string()]);
    // A process that has just ended cannot be signalled, and need not be.
    let _ = shell.stderr(Stdio::null()).status();
}

fn line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
