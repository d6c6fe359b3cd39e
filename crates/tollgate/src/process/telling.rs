//! Telling others: events that leave as signed deliveries, and mails about credits.

use super::Mode;
use crate::config::Config;
use crate::terminal::Failure;
use credits::Owner;
use credits::telling::{self, Notice, What};
use hooks::{Load, Postman, Reach};
use identity::users::{self, Standing};
use kernel::time::{HOUR, SECOND};
use kernel::{Clock as _, Millis, Stopwatch, SystemClock, UserId, Vault, random};
use mail::{Address, Link, Message, Outbox, Recipient};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::{Error, Hit, Rule, Store, Tx, hit_from_first_in};

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

/// How old the figures in `/metrics` may be.
const COUNT: Duration = Duration::from_secs(5);

/// How deliveries stood at the last look, for `/metrics`.
#[derive(Default)]
pub struct DeliveryGauge(Mutex<Load>);

impl DeliveryGauge {
    pub fn load(&self) -> Load {
        // A look that panicked left the figures of the one before.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long the delivery waits that has been due longest; 0: none is due.
    pub fn overdue_seconds(&self, now: Millis) -> i64 {
        self.load().first_due.map_or(0, |due| now.0.saturating_sub(due.0).max(0) / SECOND)
    }

    fn note(&self, load: Load) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = load;
    }
}

/// Runs until the process ends.
pub async fn watch(store: Store, gauge: Arc<DeliveryGauge>) {
    loop {
        match store.scan(hooks::load).await {
            Ok(load) => gauge.note(load),
            // The figures stay as they were; that the database is gone is seen elsewhere.
            Err(error) => tracing::debug!(%error, "the deliveries were not counted"),
        }
        pause(COUNT).await;
    }
}

/// The look for what the ledger has to tell.
const PAUSE: Duration = Duration::from_secs(1);
/// The look for grants that end soon.
const ENDING_PAUSE: Duration = Duration::from_secs(10);
/// The look for what an earlier one may have passed by.
const THOROUGH_PAUSE: Duration = Duration::from_secs(600);
/// Mails about credits to one mailbox, of each kind.
const MAILS: Rule = Rule { window: HOUR, max: 10 };

/// Tells of what the ledger has written. Any number of nodes may run one on the same store.
#[derive(Clone)]
pub struct Teller {
    store: Store,
    vault: Vault,
    outbox: Outbox,
    /// Where people see what they have and get more; none: nobody is mailed.
    page: Option<Link>,
}

impl Teller {
    pub fn new(config: &Config, store: &Store, vault: &Vault, outbox: &Outbox) -> Teller {
        let page = config.mail.credit_notices.then(|| page(config)).flatten();
        Teller { store: store.clone(), vault: vault.clone(), outbox: outbox.clone(), page }
    }

    /// Runs until the process ends.
    pub async fn run(self) {
        tokio::join!(self.movements(), self.endings());
    }

