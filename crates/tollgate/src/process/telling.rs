//! Telling others: events that leave as signed deliveries.

use super::Mode;
use crate::config::Config;
use crate::terminal::Failure;
use hooks::{Postman, Reach};
use kernel::{SystemClock, Vault};
use std::sync::Arc;
use store::Store;

/// In `dev` the app that is told runs on this machine.
pub fn postman(config: &Config, mode: Mode, store: &Store, vault: &Vault) -> Result<Postman, Failure> {
    let reach = Reach { loopback: mode == Mode::Dev, private: config.hooks.allow_private };
    let postman = Postman::new(store.clone(), vault.clone(), Arc::new(SystemClock), reach);
    postman.ok_or_else(|| {
        Failure::new(
            "This program was built without the ciphers that TLS needs.",
            "Use a release, or build it with its default features.",
        )
    })
}
