//! What every door works with: settings, the store, keys, and the pools around them.

use crate::settings::Settings;
use crate::tokens::Tokens;
use billing::desk::Desk;
use credits::Ledger;
use gate::guest_cookie::GuestKeys;
use identity::HashPool;
use identity::one_time::{self, Purpose};
use kernel::signed::Signer;
use kernel::{Clock, Millis, Vault, random};
use mail::{Message, Outbox, Recipient};
use oidc::Providers;
use std::sync::Arc;
use store::{Counters, Hit, Rule, Store, Tx, hit_from_first_in};

pub struct App {
    pub settings: Settings,
    pub store: Store,
    pub counters: Counters,
    pub vault: Vault,
    pub signer: Signer,
    pub guest_keys: GuestKeys,
    pub hasher: HashPool,
    pub outbox: Outbox,
    pub ledger: Ledger,
    /// `None`: nothing is sold here.
    pub billing: Option<Desk>,
    /// What is signed for services that check it by themselves.
    pub tokens: Tokens,
    /// Where else people may sign in.
    pub providers: Providers,
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
    // Nobody reads it.
    if identity::anonymous::is_placeholder(email) {
        return Ok(());
    }
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

/// Mails of one kind to one mailbox: whoever knows an address must not be able to fill it, nor to kill every link that its
/// owner asks for by asking once more.
const MAILS: Rule = Rule { window: kernel::time::HOUR, max: 10 };

/// Counts a mail to a mailbox; past the limit nothing is sent and no link is made, and the caller's answer stays the same.
pub(crate) fn may_mail(
    tx: &mut Tx<'_>,
    app: &App,
    email: &str,
    template: &'static str,
    now: Millis,
) -> Result<bool, store::Error> {
    if !app.settings.rate_limit.enabled {
        return Ok(true);
    }
    let key = format!("mail:{template}:{}", app.vault.hash("mailbox", email));
    Ok(matches!(hit_from_first_in(tx, &key, MAILS, now)?, Hit::Counted { .. }))
}

/// As much work as a link and its mail, for an address that gets none.
pub(crate) fn pretend_mail(
    tx: &mut Tx<'_>,
    app: &App,
    purpose: Purpose,
    email: &str,
    template: &'static str,
    now: Millis,
) -> Result<(), store::Error> {
    let rng = &mut random::secure();
    one_time::pretend(tx, &app.vault, purpose, email, now, rng)?;
    mail::pretend(tx, &app.vault, template, now, rng)
}
