//! What people and backends ask of Stripe through us: checkout, portal, changes of a plan, invoices.

use crate::checkouts::{self, Checkout, Kind, Offer, Status, Unsellable, Wish};
use crate::desk::{Desk, Error};
use crate::stripe::objects::{Customer, Invoice, List, Named, Session, Subscription};
use crate::stripe::{Class, Form, Trouble, segment};
use crate::subject::Subject;
use crate::subscriptions::{self, Running};
use crate::{customers, worth};
use credits::Owner;
use kernel::random;
use serde::Deserialize;
use std::time::Duration;

/// For everything that Stripe is asked on behalf of one who waits, together: they are answered within ten seconds.
const PATIENCE: Duration = Duration::from_millis(9_000);
/// Invoices that are shown at a time.
const MOST_INVOICES: i64 = 100;

/// Who buys. The address is only named if it was proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buyer {
    pub owner: Owner,
    pub email: Option<String>,
}

/// Where the browser goes afterwards; judged by whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returns {
    /// May hold `{CHECKOUT_SESSION_ID}`.
    pub success_url: String,
    pub cancel_url: String,
}

/// Expected refusals and everything else.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotSold {
    #[error("{}", .0.message)]
    Unsellable(Unsellable),
    /// The owner has a plan already: it is changed and not bought twice.
    #[error("there is a subscription already: change it instead of buying another one")]
    Subscribed,
    /// Another call is opening a checkout of a plan at this moment.
    #[error("a checkout is being opened already: try again in a moment")]
    UnderWay,
    #[error("there is no subscription that could be changed")]
    NotSubscribed,
    /// The buyer's card says no. What it would have paid for has not happened.
    #[error("the payment was declined: {0}")]
    Declined(String),
    #[error(transparent)]
    Error(#[from] Error),
}

impl From<Trouble> for NotSold {
    fn from(trouble: Trouble) -> NotSold {
        match trouble {
            Trouble::Refused { status: 402, code, .. } => NotSold::Declined(code),
            trouble => NotSold::Error(trouble.into()),
        }
    }
}

impl From<store::Error> for NotSold {
    fn from(error: store::Error) -> NotSold {
        NotSold::Error(error.into())
    }
}

impl From<Unsellable> for NotSold {
    fn from(unsellable: Unsellable) -> NotSold {
        NotSold::Unsellable(unsellable)
    }
}

/// A checkout that is open at Stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub session_id: String,
    pub url: String,
}

/// What a change of plan would cost now, in the smallest unit of the currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    pub amount: i64,
    pub currency: String,
    /// Credits that the change brings as soon as it is paid.
    pub credits: i64,
    pub unit: String,
}

#[derive(Deserialize)]
struct Portal {
    url: String,
}

/// What was asked may have been done; asking again finds out.
async fn in_time<T, E: From<Trouble>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let late = |_| Err(Trouble::Unavailable(format!("no answers within {} s", PATIENCE.as_secs())).into());
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(late)
}

impl Desk {
    /// The owner's customer at Stripe, made if there is none. Two who ask at once use one key, so Stripe makes one.
    pub async fn customer_of(&self, class: Class, buyer: &Buyer) -> Result<String, Error> {
        let tools = self.tools();
        let (asked, now) = (buyer.clone(), tools.clock.now());
        let prepared = tools.store.write(move |tx| -> Result<_, store::Error> {
            customers::prepare(tx, &asked.owner, asked.email.as_deref(), now)
        });
        let prepared = prepared.await?;
        if let Some(id) = prepared.customer_id {
            return Ok(id);
        }
        let form = Form::new()
            .with("metadata[tollgate_owner]", &buyer.owner)
            .with_some("email", prepared.email.as_deref());
        let key = prepared.idempotency_key(&buyer.owner);
        let made: Customer = tools.stripe.post(class, "/v1/customers", &form, &key).await?;
        let (owner, id) = (buyer.owner.clone(), made.id.clone());
        let kept = tools
            .store
            .write(move |tx| -> Result<(), store::Error> { customers::keep(tx, &owner, &prepared, &id) });
        kept.await?;
        Ok(made.id)
    }

