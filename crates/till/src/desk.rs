//! The one place where calls, pages, tests and the postman meet the books: locks, the clock, and what buttons do.

use crate::api::Asked;
use crate::books::{Books, Terms};
use crate::catalogue::PriceSeed;
use crate::delivery::{Endpoint, Post};
use crate::disputes::DisputeStep;
use crate::events::RequestMark;
use crate::faults::Faults;
use crate::form::{Form, Metadata};
use crate::idempotency::Keys;
use crate::purchase::{Means, Purchase};
use crate::refunds::Status as RefundStatus;
use crate::refusal::{Decline, Refusal};
use crate::till::TillOptions;
use crate::versions::{CURRENT_VERSION, OLD_VERSION};
use kernel::{Clock, Millis, Secret};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use url::{Host, Url};

pub(crate) struct Desk {
    books: Mutex<Books>,
    keys: Mutex<Keys>,
    faults: Mutex<Faults>,
    /// The machine's time; deliveries are signed by it, whatever the till's clock says.
    clock: Arc<dyn Clock>,
    /// How far the till's clock was moved ahead, in milliseconds.
    ahead: AtomicI64,
    pub(crate) secret_key: Secret<String>,
    pub(crate) base_url: String,
    pub(crate) post_arrived: Notify,
    pub(crate) deliveries_at_once: usize,
    pub(crate) delivery_timeout: Duration,
}

impl Desk {
    pub(crate) fn open(options: TillOptions, address: SocketAddr) -> Result<Desk, Refusal> {
        let endpoint = match &options.webhook_url {
            Some(url) => Some(endpoint_of(url, options.webhook_secrets.clone())?),
            None => None,
        };
        let base_url = format!("http://{address}");
        let terms = Terms {
            base_url: base_url.clone(),
            account: "acct_till".to_owned(),
            tax_percent: options.tax_percent.into(),
            event_version: if options.old_event_shapes { OLD_VERSION } else { CURRENT_VERSION }.to_owned(),
        };
        let now = options.clock.now();
        let mut books = Books::new(terms, options.seed, now, Post::new(endpoint), options.most_objects);
        for price in &options.prices {
            books.seed_price(price)?;
        }
        let secret_key = match options.secret_key {
            Some(key) => key,
            None => Secret::new(books.ids.next("sk_test")),
        };
        Ok(Desk {
            books: Mutex::new(books),
            keys: Mutex::new(Keys::new(options.most_objects)),
            faults: Mutex::new(Faults::default()),
            clock: options.clock,
            ahead: AtomicI64::new(0),
            secret_key,
            base_url,
            post_arrived: Notify::new(),
            deliveries_at_once: options.deliveries_at_once.max(1),
            delivery_timeout: options.delivery_timeout,
        })
    }

