//! What somebody is about to buy. The row is written before Stripe is asked and says what was offered; what Stripe reports later
//! is held against it.

use crate::books::{Problem, owner};
use crate::catalogue::{Catalogue, Custom, Pack, Plan};
use crate::stripe::objects::{Ref, Session};
use crate::worth;
use credits::Owner;
use kernel::time::{DAY, MINUTE};
use kernel::{Millis, random};
use rand::CryptoRng;
use store::{Error, Row, Tx, params};

macro_rules! columns {
    () => {
        "id, owner, kind, item, price, currency, unit, credits, quantity, amount, session_id, payment_intent, status, created_at"
    };
}

const OPEN: &str = concat!(
    "INSERT INTO billing_checkouts (",
    columns!(),
    ", updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULL, NULL, 'open', $11, $11)"
);
const ATTACH: &str = "UPDATE billing_checkouts SET session_id = $2, updated_at = $3 WHERE id = $1";
const ATTACH_PAYMENT: &str =
    "UPDATE billing_checkouts SET payment_intent = $2, updated_at = $3 WHERE id = $1";
const OF_SESSION: &str = concat!("SELECT ", columns!(), " FROM billing_checkouts WHERE session_id = $1");
const OF_PAYMENT: &str = concat!("SELECT ", columns!(), " FROM billing_checkouts WHERE payment_intent = $1");
const ONE: &str = concat!("SELECT ", columns!(), " FROM billing_checkouts WHERE id = $1");
const MOVE: &str = "UPDATE billing_checkouts SET status = $2, payment_intent = COALESCE($3, payment_intent), updated_at = $4 WHERE id = $1";
const WAITING: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM billing_checkouts
    WHERE status IN ('open', 'processing') AND (created_at, id) > ($1, $2) AND created_at < $3
    ORDER BY created_at, id LIMIT $4"
);
const PLAN_UNDER_WAY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM billing_checkouts
    WHERE owner = $1 AND kind = 'plan' AND status IN ('open', 'processing') AND created_at > $2
      AND (session_id IS NOT NULL OR created_at > $3)
    ORDER BY created_at DESC LIMIT 1"
);

/// Where our row's id stands among the metadata of what we make at Stripe.
pub const METADATA: &str = "tollgate_checkout";
/// Stripe ends a session after a day at the latest.
pub const LIFE: i64 = DAY;
/// A row without a session is one whose call is under way, or came to nothing.
const CALL: i64 = MINUTE;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Pack,
    Plan,
    TopUp,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Pack => "pack",
            Kind::Plan => "plan",
            Kind::TopUp => "topup",
        }
    }

    fn parse(text: &str) -> Option<Kind> {
        [Kind::Pack, Kind::Plan, Kind::TopUp].into_iter().find(|kind| kind.name() == text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Open,
    /// The method takes days; it is neither a success nor a failure.
    Processing,
    Paid,
    Failed,
    Expired,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Open => "open",
            Status::Processing => "processing",
            Status::Paid => "paid",
            Status::Failed => "failed",
            Status::Expired => "expired",
        }
    }

    fn parse(text: &str) -> Option<Status> {
        [Status::Open, Status::Processing, Status::Paid, Status::Failed, Status::Expired]
            .into_iter()
            .find(|status| status.name() == text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    pub id: String,
    pub owner: Owner,
    pub kind: Kind,
    /// The name in the catalogue.
    pub item: String,
    pub price: String,
    pub currency: String,
    pub unit: String,
    /// For each piece, or for 100 of the smallest unit where the buyer names the amount.
    pub credits: i64,
    pub quantity: i64,
    pub amount: Option<i64>,
    pub session_id: Option<String>,
    pub payment_intent: Option<String>,
    pub status: Status,
    pub created_at: Millis,
}

/// What a browser or a backend asks for: a name, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wish {
    pub item: String,
    pub quantity: Option<i64>,
    pub amount: Option<i64>,
    /// The way of paying is kept at Stripe, for payments that nobody is there for.
    pub keep_method: bool,
}

/// Why a wish is refused; `field` is the member at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsellable {
    pub field: &'static str,
    pub message: String,
}

/// What is offered for a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offer<'a> {
    Pack { name: &'a str, pack: &'a Pack, quantity: i64, amount: Option<i64>, credits: i64 },
    Plan { name: &'a str, plan: &'a Plan },
}

