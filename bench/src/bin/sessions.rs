//! `cargo xtask bench sessions`: Tollgate beside its peers under load.

use bench::options::Options;
use bench::sessions;
use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    match sessions::run(&options) {
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