    /// Opens a checkout for a wish. Whatever is written at Stripe follows from the catalogue and from our own row.
    pub async fn checkout(&self, buyer: &Buyer, wish: &Wish, returns: &Returns) -> Result<Opened, NotSold> {
        let opened = async {
            match self.open_checkout(buyer, wish, returns).await {
                Err(NotSold::Error(Error::Stripe(trouble))) if trouble.is_lost_customer() => {
                    self.forget_customer(&buyer.owner).await?;
                    self.open_checkout(buyer, wish, returns).await
                }
                opened => opened,
            }
        };
        in_time(opened).await
    }

    /// Stripe's customer is gone and nobody told us; the next call makes another one.
    async fn forget_customer(&self, owner: &Owner) -> Result<(), store::Error> {
        let owner = owner.clone();
        self.tools()
            .store
            .write(move |tx| match customers::of_owner(tx, &owner)? {
                Some(customer) => customers::unlink(tx, &customer).map(|_| ()),
                None => Ok(()),
            })
            .await
    }

    async fn open_checkout(&self, buyer: &Buyer, wish: &Wish, returns: &Returns) -> Result<Opened, NotSold> {
        let tools = self.tools();
        let offer = checkouts::offer(&tools.terms.catalogue, wish)?;
        let is_plan = matches!(offer, Offer::Plan { .. });
        if is_plan && let Some(open) = self.plan_under_way(&buyer.owner, wish).await? {
            return Ok(open);
        }
        let customer = self.customer_of(Class::Person, buyer).await?;
        let (owner, asked, now) = (buyer.owner.clone(), wish.clone(), tools.clock.now());
        let terms = self.tools_handle();
        let checkout = tools.store.write(move |tx| -> Result<Checkout, NotSold> {
            let offer = checkouts::offer(&terms.terms.catalogue, &asked)?;
            let kind = if matches!(offer, Offer::Plan { .. }) { Kind::Plan } else { Kind::Pack };
            if kind == Kind::Plan {
                // Of two at once the second one finds the first one's row.
                tx.lock("billing checkout", &[&owner.to_string()])?;
                if checkouts::plan_under_way(tx, &owner, now)?.is_some() {
                    return Err(NotSold::UnderWay);
                }
            }
            Ok(checkouts::open(tx, &owner, kind, &offer, now, &mut random::secure())?)
        });
        let checkout = checkout.await?;
        let tries_before = self.had_a_subscription(&buyer.owner).await?;
        let mut form = self.session_form(&checkout, &offer, &customer, returns, tries_before);
        // A plan's is kept anyway.
        if wish.keep_method && !is_plan {
            form = form.with("payment_intent_data[setup_future_usage]", "off_session");
        }
        let key = format!("tg:checkout:{}", checkout.id);
        let session = tools.stripe.post(Class::Person, "/v1/checkout/sessions", &form, &key).await;
        let session: Session = match session {
            // Whether a silent Stripe has made one is not known; a refusing one has not.
            Err(trouble) if !matches!(trouble, Trouble::Unavailable(_)) => {
                self.end_checkout(checkout, Status::Failed).await?;
                return Err(trouble.into());
            }
            session => session?,
        };
        let url = session.url.ok_or_else(|| Trouble::NotUnderstood("a session without an address".into()))?;
        let (id, session_id, now) = (checkout.id, session.id.clone(), tools.clock.now());
        let noted = tools.store.write(move |tx| -> Result<(), store::Error> {
            checkouts::attach_session(tx, &id, &session_id, now)
        });
        noted.await?;
        Ok(Opened { session_id: session.id, url })
    }

