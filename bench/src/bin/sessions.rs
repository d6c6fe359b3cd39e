//! `cargo xtask bench sessions`: Tollgate beside its peers under load.

use bench::options::Options;
use bench::sessions::{self, Outcome};
use clap::Parser as _;
use serde_json::Value;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    match sessions::run(&options) {
        Ok(outcome) => {
            if options.json {
                println!("{:#}", to_json(&outcome));
            } else {
                print_tables(&outcome, options.quick);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn to_json(outcome: &Outcome) -> Value {
    let groups: Vec<Value> = outcome.groups.iter().map(|group| group.to_json()).collect();
    serde_json::json!({"conditions": outcome.conditions, "measures": groups})
}

fn print_tables(outcome: &Outcome, quick: bool) {
    for group in &outcome.groups {
        println!("\n{}", group.to_table());
    }
    println!("Conditions");
    for (name, value) in outcome.conditions.as_object().into_iter().flatten() {
        match value {
            Value::Object(values) => {
                println!("  {name}:");
                values.iter().for_each(|(name, value)| println!("    {name}: {}", plain(value)));
            }
            value => println!("  {name}: {}", plain(value)),
        }
    }
    if quick {
        println!("\nA quick run shows that everything works; take no figure from it.");
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
