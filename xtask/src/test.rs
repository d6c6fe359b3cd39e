//! `cargo xtask test`: everything a change has to pass, step by step, with one summary at the end.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::services::Services;
use crate::{Outcome, conformance, deny, house, python, shell, typescript};

pub const USAGE: &str = "test [--long] [--only FILTER]     everything a change must pass; --only: just the Rust tests whose name has FILTER";

pub fn run(arguments: &[String]) -> Outcome {
    let options = Options::parse(arguments)?;
    let mut report = Report::default();
    if options.only.is_none() {
        report.step("formatting", || {
            shell::run(shell::cargo().args(["fmt", "--all", "--check"])).map_err(advise_fmt)
        });
        report.step("house rules", house::check);
        report.step("lints", || shell::run(&mut clippy()));
        report.step("dependencies", deny::check);
    }
    let services = report.value("services", Services::start);
    match services {
        Some(services) => {
            report.step("tests", || shell::run(&mut tests(&options, &services)));
            if options.only.is_none() && conformance::exists() {
                report.step("conformance", || conformance::run_against(&services, &[]));
                report.step("typescript", || typescript::run_against(&services));
            }
            if options.only.is_none() {
                report.step("python", python::run_against_binary);
            }
        }
        None => report.not_run("tests", "the services did not start"),
    }
    report.finish()
}

struct Options {
    long: bool,
    only: Option<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Options, String> {
        let mut options = Options { long: false, only: None };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--long" => options.long = true,
                "--only" => options.only = Some(rest.next().ok_or("--only needs a filter")?.clone()),
                _ => return Err(format!("Usage: cargo xtask {USAGE}")),
            }
        }
        Ok(options)
    }
}

fn clippy() -> Command {
    let mut command = shell::cargo();
    command.args(["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    command
}

fn tests(options: &Options, services: &Services) -> Command {
    let mut command = shell::cargo();
    command.args(["test", "--locked", "--workspace", "--no-fail-fast"]);
    if let Some(filter) = &options.only {
        command.arg("--").arg(filter);
    }
    command.envs(services.environment());
    if options.long {
        command.env("TOLLGATE_TEST_LONG", "1");
    }
    command
}

fn advise_fmt(error: String) -> String {
    format!("{error}\nrun: cargo fmt --all")
}

/// What was done, how long it took and what went wrong.
#[derive(Default)]
struct Report {
    steps: Vec<Step>,
}

struct Step {
    title: &'static str,
    took: Duration,
    error: Option<String>,
}

impl Report {
    fn step(&mut self, title: &'static str, work: impl FnOnce() -> Outcome) {
        self.value(title, work);
    }

    /// A step whose result later steps need; a failure is kept for the summary and the run goes on.
    fn value<T>(&mut self, title: &'static str, work: impl FnOnce() -> Result<T, String>) -> Option<T> {
        println!("\n=== {title}");
        let began = Instant::now();
        let result = work();
        let took = began.elapsed();
        let (value, error) = match result {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(error)),
        };
        if let Some(error) = &error {
            eprintln!("{error}");
        }
        let verdict = if error.is_none() { "passed" } else { "FAILED" };
        println!("--- {title}: {verdict}, {:.1} s", took.as_secs_f64());
        self.steps.push(Step { title, took, error });
        value
    }

    fn not_run(&mut self, title: &'static str, why: &str) {
        self.steps.push(Step { title, took: Duration::ZERO, error: Some(format!("not run: {why}")) });
    }

    fn finish(self) -> Outcome {
        println!("\n=== summary");
        for step in &self.steps {
            let verdict = if step.error.is_none() { "passed" } else { "FAILED" };
            println!("{verdict}  {:>7.1} s  {}", step.took.as_secs_f64(), step.title);
        }
        let failed: Vec<&Step> = self.steps.iter().filter(|step| step.error.is_some()).collect();
        for step in &failed {
            println!("\n{} failed: {}", step.title, step.error.as_deref().unwrap_or_default());
        }
        println!("\n{} passed, {} failed", self.steps.len() - failed.len(), failed.len());
        if failed.is_empty() { Ok(()) } else { Err(String::new()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_does_not_stop_the_others_but_fails_the_run() {
        let mut report = Report::default();
        report.step("one", || Err("broken".into()));
        assert_eq!(report.value("two", || Ok(7)), Some(7));
        assert_eq!(report.steps.len(), 2);
        assert!(report.finish().is_err());
    }

    #[test]
    fn unknown_arguments_are_refused() {
        assert!(Options::parse(&["--fast".into()]).is_err());
        assert!(Options::parse(&["--only".into()]).is_err());
        assert!(Options::parse(&["--long".into()]).is_ok_and(|options| options.long));
    }
}