    /// Lets time pass until now, does the work, and wakes the postman if events came of it.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Books) -> T) -> T {
        let (result, has_work) = {
            // A panic elsewhere leaves books that are as good as before for tests, and says so itself.
            let mut books = lock(&self.books);
            books.pass_time(self.now());
            let result = work(&mut books);
            (result, books.post.take_has_work())
        };
        if has_work {
            self.post_arrived.notify_one();
        }
        result
    }

    pub(crate) fn keys(&self) -> MutexGuard<'_, Keys> {
        lock(&self.keys)
    }

    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    pub(crate) fn now(&self) -> Millis {
        self.clock.now().plus(self.ahead.load(Ordering::Acquire))
    }

    /// The machine's time in seconds.
    pub(crate) fn signing_time(&self) -> i64 {
        self.clock.now().0.div_euclid(1_000)
    }

    pub(crate) fn advance(&self, milliseconds: i64) {
        self.ahead.fetch_add(milliseconds.max(0), Ordering::AcqRel);
        self.with(|_| ());
        self.post_arrived.notify_one();
    }

    fn advance_to(&self, seconds: i64) {
        self.advance(seconds.saturating_mul(1_000).saturating_sub(self.now().0));
    }

    pub(crate) fn call(&self, method: &str, path: &str, form: Form) -> Result<Value, Refusal> {
        self.with(|books| {
            let mark = RequestMark { id: books.ids.next("req"), idempotency_key: None };
            books.do_call(Asked { method, path, form, version: None, mark })
        })
    }

    pub(crate) fn set_endpoint(&self, url: &str, secrets: Vec<Secret<String>>) -> Result<(), Refusal> {
        let endpoint = endpoint_of(url, secrets)?;
        self.with(|books| books.set_endpoint(Some(endpoint)));
        Ok(())
    }

    pub(crate) fn seed_price(&self, price: &PriceSeed) -> Result<(), Refusal> {
        self.with(|books| books.seed_price(price))
    }

    pub(crate) fn buy(&self, session: &str, purchase: &Purchase) -> Result<Value, Refusal> {
        self.with(|books| {
            books.buy(session, purchase)?;
            books.answer(session)
        })
    }

    pub(crate) fn settle(&self, payment: &str, paid: bool) -> Result<Value, Refusal> {
        self.with(|books| {
            let intent = books.paid_charge(payment)?.payment_intent.clone();
            books.settle_intent(&intent, paid)?;
            books.answer(&intent)
        })
    }

    pub(crate) fn refund(&self, payment: &str, amount: Option<i64>, pending: bool) -> Result<Value, Refusal> {
        self.with(|books| {
            let charge = books.paid_charge(payment)?.id.clone();
            let status = if pending { RefundStatus::Pending } else { RefundStatus::Succeeded };
            let id = books.refund_charge(&charge, amount, status, None, Metadata::new())?;
            books.answer(&id)
        })
    }

    pub(crate) fn end_refund(&self, refund: &str, arrives: bool) -> Result<Value, Refusal> {
        self.with(|books| {
            let status = if arrives { RefundStatus::Succeeded } else { RefundStatus::Failed };
            books.settle_refund(refund, status)?;
            books.answer(refund)
        })
    }

    pub(crate) fn dispute(
        &self,
        payment: &str,
        amount: Option<i64>,
        inquiry: bool,
    ) -> Result<Value, Refusal> {
        self.with(|books| {
            let charge = books.paid_charge(payment)?.id.clone();
            let id = books.open_dispute(&charge, amount, inquiry)?;
            books.answer(&id)
        })
    }

    pub(crate) fn step_dispute(&self, dispute: &str, step: DisputeStep) -> Result<Value, Refusal> {
        self.with(|books| {
            books.step_dispute(dispute, step)?;
            books.answer(dispute)
        })
    }

    /// Moves the clock to when the subscription's next payment is made.
    pub(crate) fn renew(&self, subscription: &str) -> Result<Value, Refusal> {
        let at = self.with(|books| books.next_payment_at(subscription))?;
        self.advance_to(at);
        self.with(|books| {
            let invoice = books.subscriptions.at(subscription)?.latest_invoice.clone().unwrap_or_default();
            books.answer(&invoice)
        })
    }

    /// Lets the subscription's card say no, or yes again.
    pub(crate) fn set_card(&self, subscription: &str, declines: Option<Decline>) -> Result<(), Refusal> {
        self.with(|books| {
            let held = books.subscriptions.at(subscription)?;
            let method =
                held.default_payment_method.clone().or_else(|| books.usual_payment_method(&held.customer));
            let method = method.ok_or_else(|| {
                Refusal::state(format!(
                    "The subscription {subscription} has no card: nothing can be charged."
                ))
            })?;
            books.payment_methods.at_mut(&method)?.declines = declines;
            Ok(())
        })
    }

    pub(crate) fn fail_renewal(&self, subscription: &str, decline: Decline) -> Result<Value, Refusal> {
        self.set_card(subscription, Some(decline))?;
        self.renew(subscription)
    }

    pub(crate) fn pay_invoice(&self, invoice: &str) -> Result<Value, Refusal> {
        self.with(|books| {
            books.pay_invoice_with(invoice, None)?;
            books.answer(invoice)
        })
    }

    pub(crate) fn means(name: &str) -> Option<Means> {
        match name {
            "card" => Some(Means::Card),
            "delayed" => Some(Means::Delayed),
            "declined" => Some(Means::Declined(Decline::Generic)),
            other => Decline::of(other).map(Means::Declined),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Events go to this machine only, and are signed.
fn endpoint_of(url: &str, secrets: Vec<Secret<String>>) -> Result<Endpoint, Refusal> {
    let refuse = |message: &str| Err(Refusal::invalid("webhook_url", message));
    let Ok(parsed) = Url::parse(url) else { return refuse("The webhook URL is not a URL.") };
    let local = match parsed.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if parsed.scheme() != "http" || !local {
        return refuse(
            "The till sends events to this machine only: the webhook URL must be http://localhost or alike.",
        );
    }
    if secrets.is_empty() || secrets.iter().any(|secret| secret.expose().is_empty()) {
        return refuse(
            "The till signs every event: give it at least one webhook secret, none of them empty.",
        );
    }
    Ok(Endpoint { url: url.to_owned(), secrets })
}
