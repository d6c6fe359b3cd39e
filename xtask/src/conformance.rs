//! The official clients and a real browser against the running binary: the npm tests in `conformance/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::services::{self, Services};
use crate::{Outcome, shell};

pub const USAGE: &str =
    "conformance [FILE …]              the official clients against the binary (all tests, or these files)";

const NODE_AT_LEAST: u32 = 20;

pub fn run(files: &[String]) -> Outcome {
    if !exists() {
        return Err(format!("there is no {}/package.json", folder().display()));
    }
    build()?;
    let services = Services::start()?;
    run_against(&services, files)
}

/// The whole workspace's features, so that `cargo xtask test` finds the same build.
pub fn build() -> Outcome {
    let programs = ["--bin", "tollgate", "--bin", "till"];
    shell::run(shell::cargo().args(["build", "--locked", "--workspace"]).args(programs))
}

pub fn exists() -> bool {
    folder().join("package.json").is_file()
}

/// Runs the npm tests against the binary that lies in the target folder.
pub fn run_against(services: &Services, files: &[String]) -> Outcome {
    check_node()?;
    let chromium = chromium()?;
    let binary = binary()?;
    install()?;
    let mut tests: Command = here("node");
    tests.arg("--test").args(files);
    tests.env(CHROMIUM, chromium);
    tests.env("TOLLGATE_BIN", &binary).env("TILL_BIN", binary.with_file_name("till"));
    tests.envs(services.environment());
    shell::run(&mut tests)
}

pub fn install() -> Outcome {
    shell::run(here("npm").args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]))
}

fn here(program: &str) -> Command {
    let mut command = shell::command(program);
    command.current_dir(folder());
    command
}

fn folder() -> PathBuf {
    shell::repository().join("conformance")
}

/// The binary that lies in the target folder.
pub fn binary() -> Result<PathBuf, String> {
    let metadata =
        shell::output(shell::cargo().args(["metadata", "--locked", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata is not JSON: {error}"))?;
    let target = metadata["target_directory"].as_str().ok_or("cargo metadata names no target directory")?;
    let binary = Path::new(target).join("debug").join("tollgate");
    if binary.is_file() { Ok(binary) } else { Err(format!("there is no {}", binary.display())) }
}

const CHROMIUM: &str = "TOLLGATE_TEST_CHROMIUM";

/// The browser that looks at the pages: found, or installed from Debian's packages.
fn chromium() -> Result<PathBuf, String> {
    let find = || match std::env::var_os(CHROMIUM).map(PathBuf::from) {
        Some(named) => named.is_file().then_some(named),
        None => ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(shell::find_program),
    };
    if let Some(found) = find() {
        return Ok(found);
    }
    services::install(&["chromium"], &format!(", or name its file in {CHROMIUM}"))?;
    find().ok_or_else(|| {
        "Chromium is still missing after the installation; install it by hand and try again".to_owned()
    })
}

pub fn check_node() -> Outcome {
    let advice = format!(
        "These tests need Node.js {NODE_AT_LEAST} or newer with npm: https://nodejs.org/en/download, \
         `nvm install {NODE_AT_LEAST}`, or `apt-get install nodejs npm` where that is new enough"
    );
    let version = shell::output(shell::command("node").arg("--version"))
        .map_err(|error| format!("{error}\n{advice}"))?;
    let major =
        version.trim().trim_start_matches('v').split('.').next().and_then(|part| part.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE_AT_LEAST) {
        return Err(format!("This is Node.js {}.\n{advice}", version.trim()));
    }
    shell::output(shell::command("npm").arg("--version"))
        .map(drop)
        .map_err(|error| format!("{error}\n{advice}"))
}