    fn session_form(
        &self,
        checkout: &Checkout,
        offer: &Offer<'_>,
        customer: &str,
        returns: &Returns,
        had_one: bool,
    ) -> Form {
        let terms = &self.tools().terms;
        let mut form = Form::new()
            .with("customer", customer)
            .with("client_reference_id", &checkout.id)
            .with(format!("metadata[{}]", checkouts::METADATA), &checkout.id)
            .with("success_url", &returns.success_url)
            .with("cancel_url", &returns.cancel_url)
            .with("line_items[0][quantity]", checkout.quantity);
        match offer {
            Offer::Pack { name, amount, .. } => {
                form = form
                    .with("mode", "payment")
                    .with(format!("payment_intent_data[metadata][{}]", checkouts::METADATA), &checkout.id);
                form = match amount {
                    None => form.with("line_items[0][price]", &checkout.price),
                    Some(amount) => form
                        .with("line_items[0][price_data][currency]", &checkout.currency)
                        .with("line_items[0][price_data][unit_amount]", amount)
                        .with("line_items[0][price_data][product_data][name]", name),
                };
            }
            Offer::Plan { plan, .. } => {
                form = form
                    .with("mode", "subscription")
                    .with("line_items[0][price]", &checkout.price)
                    .with(format!("subscription_data[metadata][{}]", checkouts::METADATA), &checkout.id);
                // Whoever had a plan before has tried it.
                if plan.trial_days > 0 && !had_one {
                    form = form.with("subscription_data[trial_period_days]", plan.trial_days);
                }
            }
        }
        if terms.automatic_tax {
            form = form.with("automatic_tax[enabled]", "true").with("customer_update[address]", "auto");
        }
        if terms.promotion_codes {
            form = form.with("allow_promotion_codes", "true");
        }
        form
    }

    /// A plan is bought once: the same checkout again while it is open, a refusal while there is a subscription.
    async fn plan_under_way(&self, owner: &Owner, wish: &Wish) -> Result<Option<Opened>, NotSold> {
        let tools = self.tools();
        let (looked, now) = (owner.clone(), tools.clock.now());
        let (running, open) = tools
            .store
            .read(move |tx| -> Result<_, store::Error> {
                let running = subscriptions::of_owner(tx, &looked)?.filter(|running| running.live);
                Ok((running, checkouts::plan_under_way(tx, &looked, now)?))
            })
            .await?;
        if running.is_some() {
            return Err(NotSold::Subscribed);
        }
        let Some(open) = open else { return Ok(None) };
        let Some(session_id) = open.session_id.clone() else { return Ok(None) };
        let subject = Subject::Session(session_id.clone());
        self.bring_up_to_date(Class::Person, &subject, None).await?;
        let path = format!("/v1/checkout/sessions/{}", segment(&session_id)?);
        let session: Session = match tools.stripe.get(Class::Person, &path, &Form::new()).await {
            // Stripe has forgotten it: nobody can pay it any more.
            Err(Trouble::Missing(_)) => {
                self.end_checkout(open, Status::Expired).await?;
                return Ok(None);
            }
            session => session?,
        };
        match (checkouts::status_of(&session), session.url) {
            (Status::Open, Some(url)) if open.item == wish.item => Ok(Some(Opened { session_id, url })),
            (Status::Open, _) => {
                // Another plan is wanted: the first checkout must not be paid as well.
                let key = format!("tg:expire:{}", open.id);
                let path = format!("{path}/expire");
                let _: Named = tools.stripe.post(Class::Person, &path, &Form::new(), &key).await?;
                self.bring_up_to_date(Class::Person, &subject, None).await?;
                Ok(None)
            }
            (Status::Paid | Status::Processing, _) => Err(NotSold::Subscribed),
            (Status::Failed | Status::Expired, _) => Ok(None),
        }
    }

    async fn end_checkout(&self, checkout: Checkout, status: Status) -> Result<(), store::Error> {
        let now = self.tools().clock.now();
        self.tools().store.write(move |tx| checkouts::set_status(tx, &checkout, status, None, now)).await
    }

    async fn had_a_subscription(&self, owner: &Owner) -> Result<bool, store::Error> {
        let owner = owner.clone();
        self.tools().store.read(move |tx| Ok(subscriptions::of_owner(tx, &owner)?.is_some())).await
    }

