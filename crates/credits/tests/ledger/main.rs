//! The ledger on a real store: what the rules say also holds when many ask at once, on both engines.

mod idempotency;
mod low_balance;
mod spenders;
mod tampering;
mod together;
mod world;