    async fn movements(&self) {
        let mut since_thorough: Option<Stopwatch> = None;
        loop {
            let thorough = since_thorough.is_none_or(|since| since.elapsed() >= THOROUGH_PAUSE);
            match self.tell_movements(thorough).await {
                Ok(()) if thorough => since_thorough = Some(Stopwatch::start()),
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(%error, "nobody was told of what the ledger did; the next round tries again");
                }
            }
            pause(PAUSE).await;
        }
    }

    async fn tell_movements(&self, thorough: bool) -> Result<(), Error> {
        loop {
            let now = SystemClock.now();
            let untold = self.store.scan(move |tx| telling::look(tx, thorough, now)).await?;
            if untold.is_nothing() {
                return Ok(());
            }
            let (teller, told) = (self.clone(), untold.clone());
            let write = move |tx: &mut Tx<'_>| -> Result<(), Error> {
                let now = SystemClock.now();
                let notices = telling::tell(tx, &told, now)?;
                notices.iter().try_for_each(|notice| teller.mail(tx, notice, now))
            };
            self.store.write(write).await?;
            self.outbox.wake();
            if untold.is_all() {
                return Ok(());
            }
        }
    }

    async fn endings(&self) {
        // Those that were not mailed of are not noted either: whoever switches it on later is told of what is left.
        if self.page.is_none() {
            return;
        }
        loop {
            if let Err(error) = self.tell_endings().await {
                tracing::warn!(%error, "nobody was told of credits that end; the next round tries again");
            }
            pause(ENDING_PAUSE).await;
        }
    }

    async fn tell_endings(&self) -> Result<(), Error> {
        loop {
            let now = SystemClock.now();
            if !self.store.scan(move |tx| telling::is_any_ending(tx, now)).await? {
                return Ok(());
            }
            let teller = self.clone();
            let write = move |tx: &mut Tx<'_>| -> Result<(), Error> {
                let now = SystemClock.now();
                let notices = telling::tell_ending(tx, now)?;
                notices.iter().try_for_each(|notice| teller.mail(tx, notice, now))
            };
            self.store.write(write).await?;
            self.outbox.wake();
        }
    }

    /// Promises a mail in the transaction that notes it, if the owner is somebody who reads mail.
    fn mail(&self, tx: &mut Tx<'_>, notice: &Notice, now: Millis) -> Result<(), Error> {
        let (Some(page), Owner::User(id)) = (&self.page, &notice.owner) else { return Ok(()) };
        let Some(user) = users::by_id(tx, &UserId::from_text(id.as_str()))? else { return Ok(()) };
        let Ok(address) = Address::parse(&user.email) else { return Ok(()) };
        if user.standing(now) == Standing::Banned {
            return Ok(());
        }
        let (unit, url) = (notice.unit.clone(), page.clone());
        let message = match notice.what {
            What::Low { available } => Message::CreditsLow { available, unit, url },
            What::Ending { amount, expires_at } => {
                Message::CreditsEnding { amount, unit, ends_at: to_the_minute(expires_at), url }
            }
        };
        let key = format!("mail:{}:{}", message.template(), self.vault.hash("mailbox", &user.email));
        if !matches!(hit_from_first_in(tx, &key, MAILS, now)?, Hit::Counted { .. }) {
            return Ok(());
        }
        let recipient = Recipient::new(address, &user.name);
        mail::enqueue(tx, &self.vault, &recipient, &message, now, &mut random::secure())
    }
}

/// Where the app sells, else Tollgate's own page.
pub fn page(config: &Config) -> Option<Link> {
    let base = config.base_url.as_deref()?;
    let link = match config.credits.buy_url.as_deref() {
        Some(path) if path.starts_with('/') => Link::parse(&format!("{base}{path}")),
        Some(url) => Link::parse(url),
        None => Link::parse(&format!("{base}/billing")),
    };
    link.ok()
}

/// `2026-11-24 18:00 UTC`
fn to_the_minute(at: Millis) -> String {
    let text = at.iso();
    format!("{} {} UTC", &text[..10], &text[11..16])
}

/// Nodes that started together do not wake up together.
async fn pause(time: Duration) {
    let factor = random::jitter(&mut random::secure());
    tokio::time::sleep(time.mul_f64(factor)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load};

    #[test]
    fn an_end_is_told_to_the_minute() {
        assert_eq!(to_the_minute(Millis(1_795_212_345_678)), "2026-11-20 22:05 UTC");
    }

    #[test]
    fn the_link_of_a_mail_is_where_the_app_sells() {
        let link = |more: &[(&str, &str)]| {
            let variables = [&[("TOLLGATE_BASE_URL", "https://auth.example.com")], more].concat();
            let config = load(None, &Environment::from(variables.as_slice())).config;
            page(&config).map(|link| link.as_str().to_owned()).unwrap_or_default()
        };
        assert_eq!(link(&[]), "https://auth.example.com/billing");
        assert_eq!(link(&[("TOLLGATE_CREDITS__BUY_URL", "/pricing")]), "https://auth.example.com/pricing");
        assert_eq!(link(&[("TOLLGATE_CREDITS__BUY_URL", "https://a.example/buy")]), "https://a.example/buy");
    }
}