/// The one place where a wish meets the catalogue.
pub fn offer<'a>(catalogue: &'a Catalogue, wish: &Wish) -> Result<Offer<'a>, Unsellable> {
    let refused = |field, message: String| Err(Unsellable { field, message });
    if let Some((name, plan)) = catalogue.plans.get_key_value(&wish.item) {
        if wish.quantity.is_some_and(|quantity| quantity != 1) {
            return refused("quantity", "a plan is bought once".into());
        }
        if wish.amount.is_some() {
            return refused("amount", "the price of a plan is fixed".into());
        }
        return Ok(Offer::Plan { name, plan });
    }
    let Some((name, pack)) = catalogue.packs.get_key_value(&wish.item) else {
        return refused("price", "there is nothing of this name in the catalogue".into());
    };
    match (pack.custom, wish.amount) {
        (Some(Custom { min, max, .. }), None) => {
            refused("amount", format!("the buyer names the amount, from {min} to {max}"))
        }
        (None, Some(_)) => refused("amount", "the price of this pack is fixed".into()),
        (Some(custom), Some(amount)) => {
            if wish.quantity.is_some_and(|quantity| quantity != 1) {
                return refused("quantity", "what the buyer names the amount of is bought once".into());
            }
            match worth::of_custom(custom, amount) {
                Some(credits) => Ok(Offer::Pack { name, pack, quantity: 1, amount: Some(amount), credits }),
                None => refused("amount", format!("it must be from {} to {}", custom.min, custom.max)),
            }
        }
        (None, None) => {
            let quantity = wish.quantity.unwrap_or(1);
            match worth::of_pieces(pack, quantity) {
                Some(credits) => Ok(Offer::Pack { name, pack, quantity, amount: None, credits }),
                None => {
                    refused("quantity", "it must be at least 1, and the credits must be countable".into())
                }
            }
        }
    }
}

/// Notes what is about to be bought.
pub fn open(
    tx: &mut Tx<'_>,
    owner: &Owner,
    kind: Kind,
    offer: &Offer<'_>,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<Checkout, Error> {
    let id = random::alphanumeric(rng, 24);
    let owner = owner.clone();
    let checkout = match offer {
        Offer::Pack { name, pack, quantity, amount, .. } => Checkout {
            id,
            owner,
            kind,
            item: (*name).to_owned(),
            price: pack.price.clone(),
            currency: pack.currency.clone(),
            unit: pack.unit.clone(),
            credits: pack.custom.map_or(pack.credits, |custom| custom.credits_per_100),
            quantity: *quantity,
            amount: *amount,
            session_id: None,
            payment_intent: None,
            status: Status::Open,
            created_at: now,
        },
        Offer::Plan { name, plan } => Checkout {
            id,
            owner,
            kind,
            item: (*name).to_owned(),
            price: plan.price.clone(),
            currency: plan.currency.clone(),
            unit: plan.unit.clone(),
            credits: plan.credits,
            quantity: 1,
            amount: None,
            session_id: None,
            payment_intent: None,
            status: Status::Open,
            created_at: now,
        },
    };
    let owner = checkout.owner.to_string();
    let values = params![
        &checkout.id,
        &owner,
        kind.name(),
        &checkout.item,
        &checkout.price,
        &checkout.currency,
        &checkout.unit,
        checkout.credits,
        checkout.quantity,
        checkout.amount,
        now
    ];
    tx.execute(OPEN, values)?;
    Ok(checkout)
}

pub fn attach_session(tx: &mut Tx<'_>, id: &str, session_id: &str, now: Millis) -> Result<(), Error> {
    tx.execute(ATTACH, params![id, session_id, now]).map(|_| ())
}

pub fn attach_payment(tx: &mut Tx<'_>, id: &str, payment_intent: &str, now: Millis) -> Result<(), Error> {
    tx.execute(ATTACH_PAYMENT, params![id, payment_intent, now]).map(|_| ())
}

pub fn of_session(tx: &mut Tx<'_>, session_id: &str) -> Result<Option<Checkout>, Error> {
    tx.query_opt(OF_SESSION, params![session_id], read)
}

pub fn of_payment(tx: &mut Tx<'_>, payment_intent: &str) -> Result<Option<Checkout>, Error> {
    tx.query_opt(OF_PAYMENT, params![payment_intent], read)
}

pub fn find(tx: &mut Tx<'_>, id: &str) -> Result<Option<Checkout>, Error> {
    tx.query_opt(ONE, params![id], read)
}

