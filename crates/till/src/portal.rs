//! The customer portal: a page on which a payer sees invoices, ends a subscription or takes that back.

use crate::api::{Answer, Call};
use crate::books::Books;
use crate::refusal::Refusal;
use crate::shelf::Kept;
use serde_json::{Value, json};

pub(crate) const CREATE: &[&str] = &["customer", "locale", "return_url"];

#[derive(Debug, Clone)]
pub(crate) struct PortalSession {
    id: String,
    created: i64,
    pub(crate) customer: String,
    pub(crate) return_url: Option<String>,
    locale: Option<String>,
}

impl Kept for PortalSession {
    const KIND: &'static str = "billing_portal.session";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Books {
    pub(crate) fn show_portal_session(&self, session: &PortalSession) -> Value {
        json!({
            "id": session.id,
            "object": "billing_portal.session",
            "configuration": "bpc_till",
            "created": session.created,
            "customer": session.customer,
            "customer_account": null,
            "flow": null,
            "livemode": false,
            "locale": session.locale,
            "on_behalf_of": null,
            "return_url": session.return_url,
            "url": format!("{}/portal/{}", self.terms.base_url, session.id),
        })
    }

    pub(crate) fn create_portal_session(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let customer = self.customer_named(fields.required("customer")?, "customer")?.id.clone();
        let return_url = fields.filled("return_url").map(str::to_owned);
        let is_web =
            |text: &String| url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if return_url.as_ref().is_some_and(|url| !is_web(url)) {
            let message = "Not a valid URL. URLs must include an explicit scheme such as https.";
            return Err(Refusal::invalid("return_url", message).code("url_invalid"));
        }
        let session = PortalSession {
            id: self.ids.next("bps"),
            created: self.seconds(),
            customer,
            return_url,
            locale: fields.filled("locale").map(str::to_owned),
        };
        let id = session.id.clone();
        self.portal_sessions.put(session)?;
        self.answer(&id)
    }
}
