//! What is answered instead of an object: errors in the form and with the codes that Stripe documents.

use serde_json::{Value, json};

/// Why a call was not done. `Display` is its message.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// `type`: `invalid_request_error`, `card_error`, `idempotency_error` or `api_error`.
    pub kind: &'static str,
    pub code: Option<&'static str>,
    pub message: String,
    /// The parameter that is at fault, spelled as it was sent: `line_items[0][price]`.
    pub param: Option<String>,
    /// With `card_declined`: why, such as `insufficient_funds`.
    pub decline_code: Option<&'static str>,
    /// The objects that a declined payment leaves behind.
    pub left: Option<Box<Left>>,
    /// Whether the work had begun, so that the answer is kept under the call's idempotency key.
    pub(crate) begun: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Left {
    pub charge: Option<String>,
    pub payment_intent: Value,
}

impl Refusal {
    fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            kind,
            code: None,
            message: message.into(),
            param: None,
            decline_code: None,
            left: None,
            begun: false,
        }
    }

    pub(crate) fn code(mut self, code: &'static str) -> Refusal {
        self.code = Some(code);
        self
    }

    pub(crate) fn param(mut self, param: impl Into<String>) -> Refusal {
        self.param = Some(param.into());
        self
    }

    /// A parameter that cannot be used.
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal::new(400, "invalid_request_error", message).param(param)
    }

    pub(crate) fn missing(param: impl Into<String>) -> Refusal {
        let param = param.into();
        Refusal::invalid(param.clone(), format!("Missing required param: {param}.")).code("parameter_missing")
    }

    pub(crate) fn unknown_parameter(param: &str) -> Refusal {
        Refusal::invalid(param, format!("Received unknown parameter: {param}")).code("parameter_unknown")
    }

    /// An object named by a parameter does not exist.
    pub(crate) fn no_such(kind: &str, id: &str, param: impl Into<String>) -> Refusal {
        Refusal::invalid(param, format!("No such {kind}: '{id}'")).code("resource_missing")
    }

    /// The object that a path names does not exist.
    pub(crate) fn not_found(kind: &str, id: &str) -> Refusal {
        let mut refusal = Refusal::no_such(kind, id, "id");
        refusal.status = 404;
        refusal
    }

    pub(crate) fn no_such_path(method: &str, path: &str) -> Refusal {
        let message = format!("Unrecognized request URL ({method}: {path}). The till has no such call.");
        Refusal::new(404, "invalid_request_error", message)
    }

    /// The object's state forbids it.
    pub(crate) fn state(message: impl Into<String>) -> Refusal {
        let mut refusal = Refusal::new(400, "invalid_request_error", message);
        refusal.begun = true;
        refusal
    }

    pub(crate) fn unauthorized(message: &str) -> Refusal {
        Refusal::new(401, "invalid_request_error", message)
    }

    pub(crate) fn other_parameters(key: &str) -> Refusal {
        Refusal::new(
            400,
            "idempotency_error",
            format!(
                "Keys for idempotent requests can only be used with the path and parameters they were first used \
                 with. Use another key than '{key}' for another request."
            ),
        )
    }

    pub(crate) fn key_in_use(key: &str) -> Refusal {
        Refusal::new(
            409,
            "idempotency_error",
            format!(
                "Another request with the idempotency key '{key}' is in progress. Try again in a moment."
            ),
        )
        .code("idempotency_key_in_use")
    }

    pub(crate) fn too_many() -> Refusal {
        Refusal::new(429, "invalid_request_error", "Too many requests at once. Back off and try again.")
            .code("rate_limit")
    }

    pub(crate) fn failing(status: u16) -> Refusal {
        Refusal::new(status, "api_error", "The till was told to fail this request.")
    }

    /// A bound of the till is reached.
    pub(crate) fn full(kind: &str, bound: usize) -> Refusal {
        let message = format!("The till holds {bound} objects of the kind {kind}, its bound. Start it anew.");
        Refusal::new(503, "api_error", message)
    }

    pub(crate) fn declined(decline: Decline, charge: Option<String>, payment_intent: Value) -> Refusal {
        let mut refusal = Refusal::new(402, "card_error", decline.message()).code(decline.code());
        refusal.decline_code = Some(decline.decline_code());
        refusal.left = Some(Box::new(Left { charge, payment_intent }));
        refusal.begun = true;
        refusal
    }

    /// The body as Stripe words it.
    #[must_use]
    pub fn body(&self) -> Value {
        let mut error = json!({ "type": self.kind, "message": self.message });
        let mut put = |name: &str, value: Value| error[name] = value;
        if let Some(code) = self.code {
            put("code", json!(code));
            put("doc_url", json!(format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-"))));
        }
        if let Some(param) = &self.param {
            put("param", json!(param));
        }
        if let Some(code) = self.decline_code {
            put("decline_code", json!(code));
        }
        if let Some(left) = &self.left {
            if let Some(charge) = &left.charge {
                put("charge", json!(charge));
            }
            put("payment_intent", left.payment_intent.clone());
        }
        json!({ "error": error })
    }
}

/// Why a card says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decline {
    Generic,
    InsufficientFunds,
    ExpiredCard,
    /// The bank wants its customer to confirm, who is not there.
    AuthenticationRequired,
}

impl Decline {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Decline::Generic | Decline::InsufficientFunds => "card_declined",
            Decline::ExpiredCard => "expired_card",
            Decline::AuthenticationRequired => "authentication_required",
        }
    }

    pub(crate) fn decline_code(self) -> &'static str {
        match self {
            Decline::Generic => "generic_decline",
            Decline::InsufficientFunds => "insufficient_funds",
            Decline::ExpiredCard => "expired_card",
            Decline::AuthenticationRequired => "authentication_required",
        }
    }

    pub(crate) fn message(self) -> &'static str {
        match self {
            Decline::Generic => "The card was declined.",
            Decline::InsufficientFunds => "The card has insufficient funds.",
            Decline::ExpiredCard => "The card has expired.",
            Decline::AuthenticationRequired => {
                "The card's bank wants the payment to be confirmed by its owner."
            }
        }
    }

    pub(crate) fn of(name: &str) -> Option<Decline> {
        [Decline::Generic, Decline::InsufficientFunds, Decline::ExpiredCard, Decline::AuthenticationRequired]
            .into_iter()
            .find(|decline| decline.decline_code() == name)
    }
}
