//! Every developer command of Tollgate is a cargo command: `cargo xtask test`, `cargo xtask services …`.
//!
//! One file per subject; a new subject is a new file and one line in `SUBJECTS`.

// A developer's tool reads the clock and the environment itself; the ban is for the product.
#![allow(clippy::disallowed_methods)]

mod bench;
mod conformance;
mod deny;
mod fuzz;
mod house;
mod python;
mod rust_source;
mod services;
mod shell;
mod spdx;
mod test;
mod typescript;

use std::process::ExitCode;

/// A command that did not do what it was asked to, in words for the person at the terminal.
pub type Outcome = Result<(), String>;

struct Subject {
    name: &'static str,
    usage: &'static str,
    run: fn(&[String]) -> Outcome,
}

const SUBJECTS: &[Subject] = &[
    Subject { name: "test", usage: test::USAGE, run: test::run },
    Subject { name: "conformance", usage: conformance::USAGE, run: conformance::run },
    Subject { name: "python", usage: python::USAGE, run: python::run },
    Subject { name: "typescript", usage: typescript::USAGE, run: typescript::run },
    Subject { name: "bench", usage: bench::USAGE, run: bench::run },
    Subject { name: "house", usage: house::USAGE, run: house::run },
    Subject { name: "deny", usage: deny::USAGE, run: deny::run },
    Subject { name: "fuzz", usage: fuzz::USAGE, run: fuzz::run },
    Subject { name: "services", usage: services::USAGE, run: services::run },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        print!("{}", usage());
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    }
    let Some(subject) = SUBJECTS.iter().find(|subject| subject.name == name) else {
        eprintln!("There is no `cargo xtask {name}`.\n\n{}", usage());
        return ExitCode::from(2);
    };
    if let Err(error) = shell::enter_repository() {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    match (subject.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Empty when everything has been said already.
            if !error.is_empty() {
                eprintln!("{error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let mut text = String::from("Usage: cargo xtask <command>\n\n");
    for subject in SUBJECTS {
        text.push_str("  ");
        text.push_str(subject.usage);
        text.push('\n');
    }
    text
}
