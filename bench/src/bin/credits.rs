//! `cargo xtask bench credits`: debits beside what a database does without a ledger.

use bench::credits::{self, options::Options};
use clap::Parser as _;
use std::process::ExitCode;

/// As the server has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let options = Options::parse();
    match credits::run(&options) {
        Ok(outcome) => {
            outcome.print(options.json, options.quick);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
