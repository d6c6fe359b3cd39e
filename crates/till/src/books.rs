//! Everything the till knows: a state machine that calls and the passing of time move, and nothing else.

use crate::agenda::Agenda;
use crate::catalogue::{Price, Product};
use crate::charges::Charge;
use crate::checkout::Session;
use crate::coupons::{Coupon, PromotionCode};
use crate::customers::Customer;
use crate::delivery::Post;
use crate::disputes::Dispute;
use crate::events::{EventLog, RequestMark};
use crate::ids::Ids;
use crate::invoices::Invoice;
use crate::payment_intents::PaymentIntent;
use crate::payment_methods::PaymentMethod;
use crate::portal::PortalSession;
use crate::refunds::Refund;
use crate::setup_intents::SetupIntent;
use crate::shelf::Shelf;
use crate::subscriptions::Subscription;
use kernel::Millis;
use serde_json::Value;

pub(crate) struct Books {
    pub(crate) terms: Terms,
    pub(crate) ids: Ids,
    /// The till's time; never goes back.
    pub(crate) now: Millis,
    /// What is being answered, for the events that come of it.
    pub(crate) request: Option<RequestMark>,
    pub(crate) agenda: Agenda,
    pub(crate) post: Post,
    pub(crate) events: EventLog,
    pub(crate) customers: Shelf<Customer>,
    pub(crate) payment_methods: Shelf<PaymentMethod>,
    pub(crate) products: Shelf<Product>,
    pub(crate) prices: Shelf<Price>,
    pub(crate) coupons: Shelf<Coupon>,
    pub(crate) promotion_codes: Shelf<PromotionCode>,
    pub(crate) sessions: Shelf<Session>,
    pub(crate) portal_sessions: Shelf<PortalSession>,
    pub(crate) payment_intents: Shelf<PaymentIntent>,
    pub(crate) setup_intents: Shelf<SetupIntent>,
    pub(crate) charges: Shelf<Charge>,
    pub(crate) refunds: Shelf<Refund>,
    pub(crate) disputes: Shelf<Dispute>,
    pub(crate) subscriptions: Shelf<Subscription>,
    pub(crate) invoices: Shelf<Invoice>,
}

/// What was agreed on when the till was opened.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// Where the till's own pages are, without a slash at the end.
    pub(crate) base_url: String,
    pub(crate) account: String,
    /// Exclusive tax, in percent, where `automatic_tax` is on.
    pub(crate) tax_percent: i64,
    /// The version that events are written in.
    pub(crate) event_version: String,
}

impl Books {
    pub(crate) fn new(terms: Terms, seed: u64, now: Millis, post: Post, most: usize) -> Books {
        Books {
            terms,
            ids: Ids::new(seed),
            now,
            request: None,
            agenda: Agenda::default(),
            post,
            events: EventLog::new(most),
            customers: Shelf::new(most),
            payment_methods: Shelf::new(most),
            products: Shelf::new(most),
            prices: Shelf::new(most),
            coupons: Shelf::new(most),
            promotion_codes: Shelf::new(most),
            sessions: Shelf::new(most),
            portal_sessions: Shelf::new(most),
            payment_intents: Shelf::new(most),
            setup_intents: Shelf::new(most),
            charges: Shelf::new(most),
            refunds: Shelf::new(most),
            disputes: Shelf::new(most),
            subscriptions: Shelf::new(most),
            invoices: Shelf::new(most),
        }
    }

    /// The till's time as objects carry it.
    pub(crate) fn seconds(&self) -> i64 {
        self.now.0.div_euclid(1_000)
    }

    /// The object with this id as the API shows it today. The prefix tells the kind; coupons have ids of any form.
    pub(crate) fn shown(&self, id: &str) -> Option<Value> {
        let prefix = id.split_once('_').map_or("", |(prefix, _)| prefix);
        match prefix {
            "cus" => self.customers.get(id).map(Customer::shown),
            "pm" => self.payment_methods.get(id).map(PaymentMethod::shown),
            "prod" => self.products.get(id).map(Product::shown),
            "price" => self.prices.get(id).map(Price::shown),
            "promo" => self.promotion_codes.get(id).map(PromotionCode::shown),
            "cs" => self.sessions.get(id).map(|session| self.show_session(session)),
            "bps" => self.portal_sessions.get(id).map(|session| self.show_portal_session(session)),
            "pi" => self.payment_intents.get(id).map(PaymentIntent::shown),
            "seti" => self.setup_intents.get(id).map(SetupIntent::shown),
            "ch" | "py" => self.charges.get(id).map(|charge| self.show_charge(charge)),
            "re" => self.refunds.get(id).map(Refund::shown),
            "dp" => self.disputes.get(id).map(Dispute::shown),
            "sub" => self.subscriptions.get(id).map(|subscription| self.show_subscription(subscription)),
            "in" => self.invoices.get(id).map(|invoice| self.show_invoice(invoice)),
            "inpay" => self.show_invoice_payment(id),
            "di" => self.show_discount(id),
            _ => None,
        }
        .or_else(|| self.coupons.get(id).map(Coupon::shown))
        // Prices and products may have been given ids of the configuration's choice.
        .or_else(|| self.prices.get(id).map(Price::shown))
        .or_else(|| self.products.get(id).map(Product::shown))
    }
}
