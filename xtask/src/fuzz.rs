//! Coverage-guided runs of the targets in `fuzz/` by cargo-fuzz. On the stable toolchain the same targets are driven by
//! `cargo test`; this is for long searches.

use crate::{Outcome, shell};

pub const USAGE: &str =
    "fuzz [TARGET] [--seconds N]       search with cargo-fuzz, one target or all, N seconds each (300)";

pub fn run(arguments: &[String]) -> Outcome {
    let (wanted, seconds) = parse(arguments)?;
    let targets = targets()?;
    let chosen: Vec<&String> =
        targets.iter().filter(|target| wanted.as_ref().is_none_or(|name| name == *target)).collect();
    if chosen.is_empty() {
        return Err(format!("no such fuzz target; there are: {}", targets.join(", ")));
    }
    if shell::find_program("cargo-fuzz").is_none() {
        return Err("cargo-fuzz is missing: cargo install cargo-fuzz --locked".into());
    }
    let mut failed = Vec::new();
    for target in chosen {
        println!("== {target}, {seconds} s");
        let mut command = shell::cargo();
        command.args(["fuzz", "run", target, "--", &format!("-max_total_time={seconds}")]);
        // The sanitizer and the coverage counters are compiler flags that a stable compiler only accepts this way.
        command.env("RUSTC_BOOTSTRAP", "1");
        if let Err(error) = shell::run(&mut command) {
            eprintln!("{error}");
            failed.push(target.as_str());
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("found something: {}", failed.join(", "))) }
}

fn parse(arguments: &[String]) -> Result<(Option<String>, u64), String> {
    let (mut target, mut seconds) = (None, 300);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--seconds" {
            seconds = rest.next().and_then(|text| text.parse().ok()).ok_or("--seconds needs a number")?;
        } else if argument.starts_with('-') || target.is_some() {
            return Err(format!("Usage: cargo xtask {USAGE}"));
        } else {
            target = Some(argument.clone());
        }
    }
    Ok((target, seconds))
}

/// The `[[bin]]` names of `fuzz/Cargo.toml`.
fn targets() -> Result<Vec<String>, String> {
    let file = shell::repository().join("fuzz/Cargo.toml");
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let manifest: toml::Table =
        toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let binaries = manifest.get("bin").and_then(|bin| bin.as_array()).cloned().unwrap_or_default();
    Ok(binaries.iter().filter_map(|bin| bin.get("name")?.as_str().map(str::to_owned)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_a_target_and_a_time() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(parse(&[]), Ok((None, 300)));
        assert_eq!(parse(&words("cookies --seconds 20")), Ok((Some("cookies".into()), 20)));
        assert!(parse(&words("cookies others")).is_err());
        assert!(parse(&words("--seconds soon")).is_err());
    }
}