    /// Where people see invoices, replace a card and cancel.
    pub async fn portal(&self, buyer: &Buyer, return_url: &str) -> Result<String, Error> {
        let opened = async {
            match self.open_portal(buyer, return_url).await {
                Err(Error::Stripe(trouble)) if trouble.is_lost_customer() => {
                    self.forget_customer(&buyer.owner).await?;
                    self.open_portal(buyer, return_url).await
                }
                opened => opened,
            }
        };
        in_time(opened).await
    }

    async fn open_portal(&self, buyer: &Buyer, return_url: &str) -> Result<String, Error> {
        let customer = self.customer_of(Class::Person, buyer).await?;
        let form = Form::new().with("customer", &customer).with("return_url", return_url);
        // Each visit is a session of its own.
        let key = format!("tg:portal:{}", random::alphanumeric(&mut random::secure(), 24));
        let portal: Portal =
            self.tools().stripe.post(Class::Person, "/v1/billing_portal/sessions", &form, &key).await?;
        Ok(portal.url)
    }

    /// What our row says about a session of this owner; what is still open is looked at again, which is all that the return to
    /// the success page does.
    pub async fn checkout_status(&self, owner: &Owner, session_id: &str) -> Result<Option<Checkout>, Error> {
        // Whatever else it is, it is no id.
        if segment(session_id).is_err() {
            return Ok(None);
        }
        let found = self.checkout_row(owner, session_id).await?;
        let waits = |checkout: &Checkout| matches!(checkout.status, Status::Open | Status::Processing);
        if !found.as_ref().is_some_and(waits) {
            return Ok(found);
        }
        let subject = Subject::Session(session_id.to_owned());
        match in_time(self.bring_up_to_date(Class::Person, &subject, None)).await {
            Ok(_) => Ok(self.checkout_row(owner, session_id).await?),
            // Stripe is not there: what we know is still true.
            Err(Error::Stripe(Trouble::Unavailable(_))) => Ok(found),
            Err(error) => Err(error),
        }
    }

    async fn checkout_row(&self, owner: &Owner, session_id: &str) -> Result<Option<Checkout>, store::Error> {
        let (owner, session_id) = (owner.clone(), session_id.to_owned());
        let found = self.tools().store.read(move |tx| checkouts::of_session(tx, &session_id)).await?;
        Ok(found.filter(|checkout| checkout.owner == owner))
    }

    pub async fn subscription_of(&self, owner: &Owner) -> Result<Option<Running>, store::Error> {
        let owner = owner.clone();
        self.tools().store.read(move |tx| subscriptions::of_owner(tx, &owner)).await
    }

    async fn live_subscription(&self, owner: &Owner) -> Result<Running, NotSold> {
        let running = self.subscription_of(owner).await?.filter(|running| running.live);
        running.ok_or(NotSold::NotSubscribed)
    }

    /// Changes the plan. A greater one is charged at once for the rest of the period; a smaller one costs less from the next
    /// period on, and takes no credits away.
    pub async fn change_plan(&self, owner: &Owner, plan: &str) -> Result<Running, NotSold> {
        let running = self.live_subscription(owner).await?;
        let (price, is_upgrade) = self.change_to(&running, plan)?;
        let prorated = if is_upgrade { "always_invoice" } else { "none" };
        let mut form = Form::new()
            .with("items[0][id]", &running.item_id)
            .with("items[0][price]", &price)
            .with("proration_behavior", prorated)
            .with("cancel_at_period_end", "false");
        if is_upgrade {
            // Not paid, not changed.
            form = form.with("payment_behavior", "error_if_incomplete");
        }
        self.update(&running, "change", &form).await
    }

