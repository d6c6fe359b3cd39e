//! Setup intents: a method is kept for later without paying anything now.

use crate::api::{Answer, Call};
use crate::books::Books;
use crate::form::Metadata;
use crate::refusal::Refusal;
use crate::shelf::Kept;
use serde_json::{Value, json};

#[derive(Debug, Clone)]
pub(crate) struct SetupIntent {
    id: String,
    created: i64,
    customer: Option<String>,
    payment_method: String,
    metadata: Metadata,
}

impl Kept for SetupIntent {
    const KIND: &'static str = "setupintent";

    fn id(&self) -> &str {
        &self.id
    }
}

impl SetupIntent {
    pub(crate) fn shown(&self) -> Value {
        json!({
            "id": self.id,
            "object": "setup_intent",
            "allowed_payment_method_types": null,
            "application": null,
            "automatic_payment_methods": null,
            "cancellation_reason": null,
            "client_secret": format!("{}_secret_till", self.id),
            "created": self.created,
            "customer": self.customer,
            "customer_account": null,
            "description": null,
            "excluded_payment_method_types": null,
            "flow_directions": null,
            "last_setup_error": null,
            "latest_attempt": null,
            "livemode": false,
            "managed_payments": null,
            "mandate": null,
            "metadata": self.metadata,
            "next_action": null,
            "on_behalf_of": null,
            "payment_method": self.payment_method,
            "payment_method_configuration_details": null,
            "payment_method_options": {},
            "payment_method_types": ["card"],
            "single_use_mandate": null,
            "status": "succeeded",
            "usage": "off_session",
        })
    }
}

impl Books {
    /// One that succeeded, as Checkout makes it.
    pub(crate) fn new_setup_intent(
        &mut self,
        customer: Option<String>,
        payment_method: String,
        metadata: Metadata,
    ) -> Result<String, Refusal> {
        let intent = SetupIntent {
            id: self.ids.next("seti"),
            created: self.seconds(),
            customer,
            payment_method,
            metadata,
        };
        let id = intent.id.clone();
        self.setup_intents.put(intent)?;
        self.emit("setup_intent.created", &id);
        self.emit("setup_intent.succeeded", &id);
        Ok(id)
    }

    pub(crate) fn retrieve_setup_intent(&mut self, call: &Call) -> Answer {
        Ok(self.setup_intents.at(call.id())?.shown())
    }
}
