//! The till as a value: started, asked and told what to do from Rust.

use crate::api;
use crate::catalogue::PriceSeed;
use crate::delivery::Attempt;
use crate::desk::Desk;
use crate::disputes::DisputeStep;
use crate::events::Event;
use crate::faults::Fault;
use crate::form::Form;
use crate::purchase::{Means, Purchase};
use crate::refusal::{Decline, Refusal};
use crate::{door, postman, serve};
use kernel::{Clock, Millis, Secret, SystemClock};
use serde_json::Value;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// How a till is opened.
#[derive(Clone)]
pub struct TillOptions {
    /// A loopback address; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where events go: plain http on this machine. Without it events are only listed.
    pub webhook_url: Option<String>,
    /// All of them sign every delivery, as while one is being replaced.
    pub webhook_secrets: Vec<Secret<String>>,
    /// The key that callers must present; without one it is made from the seed.
    pub secret_key: Option<Secret<String>>,
    /// Where time comes from. The till's own clock is this one, moved ahead by [`Till::advance`].
    pub clock: Arc<dyn Clock>,
    /// Decides every id. Two tills of one seed, told the same at the same times, say the same.
    pub seed: u64,
    /// Prices that are there from the beginning.
    pub prices: Vec<PriceSeed>,
    /// The tax that `automatic_tax` adds on top.
    pub tax_percent: u32,
    /// Writes events in the shapes before API version 2025-03-31.
    pub old_event_shapes: bool,
    /// How many events are on their way at once; one keeps them in order.
    pub deliveries_at_once: usize,
    /// How long the endpoint may take to answer.
    pub delivery_timeout: Duration,
    /// The bound for objects of each kind and for kept events.
    pub most_objects: usize,
}

impl TillOptions {
    /// On a free port, with the machine's clock, without an endpoint.
    #[must_use]
    pub fn new(seed: u64) -> TillOptions {
        TillOptions {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            webhook_url: None,
            webhook_secrets: Vec::new(),
            secret_key: None,
            clock: Arc::new(SystemClock),
            seed,
            prices: Vec::new(),
            tax_percent: 20,
            old_event_shapes: false,
            deliveries_at_once: 1,
            delivery_timeout: Duration::from_secs(20),
            most_objects: 100_000,
        }
    }

    /// With an endpoint for events and the secret that signs them.
    #[must_use]
    pub fn webhook(mut self, url: &str, secret: &str) -> TillOptions {
        self.webhook_url = Some(url.to_owned());
        self.webhook_secrets.push(Secret::new(secret.to_owned()));
        self
    }
}

/// A running till. It ends when the last clone is dropped.
///
/// Objects come back as the API would show them. The methods block until the till has done what they say; those that
/// deliver events wait for the endpoint's answers.
#[derive(Clone)]
pub struct Till(Arc<Running>);

