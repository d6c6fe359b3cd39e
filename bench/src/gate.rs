//! The gate beside what an app does without it: one call that checks a session and takes a credit, compared with two
//! calls, with a backend that keeps credits in a database of its own, and with what HTTP itself costs.
//!
//! - [`field`]: the servers that are up, and who works for whom; [`backend`]: the small Node backend before them.
//! - [`crowd`]: the people who come, and those among them who have credits; [`requests`]: what is asked and what must
//!   come back.
//! - [`authorize`], [`one_call`] and [`client`] are the measures, each with its bars.

mod authorize;
mod backend;
mod client;
mod crowd;
mod field;
mod one_call;
pub mod options;
mod requests;

use crate::better_auth::BetterAuth;
use crate::cache::Cache;
use crate::machine::Conditions;
use crate::report::{Bar, Group, Outcome};
use crate::rounds::end_after;
use crate::server::Side;
use crate::tollgate::{OnPostgres, OnSqlite};
use crowd::Crowd;
use field::Field;
use options::{Measure, Options, SideName};
use serde_json::{Map, Value, json};
use std::rc::Rc;

/// One of those that are compared, and which.
type NamedSide = (SideName, Box<dyn Side>);
/// What a measure found.
type Found = (Vec<Group>, Vec<Bar>);

pub fn run(options: &Options) -> Result<Outcome, String> {
    let conditions = Conditions::look();
    let cache = Rc::new(Cache::open(&options.folder)?);
    end_after(options.time_limit());
    let mut sides = sides(options, &cache)?;
    let crowd = Crowd::new(options.rows());
    let mut field = Field::start(options, &cache, &mut sides, &crowd)?;
    let mut found = Found::default();
    let mut add = |(groups, bars): Found| {
        found.0.extend(groups);
        found.1.extend(bars);
    };
    if options.wants(Measure::Authorize) {
        add(authorize::measure(options, &mut field, &crowd)?);
    }
    let tollgate_is_up = !field.direct().is_empty();
    if options.wants(Measure::OneCall) && tollgate_is_up {
        add(one_call::measure(options, &mut field, &crowd)?);
    }
    if options.wants(Measure::Client) && tollgate_is_up {
        add(client::measure(options, &cache, &mut field, &crowd)?);
    }
    drop(field);
    let versions: Map<String, Value> =
        sides.iter().map(|(_, side)| (side.key().to_owned(), json!(side.versions()))).collect();
    let (groups, bars) = found;
    let conditions = conditions.to_json(json!({
        "rows": options.rows(),
        "with_credits": format!("{} of them, evenly among the others", crowd.payers()),
        "rounds": options.rounds(),
        "seconds_per_round": options.round().as_secs(),
        "node_backend": backend::FACTS,
        "versions": versions,
    }));
    Ok(Outcome { conditions, groups, bars })
}

fn sides(options: &Options, cache: &Rc<Cache>) -> Result<Vec<NamedSide>, String> {
    let rows = options.rows();
    let mut sides: Vec<NamedSide> = Vec::new();
    for name in [SideName::TollgateSqlite, SideName::TollgatePostgres, SideName::BetterAuth] {
        // Of the measures only one has a peer.
        let takes_part = name != SideName::BetterAuth || options.wants(Measure::Authorize);
        if !takes_part || !options.wants_side(name) {
            continue;
        }
        let side: Box<dyn Side> = match name {
            SideName::TollgateSqlite => Box::new(OnSqlite::new(cache.clone(), options.program()?, rows)),
            SideName::TollgatePostgres => Box::new(OnPostgres::new(cache.clone(), options.program()?, rows)),
            SideName::BetterAuth => Box::new(BetterAuth { cache: cache.clone(), rows, workers: 1 }),
        };
        sides.push((name, side));
    }
    Ok(sides)
}
