//! Automatic top-ups at Stripe: one payment without its owner at a time. Every step leaves a row before the next one, and every
//! step may be done again, by any node: Stripe is asked under one key, and whether it made a payment is looked up before it is
//! asked once more.

use crate::books::Problem;
use crate::checkouts::{self, Checkout, Unsellable};
use crate::customers;
use crate::desk::{Desk, Error};
use crate::stripe::objects::{Customer, List, Named, PaymentIntent, PaymentMethod};
use crate::stripe::{Class, Form, Trouble, segment};
use crate::subject::Subject;
use crate::topups::{self, TopUp, UnderWay, Wanted};
use credits::Owner;
use kernel::Millis;
use kernel::time::HOUR;
use std::time::Duration;
use tokio::task::JoinSet;

/// Owners that are served at once.
const AT_ONCE: usize = 8;
const MOST: i64 = 100;
const POLL: Duration = Duration::from_secs(1);

/// What somebody is shown: the row, and how many payments were made in this month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub top_up: Option<TopUp>,
    pub count: i64,
}

/// What came of asking Stripe for the payment.
enum Asked {
    /// It exists, whatever became of it.
    Made(String),
    /// There is none, and there will be none.
    Not(String),
    /// Somebody else has ended it.
    Over,
}

impl Desk {
    pub async fn top_up_of(&self, owner: &Owner) -> Result<Shown, store::Error> {
        let (tools, owner, now) = (self.tools_handle(), owner.clone(), self.tools().clock.now());
        let read = move |tx: &mut store::Tx<'_>| -> Result<Shown, store::Error> {
            let found = topups::find_with_count(tx, &tools.ledger, &owner, now)?;
            let (top_up, count) = found.map_or((None, 0), |(top_up, count)| (Some(top_up), count));
            Ok(Shown { top_up, count })
        };
        self.tools().store.read(read).await
    }

    pub async fn set_top_up(
        &self,
        owner: &Owner,
        wanted: Wanted,
    ) -> Result<Result<Shown, Unsellable>, store::Error> {
        let (tools, owner, now) = (self.tools_handle(), owner.clone(), self.tools().clock.now());
        let write = move |tx: &mut store::Tx<'_>| -> Result<_, store::Error> {
            let kept = topups::put(tx, &tools.terms.catalogue, &owner, &wanted, now)?;
            let found = topups::find_with_count(tx, &tools.ledger, &owner, now)?;
            let count = found.map_or(0, |(_, count)| count);
            Ok(kept.map(|top_up| Shown { top_up: Some(top_up), count }))
        };
        self.tools().store.write(write).await
    }

    /// Looks every second who has little left, and pays. Dropping the future stops at once, as a crash would.
    pub async fn top_up(self) {
        let mut working: JoinSet<Owner> = JoinSet::new();
        let mut served: Vec<Owner> = Vec::new();
        loop {
            for owner in self.due_owners(&served).await {
                let desk = self.clone();
                served.push(owner.clone());
                working.spawn(async move {
                    if let Err(error) = desk.serve(&owner).await {
                        tracing::warn!(%error, "an automatic top-up was not looked after; the next round tries again");
                    }
                    owner
                });
            }
            let full = working.len() >= AT_ONCE;
            tokio::select! {
                Some(ended) = working.join_next(), if !working.is_empty() => match ended {
                    Ok(owner) => served.retain(|served| *served != owner),
                    // A panic: who it was is not said. What is under way has its lease, and the rest is looked at again.
                    Err(error) => {
                        tracing::error!(%error, "work on an automatic top-up ended unexpectedly");
                        if working.is_empty() {
                            served.clear();
                        }
                    }
                },
                () = tokio::time::sleep(POLL), if !full => {}
            }
        }
    }

    async fn due_owners(&self, served: &[Owner]) -> Vec<Owner> {
        let now = self.tools().clock.now();
        let most = (AT_ONCE + served.len()) as i64;
        let due = self.tools().store.scan(move |tx| topups::due(tx, most, now)).await;
        let due = due.unwrap_or_else(|error: store::Error| {
            tracing::warn!(%error, "nobody looked who has little left");
            Vec::new()
        });
        let room = AT_ONCE.saturating_sub(served.len());
        due.into_iter().filter(|owner| !served.contains(owner)).take(room).collect()
    }

    async fn serve(&self, owner: &Owner) -> Result<(), Error> {
        let (tools, asked) = (self.tools_handle(), owner.clone());
        let taken = self.tools().store.write(move |tx| {
            let books = tools.books(tools.clock.now());
            topups::take(tx, books, &tools.terms.catalogue, &asked)
        });
        let Some(under_way) = taken.await? else { return Ok(()) };
        let UnderWay { top_up, checkout } = &under_way;
        let pushed = match &checkout.payment_intent {
            Some(payment) => Ok(Asked::Made(payment.clone())),
            None => self.ask(top_up, checkout).await,
        };
        let ended = match pushed {
            Ok(Asked::Over) => return Ok(()),
            Ok(Asked::Made(payment)) => self.follow(checkout, &payment).await,
            Ok(Asked::Not(reason)) => Ok(self.end_attempt(checkout, reason).await?),
            Err(error) => Err(error),
        };
        let Err(error) = ended else { return Ok(()) };
        if error.may_pass() {
            tracing::warn!(checkout = checkout.id, %error, "an automatic top-up waits");
        } else {
            tracing::error!(checkout = checkout.id, %error, "an automatic top-up needs a person to look at it");
        }
        // What a person has to look at is looked at again once in a while. Its words are for the log: owners read the row.
        let (pause, word) = match error.may_pass() {
            true => (topups::pause_after(top_up.attempts), "stripe_unavailable"),
            false => (HOUR, "waits_for_operator"),
        };
        let now = self.tools().clock.now();
        self.pause(checkout, now.plus(pause), Some(word)).await?;
        Ok(())
    }

    /// Asks Stripe for the payment, unless it has made it already.
    async fn ask(&self, top_up: &TopUp, checkout: &Checkout) -> Result<Asked, Error> {
        if top_up.attempts > 1
            && let Some(customer) = &top_up.customer_id
        {
            if let Some(made) = self.made_already(customer, checkout).await? {
                return self.attach(checkout, made).await;
            }
            // The key is forgotten one day. Until then it has long been certain that there is no such payment.
            let age = self.tools().clock.now().0.saturating_sub(checkout.created_at.0);
            if !(0..topups::ASK_AGAIN_WITHIN).contains(&age) {
                return Ok(Asked::Not("stripe_did_not_answer".into()));
            }
        }
        let (customer, method) = match (&top_up.customer_id, &top_up.payment_method) {
            (Some(customer), Some(method)) => (customer.clone(), method.clone()),
            _ => match self.way_to_pay(&checkout.owner).await? {
                Some(found) => found,
                None => return Ok(Asked::Not("no_payment_method".into())),
            },
        };
        let Some(top_up) = self.name_method(checkout, customer, method).await? else {
            return Ok(Asked::Over);
        };
        let key = format!("tg:topup:{}", checkout.id);
        let form = form(&top_up, checkout);
        let made = self.tools().stripe.post(Class::Worker, "/v1/payment_intents", &form, &key).await;
        match made {
            Ok(Named { id }) => self.attach(checkout, id).await,
            // A declined payment exists.
            Err(Trouble::Refused { payment_intent: Some(id), .. }) => self.attach(checkout, id).await,
            // These say nothing about this payment: a key that was replaced, and a call that was made in other words before.
            Err(trouble @ Trouble::Refused { status: 401 | 403, .. }) => Err(trouble.into()),
            Err(Trouble::Refused { code, .. }) if code == "idempotency_error" => {
                Err(Trouble::Unavailable("the key of this call was used for another one".into()).into())
            }
            Err(Trouble::Refused { code, message, .. }) => {
                tracing::error!(checkout = checkout.id, code, message, "Stripe refused an automatic top-up");
                Ok(Asked::Not(code))
            }
            // Whether it was made is not known: the next look finds out.
            Err(trouble) => Err(Trouble::Unavailable(trouble.to_string()).into()),
        }
    }

    /// The payment that an earlier call made, by the row's id in the metadata that only we write. It is among the customer's newest,
    /// since nothing else is begun for them meanwhile; the time is not asked for, because two clocks may not agree.
    async fn made_already(&self, customer: &str, checkout: &Checkout) -> Result<Option<String>, Trouble> {
        let query = Form::new().with("customer", customer).with("limit", MOST);
        let list: Result<List<PaymentIntent>, _> =
            self.tools().stripe.get(Class::Worker, "/v1/payment_intents", &query).await;
        let list = match list {
            // The customer is gone, and its payments with it.
            Err(trouble) if trouble.is_lost_customer() => return Ok(None),
            list => list?,
        };
        let ours = |intent: &&PaymentIntent| intent.metadata.get(checkouts::METADATA) == Some(&checkout.id);
        Ok(list.data.iter().find(ours).map(|found| found.id.clone()))
    }

    /// The owner's customer and the method to charge: the one that is the customer's usual one, else the newest card, else
    /// whatever else there is.
    async fn way_to_pay(&self, owner: &Owner) -> Result<Option<(String, String)>, Error> {
        let looked = owner.clone();
        let customer = self.tools().store.read(move |tx| customers::of_owner(tx, &looked)).await?;
        let Some(customer) = customer else { return Ok(None) };
        let stripe = &self.tools().stripe;
        let path = format!("/v1/customers/{}", segment(&customer)?);
        let found: Customer = match stripe.get(Class::Worker, &path, &Form::new()).await {
            Err(Trouble::Missing(_)) => return Ok(None),
            found => found?,
        };
        if found.deleted {
            return Ok(None);
        }
        if let Some(usual) = found.usual_method() {
            let usual = usual.to_owned();
            return Ok(Some((customer, usual)));
        }
        let query = Form::new().with("customer", &customer).with("limit", MOST);
        let methods: List<PaymentMethod> = stripe.get(Class::Worker, "/v1/payment_methods", &query).await?;
        let card = methods.data.iter().find(|method| method.r#type == "card");
        let method = card.or(methods.data.first()).map(|method| method.id.clone());
        Ok(method.map(|method| (customer, method)))
    }

    async fn name_method(
        &self,
        checkout: &Checkout,
        customer: String,
        method: String,
    ) -> Result<Option<TopUp>, Problem> {
        let (tools, checkout) = (self.tools_handle(), checkout.clone());
        let write = move |tx: &mut store::Tx<'_>| {
            topups::name_method(tx, tools.books(tools.clock.now()), &checkout, &customer, &method)
        };
        self.tools().store.write(write).await
    }

    async fn attach(&self, checkout: &Checkout, payment: String) -> Result<Asked, Error> {
        let (id, kept, now) = (checkout.id.clone(), payment.clone(), self.tools().clock.now());
        let noted = self
            .tools()
            .store
            .write(move |tx| -> Result<(), store::Error> { checkouts::attach_payment(tx, &id, &kept, now) });
        noted.await?;
        Ok(Asked::Made(payment))
    }

    /// What became of the payment. One that was declined is called off first, so that nobody can pay it later beside the next one.
    async fn follow(&self, checkout: &Checkout, payment: &str) -> Result<(), Error> {
        let path = format!("/v1/payment_intents/{}", segment(payment)?);
        let intent: PaymentIntent = match self.tools().stripe.get(Class::Worker, &path, &Form::new()).await {
            // The key belongs to another account by now, and nobody can find out any more.
            Err(Trouble::Missing(_)) => return Ok(self.end_attempt(checkout, "payment_gone".into()).await?),
            intent => intent?,
        };
        if intent.waits_for_its_owner() {
            let key = format!("tg:topup:off:{}", checkout.id);
            let path = format!("{path}/cancel");
            match self.tools().stripe.post::<Named>(Class::Worker, &path, &Form::new(), &key).await {
                // It moved on by itself; what it is now is read below.
                Ok(_) | Err(Trouble::Refused { status: 400, .. }) => {}
                Err(trouble) => return Err(trouble.into()),
            }
        }
        self.bring_up_to_date(Class::Worker, &Subject::TopUp(payment.to_owned()), None).await?;
        let until = self.tools().clock.now().plus(topups::LOOK_AGAIN);
        Ok(self.pause(checkout, until, None).await?)
    }

    async fn pause(
        &self,
        checkout: &Checkout,
        until: Millis,
        error: Option<&'static str>,
    ) -> Result<(), store::Error> {
        let checkout = checkout.clone();
        let write = move |tx: &mut store::Tx<'_>| topups::pause(tx, &checkout, until, error);
        self.tools().store.write(write).await
    }

    async fn end_attempt(&self, checkout: &Checkout, reason: String) -> Result<(), store::Error> {
        let (tools, checkout) = (self.tools_handle(), checkout.clone());
        let write = move |tx: &mut store::Tx<'_>| -> Result<(), store::Error> {
            let books = tools.books(tools.clock.now());
            checkouts::set_status(tx, &checkout, checkouts::Status::Failed, None, books.now)?;
            topups::failed(tx, books, &checkout, tools.terms.page.as_ref(), &reason)
        };
        self.tools().store.write(write).await
    }
}

fn form(top_up: &TopUp, checkout: &Checkout) -> Form {
    Form::new()
        .with("amount", checkout.amount.unwrap_or_default())
        .with("currency", &checkout.currency)
        .with_some("customer", top_up.customer_id.as_deref())
        .with_some("payment_method", top_up.payment_method.as_deref())
        .with("confirm", "true")
        .with("off_session", "true")
        .with("automatic_payment_methods[enabled]", "true")
        // Nobody is there to be led anywhere.
        .with("automatic_payment_methods[allow_redirects]", "never")
        .with("description", format!("Automatic top-up: {}", checkout.item))
        .with(format!("metadata[{}]", checkouts::METADATA), &checkout.id)
}
