//! Customers: whoever pays.

use crate::api::{Answer, Call};
use crate::books::Books;
use crate::form::{Fields, Metadata};
use crate::lists::{self, Created};
use crate::refusal::Refusal;
use crate::shelf::Kept;
use serde_json::{Value, json};

pub(crate) const WRITE: &[&str] = &[
    "description",
    "email",
    "invoice_settings.default_payment_method",
    "metadata",
    "metadata.*",
    "name",
    "phone",
    "preferred_locales[]",
];

#[derive(Debug, Clone)]
pub(crate) struct Customer {
    pub(crate) id: String,
    created: i64,
    pub(crate) email: Option<String>,
    pub(crate) name: Option<String>,
    phone: Option<String>,
    description: Option<String>,
    preferred_locales: Vec<String>,
    metadata: Metadata,
    pub(crate) default_payment_method: Option<String>,
    /// The currency of the first subscription or invoice, which stays.
    pub(crate) currency: Option<String>,
    /// The last charge of an invoice failed.
    pub(crate) delinquent: bool,
    /// Below zero: a credit that the next invoices use up.
    pub(crate) balance: i64,
    pub(crate) deleted: bool,
    pub(crate) invoices_made: u32,
}

impl Kept for Customer {
    const KIND: &'static str = "customer";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Customer {
    pub(crate) fn shown(&self) -> Value {
        if self.deleted {
            return json!({ "id": self.id, "object": "customer", "deleted": true });
        }
        json!({
            "id": self.id,
            "object": "customer",
            "address": null,
            "balance": self.balance,
            "created": self.created,
            "currency": self.currency,
            "customer_account": null,
            "default_source": null,
            "delinquent": self.delinquent,
            "description": self.description,
            "discount": null,
            "email": self.email,
            "invoice_prefix": self.invoice_prefix(),
            "invoice_settings": {
                "custom_fields": null,
                "default_payment_method": self.default_payment_method,
                "footer": null,
                "rendering_options": null,
            },
            "livemode": false,
            "metadata": self.metadata,
            "name": self.name,
            "next_invoice_sequence": self.invoices_made + 1,
            "phone": self.phone,
            "preferred_locales": self.preferred_locales,
            "shipping": null,
            "tax_exempt": "none",
            "test_clock": null,
        })
    }

    pub(crate) fn invoice_prefix(&self) -> String {
        self.id.chars().rev().take(8).collect::<String>().to_uppercase()
    }
}

impl Books {
    pub(crate) fn create_customer(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let customer = self.new_customer(&fields)?;
        let id = customer.id.clone();
        self.customers.put(customer)?;
        self.emit("customer.created", &id);
        self.answer(&id)
    }

    fn new_customer(&mut self, fields: &Fields<'_>) -> Result<Customer, Refusal> {
        let mut customer = Customer {
            id: String::new(),
            created: self.seconds(),
            email: None,
            name: None,
            phone: None,
            description: None,
            preferred_locales: Vec::new(),
            metadata: Metadata::new(),
            default_payment_method: None,
            currency: None,
            delinquent: false,
            balance: 0,
            deleted: false,
            invoices_made: 0,
        };
        self.write_customer(&mut customer, fields)?;
        customer.id = self.ids.next("cus");
        Ok(customer)
    }

    fn write_customer(&self, customer: &mut Customer, fields: &Fields<'_>) -> Result<(), Refusal> {
        let write = |name: &str, into: &mut Option<String>| {
            if let Some(text) = fields.text(name) {
                *into = (!text.is_empty()).then(|| text.to_owned());
            }
        };
        if let Some(email) = fields.filled("email")
            && !(email.contains('@') && email.len() <= 512)
        {
            let message = format!("Invalid email address: {email}");
            return Err(Refusal::invalid("email", message).code("email_invalid"));
        }
        write("email", &mut customer.email);
        write("name", &mut customer.name);
        write("phone", &mut customer.phone);
        write("description", &mut customer.description);
        let locales = fields.texts("preferred_locales");
        if !locales.is_empty() {
            customer.preferred_locales = locales.into_iter().map(str::to_owned).collect();
        }
        if let Some(settings) = fields.object("invoice_settings")
            && let Some(id) = settings.text("default_payment_method")
        {
            let param = settings.name("default_payment_method");
            if !id.is_empty() && self.payment_methods.named(id, &param)?.customer != Some(customer.id.clone())
            {
                let message = "The customer does not have a payment method with this ID.";
                return Err(Refusal::invalid(param, message));
            }
            customer.default_payment_method = (!id.is_empty()).then(|| id.to_owned());
        }
        fields.update_metadata(&mut customer.metadata)
    }

    pub(crate) fn retrieve_customer(&mut self, call: &Call) -> Answer {
        Ok(self.customers.at(call.id())?.shown())
    }

    pub(crate) fn update_customer(&mut self, call: &Call) -> Answer {
        let before = self.living_customer(call.id())?.clone();
        let mut customer = before.clone();
        self.write_customer(&mut customer, &call.fields())?;
        let (old, new) = (before.shown(), customer.shown());
        *self.customers.at_mut(call.id())? = customer;
        let changes = changed(&old, &new);
        if changes != json!({}) {
            self.emit_changed("customer.updated", call.id(), changes);
        }
        self.answer(call.id())
    }

    pub(crate) fn delete_customer(&mut self, call: &Call) -> Answer {
        let object = self.living_customer(call.id())?.shown();
        let live: Vec<String> = self
            .subscriptions
            .oldest_first()
            .filter(|subscription| subscription.customer == call.id() && !subscription.has_ended())
            .map(|subscription| subscription.id.clone())
            .collect();
        for subscription in live {
            self.end_subscription(&subscription, "cancellation_requested");
        }
        self.customers.at_mut(call.id())?.deleted = true;
        self.emit_object("customer.deleted", object, None);
        self.answer(call.id())
    }

    pub(crate) fn list_customers(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let created = Created::read(&fields)?;
        let email = fields.filled("email");
        let found = self
            .customers
            .newest_first()
            .filter(|customer| !customer.deleted && created.holds(customer.created))
            .filter(|customer| email.is_none_or(|email| customer.email.as_deref() == Some(email)))
            .map(|customer| (customer.id.clone(), customer));
        lists::page(&fields, "/v1/customers", found, Customer::shown)
    }

    fn living_customer(&self, id: &str) -> Result<&Customer, Refusal> {
        let customer = self.customers.at(id)?;
        if customer.deleted { Err(Refusal::not_found(Customer::KIND, id)) } else { Ok(customer) }
    }

    /// The customer that a parameter names, who must not have been deleted.
    pub(crate) fn customer_named(&self, id: &str, param: &str) -> Result<&Customer, Refusal> {
        let customer = self.customers.named(id, param)?;
        if customer.deleted { Err(Refusal::no_such(Customer::KIND, id, param)) } else { Ok(customer) }
    }

    /// A customer made by a Checkout session whose buyer was not known.
    pub(crate) fn customer_of_buyer(&mut self, email: &str) -> Result<String, Refusal> {
        let mut customer = self.new_customer(&crate::form::Form::default().fields())?;
        customer.email = Some(email.to_owned());
        let id = customer.id.clone();
        self.customers.put(customer)?;
        self.emit("customer.created", &id);
        Ok(id)
    }
}

/// The members of `old` that are others in `new`: `previous_attributes`.
pub(crate) fn changed(old: &Value, new: &Value) -> Value {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return json!({}) };
    old.iter()
        .filter(|(name, value)| new.get(*name) != Some(*value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
