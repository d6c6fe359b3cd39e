//! What a command says and how: text for people, one JSON object with `--json`, exit code 1 when it was refused.

use crate::problem::Problem;
use serde_json::{Value, json};
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

/// Where results go. Results are on standard output, everything else on standard error.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    pub json: bool,
    /// `NO_COLOR` is set.
    pub no_color: bool,
    color: bool,
}

/// Why a command was not carried out, and what to do next.
#[derive(Debug)]
pub struct Failure {
    pub what: String,
    pub next: String,
    pub problems: Vec<Problem>,
}

pub type Outcome = Result<(), Failure>;

impl Failure {
    pub fn new(what: impl Into<String>, next: impl Into<String>) -> Failure {
        Failure { what: what.into(), next: next.into(), problems: Vec::new() }
    }

    /// Exit code 1 for a result that was printed already and says everything.
    pub fn silent() -> Failure {
        Failure::new("", "")
    }

    pub fn with_problems(
        what: impl Into<String>,
        next: impl Into<String>,
        problems: Vec<Problem>,
    ) -> Failure {
        Failure { what: what.into(), next: next.into(), problems }
    }
}

impl Terminal {
    pub fn new(json: bool, no_color: bool) -> Terminal {
        Terminal { json, no_color, color: !json && !no_color && std::io::stdout().is_terminal() }
    }

    /// A command's result, in the form that was asked for. A reader that went away is no failure.
    pub fn result(&self, text: &str, json: &Value) {
        let mut out = std::io::stdout().lock();
        let _ = if self.json { writeln!(out, "{json}") } else { writeln!(out, "{}", text.trim_end()) };
        let _ = out.flush();
    }

    /// Something to know beside the result.
    pub fn note(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    pub fn bold(&self, text: &str) -> String {
        if self.color { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn dim(&self, text: &str) -> String {
        if self.color { format!("\x1b[2m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn finish(&self, outcome: Outcome) -> ExitCode {
        let Err(failure) = outcome else { return ExitCode::SUCCESS };
        if failure.what.is_empty() {
            return ExitCode::FAILURE;
        }
        if self.json {
            let problems: Vec<Value> = failure.problems.iter().map(Problem::to_json).collect();
            let body =
                json!({"error": {"message": failure.what, "next": failure.next, "problems": problems}});
            self.result("", &body);
        } else {
            let mut text = format!("tollgate: {}\n", failure.what);
            for problem in &failure.problems {
                text.push_str(&format!("  - {problem}\n"));
            }
            text.push_str(&failure.next);
            self.note(text.trim_end());
        }
        ExitCode::FAILURE
    }
}

/// How far long work is: a line that is rewritten on a terminal, a line every five seconds elsewhere.
pub struct Progress {
    what: &'static str,
    /// What is counted.
    things: &'static str,
    on_terminal: bool,
    silent: bool,
    since_line: kernel::Stopwatch,
    shown: bool,
}

impl Progress {
    pub fn new(terminal: &Terminal, what: &'static str, things: &'static str) -> Progress {
        let on_terminal = std::io::stderr().is_terminal();
        Progress {
            what,
            things,
            on_terminal,
            silent: terminal.json,
            since_line: kernel::Stopwatch::start(),
            shown: false,
        }
    }

    pub fn show(&mut self, done: u64, all: u64) {
        if self.is_time() {
            let percent = done.saturating_mul(100) / all.max(1);
            self.line(&format!("{percent} % ({done} of {all} {})", self.things));
        }
    }

    /// Where nobody knows how much there is.
    pub fn count(&mut self, done: u64, things: &str) {
        if self.is_time() {
            self.line(&format!("{done} {things}"));
        }
    }

    fn is_time(&mut self) -> bool {
        let pause = if self.on_terminal { 100 } else { 5_000 };
        if self.silent || self.since_line.elapsed().as_millis() < pause {
            return false;
        }
        self.since_line = kernel::Stopwatch::start();
        true
    }

    fn line(&mut self, text: &str) {
        self.shown = true;
        let (begin, end) = if self.on_terminal { ("\r", "\x1b[K") } else { ("", "\n") };
        let _ = write!(std::io::stderr().lock(), "{begin}{} {text}{end}", self.what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown && self.on_terminal {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}