    pub async fn preview_change(&self, owner: &Owner, plan: &str) -> Result<Preview, NotSold> {
        let running = self.live_subscription(owner).await?;
        let (price, is_upgrade) = self.change_to(&running, plan)?;
        let catalogue = &self.tools().terms.catalogue;
        let next = catalogue.plan_of_price(&price).map(|(_, plan)| plan);
        let (unit, currency) =
            next.map_or_else(Default::default, |plan| (plan.unit.clone(), plan.currency.clone()));
        if !is_upgrade {
            return Ok(Preview { amount: 0, currency, credits: 0, unit });
        }
        let form = Form::new()
            .with("subscription", &running.id)
            .with("subscription_details[items][0][id]", &running.item_id)
            .with("subscription_details[items][0][price]", &price)
            .with("subscription_details[proration_behavior]", "always_invoice");
        let key = format!("tg:preview:{}", random::alphanumeric(&mut random::secure(), 24));
        let path = "/v1/invoices/create_preview";
        let invoice: Invoice = self.tools().stripe.post(Class::Person, path, &form, &key).await?;
        let prorated = invoice.lines.data.iter().filter(|line| line.is_proration()).map(|line| line.amount);
        let prorated = prorated.fold(0, i64::saturating_add);
        let old = catalogue.plan_of_price(&running.price).map(|(_, plan)| plan);
        let credits = match (old, next) {
            (Some(old), Some(new)) => worth::of_upgrade(old, new, prorated),
            _ => 0,
        };
        Ok(Preview { amount: invoice.total, currency: invoice.currency, credits, unit })
    }

    /// The price of a plan, and whether it costs more than the one that runs.
    fn change_to(&self, running: &Running, plan: &str) -> Result<(String, bool), NotSold> {
        let catalogue = &self.tools().terms.catalogue;
        let refused = |message: &str| Unsellable { field: "plan", message: message.into() };
        let next = catalogue.plans.get(plan).ok_or_else(|| refused("there is no plan of this name"))?;
        if next.price == running.price {
            return Err(refused("this plan runs already").into());
        }
        let amount = catalogue.plan_of_price(&running.price).map_or(0, |(_, plan)| plan.amount);
        Ok((next.price.clone(), next.amount > amount))
    }

    /// At the end of what was paid for; until then it can be taken back.
    pub async fn cancel(&self, owner: &Owner) -> Result<Running, NotSold> {
        let running = self.live_subscription(owner).await?;
        self.update(&running, "cancel", &Form::new().with("cancel_at_period_end", "true")).await
    }

    pub async fn resume(&self, owner: &Owner) -> Result<Running, NotSold> {
        let running = self.live_subscription(owner).await?;
        self.update(&running, "resume", &Form::new().with("cancel_at_period_end", "false")).await
    }

    async fn update(&self, running: &Running, what: &str, form: &Form) -> Result<Running, NotSold> {
        let path = format!("/v1/subscriptions/{}", segment(&running.id)?);
        // As often as somebody decides: a decision is not repeated by a key that Stripe remembers for a day.
        let key = format!("tg:{what}:{}:{}", running.id, random::alphanumeric(&mut random::secure(), 16));
        let updated = async {
            let _: Subscription = self.tools().stripe.post(Class::Person, &path, form, &key).await?;
            let subject = Subject::Subscription(running.id.clone());
            Ok::<_, NotSold>(self.bring_up_to_date(Class::Person, &subject, None).await?)
        };
        in_time(updated).await?;
        let id = running.id.clone();
        let found = self.tools().store.read(move |tx| subscriptions::find(tx, &id)).await?;
        found.ok_or(NotSold::NotSubscribed)
    }

    /// Newest first. None were written for an owner without a customer.
    pub async fn invoices(&self, owner: &Owner) -> Result<Vec<Invoice>, Error> {
        let looked = owner.clone();
        let customer = self.tools().store.read(move |tx| customers::of_owner(tx, &looked)).await?;
        let Some(customer) = customer else { return Ok(Vec::new()) };
        let query = Form::new().with("customer", &customer).with("limit", MOST_INVOICES);
        let list: List<Invoice> = self.tools().stripe.get(Class::Person, "/v1/invoices", &query).await?;
        Ok(list.data)
    }

    /// Ends at once what an owner who is gone still pays for.
    pub async fn cancel_for_good(&self, subscription_id: &str) -> Result<(), Error> {
        let path = format!("/v1/subscriptions/{}", segment(subscription_id)?);
        match self.tools().stripe.delete::<Subscription>(Class::Worker, &path, &Form::new()).await {
            Ok(_) | Err(Trouble::Missing(_)) => Ok(()),
            Err(trouble) => Err(trouble.into()),
        }
    }
}
