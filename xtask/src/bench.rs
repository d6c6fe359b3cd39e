//! Side-by-side load: builds the release binary and what it is compared with, and runs the programs of `bench/`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::{Outcome, shell};

pub const USAGE: &str = "bench sessions|credits|gate|billing [OPTION …] Tollgate beside its peers under load, as ratios (--help: options)";

pub fn run(arguments: &[String]) -> Outcome {
    match arguments.split_first() {
        Some((what, options)) if what == "sessions" => sessions(options),
        Some((what, options)) if what == "credits" => credits(options),
        Some((what, options)) if what == "gate" => gate(options),
        Some((what, options)) if what == "billing" => billing(options),
        _ => Err(format!("Usage: cargo xtask {USAGE}")),
    }
}

fn sessions(options: &[String]) -> Outcome {
    let release = target_folder()?.join("release");
    let only_help = options.iter().any(|option| option == "--help" || option == "-h");
    let only = value_of("--only", options);
    let wants = |side: &str| !only_help && only.as_ref().is_none_or(|sides| sides.contains(side));
    build("bench")?;
    if wants("tollgate") {
        // On its own, so that it has the features it is shipped with and not those of the tools beside it.
        build("tollgate")?;
    }
    if wants("better-auth") {
        install_better_auth()?;
    }
    let mut bench = shell::command(release.join("bench-sessions"));
    bench.arg("--tollgate").arg(release.join("tollgate")).args(options).stdin(Stdio::null());
    shell::run(&mut bench)
}

fn credits(options: &[String]) -> Outcome {
    let release = target_folder()?.join("release");
    let only_help = options.iter().any(|option| option == "--help" || option == "-h");
    let measures = value_of("--measure", options);
    build("bench")?;
    if !only_help && measures.is_none_or(|measures| measures.contains("over-http")) {
        build("tollgate")?;
    }
    let mut bench = shell::command(release.join("bench-credits"));
    bench.arg("--tollgate").arg(release.join("tollgate")).args(options).stdin(Stdio::null());
    shell::run(&mut bench)
}

fn gate(options: &[String]) -> Outcome {
    let release = target_folder()?.join("release");
    let only_help = options.iter().any(|option| option == "--help" || option == "-h");
    let only = value_of("--only", options);
    let wants = |side: &str| !only_help && only.as_ref().is_none_or(|sides| sides.contains(side));
    build("bench")?;
    if wants("tollgate") {
        build("tollgate")?;
    }
    // Of the measures only this one has a peer.
    let measures = value_of("--measure", options);
    if wants("better-auth") && measures.is_none_or(|measures| measures.contains("authorize")) {
        install_better_auth()?;
    }
    let mut bench = shell::command(release.join("bench-gate"));
    bench.arg("--tollgate").arg(release.join("tollgate")).args(options).stdin(Stdio::null());
    shell::run(&mut bench)
}

fn billing(options: &[String]) -> Outcome {
    let release = target_folder()?.join("release");
    build("bench")?;
    if !options.iter().any(|option| option == "--help" || option == "-h") {
        build("tollgate")?;
    }
    let mut bench = shell::command(release.join("bench-billing"));
    bench.arg("--tollgate").arg(release.join("tollgate")).args(options).stdin(Stdio::null());
    shell::run(&mut bench)
}

/// What stands behind an option, if it is there.
fn value_of(name: &str, options: &[String]) -> Option<String> {
    let mut rest = options.iter();
    while let Some(option) = rest.next() {
        if option == name {
            return Some(rest.next().cloned().unwrap_or_default());
        }
        if let Some(value) = option.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value.to_owned());
        }
    }
    None
}

fn build(package: &str) -> Outcome {
    shell::run(shell::cargo().args(["build", "--locked", "--release", "--package", package, "--bins"]))
}

/// The pinned packages, installed again when the lock file is newer.
fn install_better_auth() -> Outcome {
    let folder = shell::repository().join("bench").join("better-auth");
    let changed = |file: &str| std::fs::metadata(folder.join(file)).and_then(|found| found.modified()).ok();
    let installed = changed("node_modules/.package-lock.json");
    let compiled = folder.join("node_modules/better-sqlite3/build/Release/better_sqlite3.node").is_file();
    if compiled && installed.is_some() && installed >= changed("package-lock.json") {
        return Ok(());
    }
    let npm = |arguments: &[&str]| {
        let mut npm = shell::command("npm");
        // Standard output is for the figures.
        npm.args(arguments).current_dir(&folder).stdout(std::io::stderr());
        shell::run(&mut npm)
    };
    npm(&["ci", "--ignore-scripts", "--no-audit", "--no-fund"])?;
    // The one package whose script is needed: it fetches or compiles SQLite.
    npm(&["rebuild", "better-sqlite3"])
}

fn target_folder() -> Result<PathBuf, String> {
    let metadata =
        shell::output(shell::cargo().args(["metadata", "--locked", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata is not JSON: {error}"))?;
    let folder = metadata["target_directory"].as_str().ok_or("cargo metadata names no target directory")?;
    Ok(Path::new(folder).to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_understood_in_both_spellings() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let only = |text: &str| value_of("--only", &words(text));
        assert_eq!(only("--quick --only better-auth,bare-handler").unwrap(), "better-auth,bare-handler");
        assert_eq!(only("--only=bare-handler --json").unwrap(), "bare-handler");
        assert_eq!(only("--quick"), None);
        assert_eq!(only("--only-some=x"), None);
    }
}
