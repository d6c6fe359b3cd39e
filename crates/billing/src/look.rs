//! Reading at Stripe what a subject is now, and finding out what else has to be looked at.

use crate::checkouts::{self, Kind};
use crate::desk::{Desk, Error};
use crate::payments;
use crate::stripe::objects::{
    Customer, Dispute, HasId, Invoice, InvoicePaymentOf, List, PaymentIntent, Ref, Refund, Session,
    Subscription,
};
use crate::stripe::{Class, Form, Trouble, segment};
use crate::subject::Subject;
use serde::de::DeserializeOwned;
use store::Tx;

const PAGE: i64 = 100;
/// Of refunds, or disputes, of one payment: more than anybody makes.
const MOST_PAGES: usize = 20;

/// What Stripe says about a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Session(Session),
    Payment {
        intent: PaymentIntent,
        refunds: Vec<Refund>,
        disputes: Vec<Dispute>,
    },
    Invoice {
        invoice: Invoice,
        subscription: Option<Subscription>,
    },
    Subscription(Subscription),
    Customer(Customer),
    /// There is no such thing, or nothing of ours hangs on it.
    Nothing,
}

pub(crate) struct Found {
    pub said: Said,
    /// Must be brought up to date first: what this one is about is not known without it.
    pub before: Vec<Subject>,
    pub after: Vec<Subject>,
}

impl Found {
    fn just(said: Said) -> Found {
        Found { said, before: Vec::new(), after: Vec::new() }
    }
}

impl Desk {
    /// `first`: nobody looked for the origin of a payment yet.
    pub(crate) async fn look(&self, class: Class, subject: &Subject, first: bool) -> Result<Found, Error> {
        let found = match subject {
            Subject::Session(id) => self.look_at_session(class, id).await,
            Subject::Payment(id) => return self.look_at_payment(class, id, first).await,
            Subject::TopUp(id) => {
                let looked = id.clone();
                let known = self.tools().store.read(move |tx| is_top_up(tx, &looked)).await?;
                return match known {
                    true => self.look_at_payment(class, id, first).await,
                    false => Ok(Found::just(Said::Nothing)),
                };
            }
            Subject::Invoice(id) => self.look_at_invoice(class, id).await,
            Subject::Subscription(id) => {
                let said = self.get(class, "subscriptions", id, Form::new()).await;
                said.map(|said| Found::just(Said::Subscription(said)))
            }
            Subject::Customer(id) => {
                let said = self.get(class, "customers", id, Form::new()).await;
                said.map(|said| Found::just(Said::Customer(said)))
            }
        };
        match found {
            Err(Trouble::Missing(_)) => Ok(Found::just(Said::Nothing)),
            found => Ok(found?),
        }
    }

    async fn get<T: DeserializeOwned>(
        &self,
        class: Class,
        list: &str,
        id: &str,
        query: Form,
    ) -> Result<T, Trouble> {
        let path = format!("/v1/{list}/{}", segment(id)?);
        self.tools().stripe.get(class, &path, &query).await
    }

    async fn look_at_session(&self, class: Class, id: &str) -> Result<Found, Trouble> {
        let query = ["line_items", "payment_intent", "subscription"]
            .into_iter()
            .fold(Form::new(), |query, member| query.with("expand[]", member));
        let session: Session = self.get(class, "checkout/sessions", id, query).await?;
        // The first invoice of a plan, in case its own event never comes.
        let complete = session.status.as_deref() == Some("complete");
        let invoice = session.invoice.as_ref().filter(|_| complete).map(|invoice| invoice.id().to_owned());
        let after = invoice.map(Subject::Invoice).into_iter().collect();
        Ok(Found { said: Said::Session(session), before: Vec::new(), after })
    }

    async fn look_at_invoice(&self, class: Class, id: &str) -> Result<Found, Trouble> {
        let query = Form::new().with("expand[]", "payments");
        let invoice: Invoice = self.get(class, "invoices", id, query).await?;
        let (mut subscription, mut after) = (None, Vec::new());
        if let Some(id) = invoice.subscription() {
            match self.get(class, "subscriptions", id, Form::new()).await {
                Ok(found) => subscription = Some(found),
                Err(Trouble::Missing(_)) => {}
                Err(trouble) => return Err(trouble),
            }
            after.push(Subject::Subscription(id.to_owned()));
        }
        Ok(Found { said: Said::Invoice { invoice, subscription }, before: Vec::new(), after })
    }

    async fn look_at_payment(&self, class: Class, id: &str, first: bool) -> Result<Found, Error> {
        let query = Form::new().with("expand[]", "latest_charge");
        let intent: PaymentIntent = match self.get(class, "payment_intents", id, query).await {
            Err(Trouble::Missing(_)) => return Ok(Found::just(Said::Nothing)),
            intent => intent?,
        };
        let looked = id.to_owned();
        let known = self.tools().store.read(move |tx| -> Result<bool, store::Error> {
            Ok(is_top_up(tx, &looked)? || !payments::of_intent(tx, &looked)?.is_empty())
        });
        if !known.await? {
            let origin = if first { self.origin(class, &intent).await? } else { None };
            let before = origin.into_iter().collect();
            return Ok(Found { said: Said::Nothing, before, after: Vec::new() });
        }
        let refunds: Vec<Refund> = self.all_of_payment(class, "/v1/refunds", id).await?;
        let disputes: Vec<Dispute> = self.all_of_payment(class, "/v1/disputes", id).await?;
        Ok(Found::just(Said::Payment { intent, refunds, disputes }))
    }

    /// All of them: with a part credits would come back that are gone.
    async fn all_of_payment<T: DeserializeOwned + HasId>(
        &self,
        class: Class,
        path: &str,
        payment: &str,
    ) -> Result<Vec<T>, Error> {
        let mut all: Vec<T> = Vec::new();
        for _ in 0..MOST_PAGES {
            let query = Form::new()
                .with("payment_intent", payment)
                .with("limit", PAGE)
                .with_some("starting_after", all.last().map(HasId::id));
            let page: List<T> = self.tools().stripe.get(class, path, &query).await?;
            let is_last = !page.has_more || page.data.is_empty();
            all.extend(page.data);
            if is_last {
                return Ok(all);
            }
        }
        Err(Trouble::NotUnderstood(format!("{path} of {payment} has no end")).into())
    }

    /// The session or invoice that a payment belongs to. Its credits come first: what is taken back is a part of them.
    async fn origin(&self, class: Class, intent: &PaymentIntent) -> Result<Option<Subject>, Trouble> {
        let stripe = &self.tools().stripe;
        let query = Form::new().with("payment_intent", &intent.id).with("limit", 1);
        let sessions: List<Session> = stripe.get(class, "/v1/checkout/sessions", &query).await?;
        if let Some(session) = sessions.data.into_iter().next() {
            return Ok(Some(Subject::Session(session.id)));
        }
        let query = Form::new()
            .with("payment[type]", "payment_intent")
            .with("payment[payment_intent]", &intent.id)
            .with("limit", 1);
        let payments: List<InvoicePaymentOf> = stripe.get(class, "/v1/invoice_payments", &query).await?;
        let invoice = payments.data.into_iter().next().and_then(|payment| payment.invoice);
        Ok(invoice.as_ref().map(Ref::id).map(|id| Subject::Invoice(id.to_owned())))
    }
}

fn is_top_up(tx: &mut Tx<'_>, payment_intent: &str) -> Result<bool, store::Error> {
    Ok(checkouts::of_payment(tx, payment_intent)?.is_some_and(|checkout| checkout.kind == Kind::TopUp))
}
