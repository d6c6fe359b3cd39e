//! Money under load: Stripe's deliveries at a steady rate, and people who check out while Stripe hangs. The till stands in Stripe's
//! place, within this program, and shares the cores with everybody else.
//!
//! [`shop`] is a server that sells; [`deliveries`] and [`hanging`] are the measures, each with its bars.

mod deliveries;
mod hanging;
pub mod options;
mod shop;

use crate::cache::Cache;
use crate::machine::Conditions;
use crate::report::{Bar, Group, Outcome};
use crate::rounds::{end_after, say};
use options::{Measure, Options, SideName};
use serde_json::{Map, json};
use shop::Shop;
use std::rc::Rc;

pub fn run(options: &Options) -> Result<Outcome, String> {
    let conditions = Conditions::look();
    let cache = Rc::new(Cache::open(&options.folder)?);
    end_after(options.time_limit());
    let (mut taken, mut hung, mut bars) =
        (deliveries::group(options), hanging::group(options), Vec::<Bar>::new());
    let mut versions = Map::new();
    for name in [SideName::TollgateSqlite, SideName::TollgatePostgres] {
        if !options.wants_side(name) {
            continue;
        }
        say(&format!("preparing {}", name.title()));
        let mut shop = Shop::open(options, &cache, name)?;
        versions.insert(name.key().to_owned(), json!(shop.versions()));
        if options.wants(Measure::Deliveries) {
            let measured = deliveries::measure(options, &mut shop, name);
            let (row, found) = measured.map_err(|error| shop.explain(error))?;
            taken.rows.push(row);
            bars.extend(found);
        }
        if options.wants(Measure::Hanging) {
            let measured = hanging::measure(options, &mut shop, name);
            let (rows, found) = measured.map_err(|error| shop.explain(error))?;
            hung.rows.extend(rows);
            bars.extend(found);
        }
    }
    let groups: Vec<Group> = [taken, hung].into_iter().filter(|group| !group.rows.is_empty()).collect();
    let conditions = conditions.to_json(json!({
        "rows": options.rows(),
        "stripe": "the till, in the program that makes the load",
        "versions": versions,
    }));
    Ok(Outcome { conditions, groups, bars })
}
