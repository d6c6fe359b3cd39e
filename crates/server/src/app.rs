//! What every door works with: settings, the store, keys, and the pools around them.

use crate::settings::Settings;
use identity::HashPool;
use kernel::signed::Signer;
use kernel::{Clock, Vault};
use mail::{Message, Outbox, Recipient};
use std::sync::Arc;
use store::{Counters, Store, Tx};

pub struct App {
    pub settings: Settings,
    pub store: Store,
    pub counters: Counters,
    pub vault: Vault,
    pub signer: Signer,
    pub hasher: HashPool,
    pub outbox: Outbox,
    pub clock: Arc<dyn Clock>,
}

impl App {
    /// The address of a route of the Better Auth door, as it stands in mails: always the configured base URL.
    pub fn auth_url(&self, path: &str) -> String {
        format!("{}/api/auth{path}", self.settings.base_url)
    }
}

/// Promises a mail in the transaction of the change that it belongs to. `email` was checked when it was stored; an
/// address that no mail system takes gets none, which is the owner's doing.
pub(crate) fn promise_mail(
    tx: &mut Tx<'_>,
    app: &App,
    email: &str,
    name: &str,
    message: &Message,
    now: kernel::Millis,
) -> Result<(), store::Error> {
    match mail::Address::parse(email) {
        Ok(address) => {
            let recipient = Recipient::new(address, name);
            mail::enqueue(tx, &app.vault, &recipient, message, now, &mut kernel::random::secure())
        }
        Err(error) => {
            tracing::warn!(%error, template = message.template(), "a mail cannot be addressed");
            Ok(())
        }
    }
}