struct Running {
    desk: Arc<Desk>,
    address: SocketAddr,
    runtime: tokio::runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Till {
    /// Opens a till on a thread of its own.
    ///
    /// # Errors
    /// When the address is taken or not loopback, or the options do not fit together.
    pub fn start(options: TillOptions) -> io::Result<Till> {
        if !options.listen.ip().is_loopback() {
            let message = format!("the till listens on loopback only, not on {}", options.listen);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let listener = TcpListener::bind(options.listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let invalid = |refusal: Refusal| io::Error::new(io::ErrorKind::InvalidInput, refusal);
        let desk = Arc::new(Desk::open(options, address).map_err(invalid)?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let for_thread = Arc::clone(&desk);
        let thread = std::thread::Builder::new().name("till".to_owned()).spawn(move || {
            runtime.block_on(async {
                let router = door::router(Arc::clone(&for_thread));
                tokio::select! {
                    () = serve::serve(listener, router) => {}
                    () = postman::run(for_thread) => {}
                    _ = stopped => {}
                }
            });
            // Requests that are silent on purpose would never end.
            runtime.shutdown_background();
        })?;
        Ok(Till(Arc::new(Running { desk, address, runtime: handle, stop: Some(stop), thread: Some(thread) })))
    }

    /// Where the till listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// `http://127.0.0.1:PORT`: what to give a client of Stripe in place of `https://api.stripe.com`. The same address
    /// in a browser shows what happened, with buttons.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.0.desk.base_url
    }

    /// `sk_test_…`, which callers must present.
    #[must_use]
    pub fn secret_key(&self) -> &Secret<String> {
        &self.0.desk.secret_key
    }

    /// The API and the pages, for mounting them on a server of one's own as well.
    pub fn router(&self) -> axum::Router {
        door::router(Arc::clone(&self.0.desk))
    }

    /// The till's time.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.0.desk.now()
    }

    /// Moves the till's clock ahead. What is due on the way happens in order, each at its own time: renewals, retries of
    /// invoices and deliveries, ends of trials, expiry of sessions.
    pub fn advance(&self, by: Duration) {
        self.0.desk.advance(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
    }

    /// Sends events there from now on.
    ///
    /// # Errors
    /// When the URL is not plain http on this machine, or a secret is missing.
    pub fn point_webhooks_at(&self, url: &str, secrets: &[&str]) -> Result<(), Refusal> {
        let secrets = secrets.iter().map(|secret| Secret::new((*secret).to_owned())).collect();
        self.0.desk.set_endpoint(url, secrets)
    }

    /// Puts a price under an id of one's choice, which the API cannot.
    ///
    /// # Errors
    /// When the price is not possible.
    pub fn seed_price(&self, price: &PriceSeed) -> Result<(), Refusal> {
        self.0.desk.seed_price(price)
    }

    /// An API call without HTTP: `till.call("POST", "/v1/customers", &[("email", "a@example.test")])`.
    ///
    /// # Errors
    /// What Stripe would refuse.
    pub fn call(&self, method: &str, path: &str, parameters: &[(&str, &str)]) -> Result<Value, Refusal> {
        self.0.desk.call(method, path, Form::of(parameters)?)
    }

    /// Any object by its id, as it is now.
    #[must_use]
    pub fn object(&self, id: &str) -> Option<Value> {
        self.0.desk.with(|books| books.shown(id))
    }

    /// A buyer pays the session with a good card. Answers the session.
    ///
    /// # Errors
    /// When the session is not open.
    pub fn pay(&self, session: &str) -> Result<Value, Refusal> {
        self.pay_with(session, &Purchase::default())
    }

    /// A buyer pays with these means and choices. A bank debit completes the session unpaid; see [`Till::settle`].
    ///
    /// # Errors
    /// A decline, or a choice that the session does not offer.
    pub fn pay_with(&self, session: &str, purchase: &Purchase) -> Result<Value, Refusal> {
        self.0.desk.buy(session, purchase)
    }

    /// A buyer tries a card that says no. Answers the session, which stays open.
    ///
    /// # Errors
    /// When the session is not open.
    pub fn decline(&self, session: &str, decline: Decline) -> Result<Value, Refusal> {
        match self.0.desk.buy(session, &Purchase::by(Means::Declined(decline))) {
            Err(refusal) if refusal.status != 402 => Err(refusal),
            _ => self.object(session).ok_or_else(|| Refusal::not_found("checkout.session", session)),
        }
    }

    /// A buyer pays by a bank debit, which takes days. Answers the session: complete, and unpaid.
    ///
    /// # Errors
    /// When the session is not open.
    pub fn pay_later(&self, session: &str) -> Result<Value, Refusal> {
        self.pay_with(session, &Purchase::by(Means::Delayed))
    }

    /// Tells how a bank debit ended. `payment` is the payment intent, its session or its invoice. Answers the intent.
    ///
    /// # Errors
    /// When that payment is not processing.
    pub fn settle(&self, payment: &str, paid: bool) -> Result<Value, Refusal> {
        self.0.desk.settle(payment, paid)
    }

    /// Gives back an amount, or all that is left. `payment` is a payment intent, a charge, a session or an invoice.
    /// Answers the refund.
    ///
    /// # Errors
    /// When there is less to give back, or a dispute is open.
    pub fn refund(&self, payment: &str, amount: Option<i64>) -> Result<Value, Refusal> {
        self.0.desk.refund(payment, amount, false)
    }

    /// The same by way of a bank: pending until [`Till::finish_refund`] or [`Till::fail_refund`].
    ///
    /// # Errors
    /// As [`Till::refund`].
    pub fn refund_slowly(&self, payment: &str, amount: Option<i64>) -> Result<Value, Refusal> {
        self.0.desk.refund(payment, amount, true)
    }

    /// A pending refund arrives.
    ///
    /// # Errors
    /// When it is not pending.
    pub fn finish_refund(&self, refund: &str) -> Result<Value, Refusal> {
        self.0.desk.end_refund(refund, true)
    }

    /// A refund comes back from the bank, also one that had succeeded. The charge is unrefunded by as much.
    ///
    /// # Errors
    /// When it failed before or was canceled.
    pub fn fail_refund(&self, refund: &str) -> Result<Value, Refusal> {
        self.0.desk.end_refund(refund, false)
    }

    /// The payer's bank takes the money back for now: of an amount, or of all that was not refunded. Answers the dispute.
    ///
    /// # Errors
    /// When the payment did not succeed or is disputed already.
    pub fn dispute(&self, payment: &str, amount: Option<i64>) -> Result<Value, Refusal> {
        self.0.desk.dispute(payment, amount, false)
    }

    /// The payer's bank only asks: `warning_needs_response`, and no money moves.
    ///
    /// # Errors
    /// As [`Till::dispute`].
    pub fn inquire(&self, payment: &str) -> Result<Value, Refusal> {
        self.0.desk.dispute(payment, None, true)
    }

    /// What happens to a dispute next: it is won, lost, appealed and so on. Answers the dispute.
    ///
    /// # Errors
    /// When the step cannot follow on the dispute's status.
    pub fn step_dispute(&self, dispute: &str, step: DisputeStep) -> Result<Value, Refusal> {
        self.0.desk.step_dispute(dispute, step)
    }

    /// Moves the clock to where this subscription's next payment is made: the end of its period and the hour for which
    /// the invoice is a draft. Other things that are due by then happen as well. Answers the invoice.
    ///
    /// # Errors
    /// When the subscription has ended.
    pub fn renew(&self, subscription: &str) -> Result<Value, Refusal> {
        self.0.desk.renew(subscription)
    }

    /// The same with a card that says no from now on: the invoice stays open, and is charged again after 3, 5 and 7 days.
    ///
    /// # Errors
    /// When the subscription has ended or has no card.
    pub fn fail_renewal(&self, subscription: &str, decline: Decline) -> Result<Value, Refusal> {
        self.0.desk.fail_renewal(subscription, decline)
    }

    /// The subscription's card says yes again.
    ///
    /// # Errors
    /// When it has none.
    pub fn mend_card(&self, subscription: &str) -> Result<(), Refusal> {
        self.0.desk.set_card(subscription, None)
    }

    /// The subscription's card says no from now on.
    ///
    /// # Errors
    /// When it has none.
    pub fn break_card(&self, subscription: &str, decline: Decline) -> Result<(), Refusal> {
        self.0.desk.set_card(subscription, Some(decline))
    }

    /// Charges an open invoice now.
    ///
    /// # Errors
    /// A decline, or an invoice that is not open.
    pub fn pay_invoice(&self, invoice: &str) -> Result<Value, Refusal> {
        self.0.desk.pay_invoice(invoice)
    }

    /// All events that are kept, oldest first.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        self.0.desk.with(|books| books.events.newest_first().rev().map(Event::shown).collect())
    }

    /// The ids of the events of one type, oldest first.
    #[must_use]
    pub fn events_of(&self, kind: &str) -> Vec<String> {
        let of_kind = |event: &&Event| event.kind == kind;
        self.0.desk.with(|books| {
            books.events.newest_first().rev().filter(of_kind).map(|event| event.id.clone()).collect()
        })
    }

    /// How the deliveries of an event went.
    #[must_use]
    pub fn attempts(&self, event: &str) -> Vec<Attempt> {
        self.0.desk.with(|books| {
            books.events.get(event).map(|event| event.posting.attempts.clone()).unwrap_or_default()
        })
    }

    /// Delivers an event now, this many copies at once, whether it was delivered, held back or lost. Answers how each
    /// went.
    ///
    /// # Errors
    /// When there is no such event or no endpoint.
    pub fn deliver(&self, event: &str, copies: usize) -> Result<Vec<Attempt>, Refusal> {
        let (desk, event) = (Arc::clone(&self.0.desk), event.to_owned());
        self.wait(async move { postman::send_copies(&desk, &event, copies).await })
    }

    /// Delivers events one after the other in this order, each after the answer to the one before.
    ///
    /// # Errors
    /// When one does not exist, or there is no endpoint.
    pub fn deliver_in_order(&self, events: &[String]) -> Result<Vec<Attempt>, Refusal> {
        let (desk, events) = (Arc::clone(&self.0.desk), events.to_vec());
        self.wait(async move { postman::send_in_order(&desk, &events).await })
    }

    /// Keeps back all events from now on.
    pub fn hold_deliveries(&self) {
        self.0.desk.with(|books| books.hold_deliveries());
    }

    /// The events that are kept back, oldest first.
    #[must_use]
    pub fn held_events(&self) -> Vec<String> {
        self.0.desk.with(|books| books.held_events())
    }

    /// Lets go of what was kept back, in the order it happened; later events are delivered at once again.
    pub fn release_deliveries(&self) {
        self.0.desk.with(|books| books.release_deliveries());
    }

    /// The same in an order that the seed decides, and with waiting for the answers.
    ///
    /// # Errors
    /// When there is no endpoint.
    pub fn release_shuffled(&self) -> Result<Vec<Attempt>, Refusal> {
        let events = self.0.desk.with(|books| books.shuffled_held_events());
        let attempts = self.deliver_in_order(&events);
        self.release_deliveries();
        attempts
    }

    /// The next events never arrive, unless they are delivered by hand. The list of events has them.
    pub fn lose_next(&self, count: u32) {
        self.0.desk.with(|books| books.lose_next(count));
    }

    /// Waits until nothing is due or on its way; false when that takes longer. Deliveries that failed and wait for the
    /// clock do not count.
    #[must_use]
    pub fn wait_for_deliveries(&self, at_most: Duration) -> bool {
        let desk = Arc::clone(&self.0.desk);
        self.wait(async move { tokio::time::timeout(at_most, postman::until_quiet(&desk)).await.is_ok() })
    }

    /// The next requests meet a fault.
    pub fn fault(&self, fault: Fault, count: u32) {
        self.fault_on("", fault, count);
    }

    /// The next requests whose path begins so meet a fault.
    pub fn fault_on(&self, path: &str, fault: Fault, count: u32) {
        self.0.desk.faults().order(fault, count, path);
    }

    /// No more faults but those that requests are in already.
    pub fn clear_faults(&self) {
        self.0.desk.faults().clear();
    }

    /// How many requests have yet to meet a fault.
    #[must_use]
    pub fn faults_left(&self) -> u32 {
        self.0.desk.faults().left()
    }

    /// Every call the till understands, with the names of its parameters.
    #[must_use]
    pub fn known_calls() -> Value {
        api::known_calls()
    }

    /// Runs on the till's thread and waits for the outcome.
    fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (done, outcome) = std::sync::mpsc::sync_channel(1);
        self.0.runtime.spawn(async move {
            // Nobody is gone: the receiver waits below.
            let _ = done.send(work.await);
        });
        outcome.recv().expect("the till's thread runs as long as a handle to it, and work does not panic")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the till's thread panicked");
        }
    }
}
