//! The store on both engines: what holds for one holds for the other.
//!
//! PostgreSQL and Redis come from `TOLLGATE_TEST_POSTGRES` and `TOLLGATE_TEST_REDIS`, which `cargo xtask test` sets; a
//! test that needs them fails without, so that nobody takes half a run for a whole one.

mod changes;
mod counting;
mod fresh;
mod many;
mod migrations;
mod outage;
mod transactions;
