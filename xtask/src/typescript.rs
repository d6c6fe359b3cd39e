//! The TypeScript packages: built, their types judged, and run against the binary.

use crate::services::Services;
use crate::{Outcome, conformance, shell};

pub const USAGE: &str =
    "typescript                        the TypeScript packages: types, and tests against the binary";

pub fn run(arguments: &[String]) -> Outcome {
    if !arguments.is_empty() {
        return Err(format!("Usage: cargo xtask {USAGE}"));
    }
    conformance::build()?;
    run_against(&Services::start()?)
}

/// Runs the packages' tests against the binary that lies in the target folder.
pub fn run_against(services: &Services) -> Outcome {
    conformance::check_node()?;
    // Its harness starts the servers.
    conformance::install()?;
    let here = |program: &str| {
        let mut command = shell::command(program);
        command.current_dir(shell::repository().join("sdk").join("typescript"));
        command
    };
    shell::run(here("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]))?;
    let mut tests = here("npm");
    tests.arg("test").env("TOLLGATE_BIN", conformance::binary()?).envs(services.environment());
    shell::run(&mut tests)
}
