//! `cargo xtask bench billing`: how fast deliveries are taken and worked off, and who waits when Stripe hangs.

use bench::billing::{self, options::Options};
use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    match billing::run(&options) {
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
