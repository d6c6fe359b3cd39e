//! The Python package, installed into a fresh environment as an app would install it, against the binary.

use std::path::{Path, PathBuf};

use crate::{Outcome, conformance, services, shell};

pub const USAGE: &str =
    "python                            the Python package in a fresh environment, against the binary";

const PYTHON_AT_LEAST: (u32, u32) = (3, 11);

pub fn run(arguments: &[String]) -> Outcome {
    if !arguments.is_empty() {
        return Err(format!("Usage: cargo xtask {USAGE}"));
    }
    // The whole workspace's features, so that `cargo xtask test` finds the same build.
    shell::run(shell::cargo().args(["build", "--locked", "--workspace", "--bin", "tollgate"]))?;
    run_against_binary()
}

/// Installs the package with its tests' needs, and runs them against the binary that lies in the target folder.
pub fn run_against_binary() -> Outcome {
    let python = find_python()?;
    let binary = conformance::binary()?;
    // `…/target/debug/tollgate`
    let target = binary.ancestors().nth(2).unwrap_or(Path::new("target"));
    let environment = target.join("python");
    shell::run(shell::command(&python).args(["-m", "venv", "--clear"]).arg(&environment))?;
    let program = |name: &str| {
        let mut command = shell::command(environment.join("bin").join(name));
        command.current_dir(shell::repository()).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    };
    shell::run(program("pip").args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "./sdk/python[test]",
    ]))?;
    shell::run(program("pytest").arg("-q").env("TOLLGATE_BINARY", &binary))
}

/// A Python that is new enough and can make environments, as Debian's cannot without a second package.
fn find_python() -> Result<PathBuf, String> {
    let named = std::env::var_os("PYTHON").map(PathBuf::from);
    let python = named.clone().unwrap_or_else(|| PathBuf::from("python3"));
    let makes_environments = || {
        let mut command = shell::command(&python);
        shell::output(command.args(["-c", "import ensurepip, venv"]))
    };
    if named.is_none() && makes_environments().is_err() {
        services::install(&["python3", "python3-venv"], ", or name a Python in PYTHON")?;
    }
    makes_environments()?;
    let version = shell::output(shell::command(&python).arg("--version"))?;
    let (major, minor) = PYTHON_AT_LEAST;
    match read_version(&version) {
        Some(found) if found >= PYTHON_AT_LEAST => Ok(python),
        _ => Err(format!(
            "`{}` is {}. The tests of sdk/python need Python {major}.{minor} or newer: name one in PYTHON",
            python.display(),
            version.trim()
        )),
    }
}

/// `Python 3.11.7` is 3 and 11.
fn read_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix("Python ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::read_version;

    #[test]
    fn versions_are_read_and_compared_by_number() {
        assert_eq!(read_version("Python 3.11.7\n"), Some((3, 11)));
        assert!(read_version("Python 3.9.2") < Some((3, 11)));
        assert_eq!(read_version("python"), None);
    }
}
