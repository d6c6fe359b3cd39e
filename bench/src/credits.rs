//! Debits beside what a database does without a ledger: all sides in one run, of which only the ratios count.
//!
//! - [`load`]: callers that debit and wait, the same for every side in this process.
//! - [`ledger`]: Tollgate's ledger in this process; [`raw`] and [`naive`]: the same debit as bare statements.
//! - [`in_process`], [`over_http`] and [`growth`] are the measures, each with its bars.

mod growth;
mod in_process;
mod ledger;
pub(crate) mod load;
mod naive;
pub mod options;
pub(crate) mod over_http;
pub(crate) mod raw;

use crate::cache::Cache;
use crate::machine::Conditions;
use crate::report::{Bar, Group, Outcome};
use crate::rounds::end_after;
use options::{Measure, Options};
use serde_json::{Map, Value, json};
use std::rc::Rc;

/// What a measure found.
#[derive(Default)]
pub(crate) struct Found {
    groups: Vec<Group>,
    bars: Vec<Bar>,
    versions: Map<String, Value>,
}

impl Found {
    fn add(&mut self, other: Found) {
        self.groups.extend(other.groups);
        self.bars.extend(other.bars);
        self.versions.extend(other.versions);
    }
}

pub fn run(options: &Options) -> Result<Outcome, String> {
    let conditions = Conditions::look();
    let cache = Rc::new(Cache::open(&options.folder)?);
    end_after(options.time_limit());
    // As the server makes its own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(1, usize::from))
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    let mut found = Found::default();
    if options.wants(Measure::InProcess) {
        found.add(in_process::measure(options, &cache, &runtime)?);
    }
    if options.wants(Measure::OverHttp) {
        found.add(over_http::measure(options, &cache)?);
    }
    if options.wants(Measure::Growth) {
        found.add(growth::measure(options, &cache, &runtime)?);
    }
    let conditions = conditions.to_json(json!({
        "rounds": options.rounds(),
        "seconds_per_round": options.round().as_secs(),
        "versions": found.versions,
    }));
    Ok(Outcome { conditions, groups: found.groups, bars: found.bars })
}
