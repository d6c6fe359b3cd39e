//! One store over SQLite or PostgreSQL. Rules are synchronous closures over a [`Tx`]; nothing outside this room knows
//! which engine runs them.
//!
//! - [`Store::read`] for point look-ups: inline on SQLite, on a worker thread on PostgreSQL. Each statement sees what is
//!   committed when it begins; what must hang together is one statement, or a write.
//! - [`Store::scan`] for lists, searches and exports: never on an executor thread.
//! - [`Store::write`] for changes: grouped into one commit on SQLite, retried after serialisation failures on
//!   PostgreSQL. The closure may run more than once, so it has no effects but its statements.
//! - [`Counters`] for counts that live for a while: in this process, in the store, or in Redis.

mod backup;
mod checkpoints;
mod counters;
mod error;
mod job;
mod many;
mod migrate;
mod postgres;
mod sqlite;
mod store;
mod tx;

pub use counters::{Budget, Counters, Hit, Rule, Spent, Taken, WithoutRedis, hit_from_first_in, hit_in};
pub use error::Error;
pub use many::{InsertMany, Many, UpdateMany};
pub use migrate::{MigrateError, newest_version};
pub use store::{Engine, OpenError, Options, Store};
pub use tx::{FromColumn, Param, Row, Tx};
