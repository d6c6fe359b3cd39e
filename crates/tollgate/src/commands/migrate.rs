//! `tollgate migrate`: brings the database to this program's schema, for those who want it done before the start.

use crate::config::Loaded;
use crate::deployment::{accept, open_store, schema_failure};
use crate::terminal::{Outcome, Terminal};
use serde_json::json;

pub fn run(loaded: Loaded, terminal: &Terminal) -> Outcome {
    let config = accept(loaded)?;
    let done = open_store(&config)?.migrate().map_err(|error| schema_failure(&error))?;
    let text = match done.from == done.to {
        true => format!("The database has schema version {} already; nothing to do.", done.to),
        false => format!(
            "Migrated the database from schema version {} to {}. Start with `tollgate serve`.",
            done.from, done.to
        ),
    };
    terminal.result(&text, &json!({"from": done.from, "to": done.to}));
    Ok(())
}