pub fn set_status(
    tx: &mut Tx<'_>,
    checkout: &Checkout,
    status: Status,
    payment_intent: Option<&str>,
    now: Millis,
) -> Result<(), Error> {
    tx.execute(MOVE, params![&checkout.id, status.name(), payment_intent, now]).map(|_| ())
}

/// Those of which the end is not known, older than a call takes; for reconciliation, in pages.
pub fn waiting(
    tx: &mut Tx<'_>,
    after: Option<&Checkout>,
    now: Millis,
    most: i64,
) -> Result<Vec<Checkout>, Error> {
    let (at, id) = after.map_or((Millis(i64::MIN), ""), |last| (last.created_at, last.id.as_str()));
    tx.query(WAITING, params![at, id, now.minus(CALL), most], read)
}

/// A plan that this owner is buying at the moment: a second one would be paid twice.
pub fn plan_under_way(tx: &mut Tx<'_>, owner: &Owner, now: Millis) -> Result<Option<Checkout>, Error> {
    tx.query_opt(PLAN_UNDER_WAY, params![&owner.to_string(), now.minus(LIFE), now.minus(CALL)], read)
}

/// What has become of it at Stripe.
pub fn status_of(session: &Session) -> Status {
    let paid = matches!(session.payment_status.as_str(), "paid" | "no_payment_required");
    match session.status.as_deref() {
        Some("expired") => Status::Expired,
        Some("complete") if paid => Status::Paid,
        Some("complete") => {
            let intent = match &session.payment_intent {
                Some(Ref::Whole(intent)) => intent.status.as_str(),
                _ => "",
            };
            let begun = match &session.subscription {
                Some(Ref::Whole(begun)) => begun.status.as_str(),
                _ => "",
            };
            // A delayed method that failed leaves the intent without a method, and in the end a plan that never began.
            let failed = matches!(intent, "requires_payment_method" | "canceled")
                || matches!(begun, "incomplete_expired" | "canceled");
            if failed { Status::Failed } else { Status::Processing }
        }
        _ => Status::Open,
    }
}

/// Credits for a session that was paid: what the line says was bought, at the terms of our own row. Discounts, tax and free
/// orders do not matter; a line that is not what we sold does.
pub fn credits_for(checkout: &Checkout, session: &Session) -> Result<i64, Problem> {
    let odd =
        |what: String| Problem::Odd(format!("session {} does not fit what was sold: {what}", session.id));
    let lines = session.line_items.as_ref().map_or(&[][..], |list| &list.data);
    let [line] = lines else { return Err(odd(format!("{} lines instead of one", lines.len()))) };
    if !line.currency.eq_ignore_ascii_case(&checkout.currency) {
        return Err(odd(format!("the currency is {} and not {}", line.currency, checkout.currency)));
    }
    let credits = match checkout.amount {
        // The price was made for this session: what counts is the amount before discounts and tax.
        Some(amount) if line.amount_subtotal != amount => {
            return Err(odd(format!("the amount is {} and not {amount}", line.amount_subtotal)));
        }
        Some(amount) => {
            let custom = Custom { min: amount, max: amount, credits_per_100: checkout.credits };
            worth::of_custom(custom, amount)
        }
        None => {
            let price = line.price.as_ref().map(Ref::id);
            if price != Some(checkout.price.as_str()) {
                return Err(odd(format!("the price is not {}", checkout.price)));
            }
            let quantity = line.quantity.unwrap_or(1);
            checkout.credits.checked_mul(quantity).filter(|credits| *credits > 0)
        }
    };
    credits.ok_or_else(|| odd("the credits cannot be counted".into()))
}

fn read(row: &Row<'_>) -> Result<Checkout, Error> {
    let (kind, status) = (row.text(2)?, row.text(12)?);
    Ok(Checkout {
        id: row.get(0)?,
        owner: owner(row.text(1)?)?,
        kind: Kind::parse(kind).ok_or_else(|| Error::Fault(format!("a checkout of a {kind}")))?,
        item: row.get(3)?,
        price: row.get(4)?,
        currency: row.get(5)?,
        unit: row.get(6)?,
        credits: row.get(7)?,
        quantity: row.get(8)?,
        amount: row.get(9)?,
        session_id: row.get(10)?,
        payment_intent: row.get(11)?,
        status: Status::parse(status).ok_or_else(|| Error::Fault(format!("a checkout that is {status}")))?,
        created_at: row.get(13)?,
    })
}
