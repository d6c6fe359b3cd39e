//! `cargo xtask bench gate`: one call that says who it is, whether it may pass and what it costs.

use bench::gate::{self, options::Options};
use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    match gate::run(&options) {
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
