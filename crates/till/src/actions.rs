//! The buttons: everything that happens to a merchant from outside, as `POST /_till/actions/NAME`. A form gets a page
//! back, JSON gets JSON.

use crate::desk::Desk;
use crate::disputes::DisputeStep;
use crate::faults::Fault;
use crate::form::Form;
use crate::postman;
use crate::purchase::Purchase;
use crate::refusal::{Decline, Refusal};
use kernel::Secret;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use url::form_urlencoded;

/// The flat members of a form or of a JSON object.
#[derive(Debug, Default)]
pub(crate) struct Wishes(BTreeMap<String, String>);

impl Wishes {
    pub(crate) fn of_form(body: &[u8]) -> Wishes {
        Wishes(form_urlencoded::parse(body).into_owned().collect())
    }

    pub(crate) fn of_json(body: &[u8]) -> Result<Wishes, Refusal> {
        let refuse = || Refusal::invalid("body", "Send a JSON object of texts, numbers and flags.");
        if body.is_empty() {
            return Ok(Wishes::default());
        }
        let value: Value = serde_json::from_slice(body).map_err(|_| refuse())?;
        let mut wishes = Wishes::default();
        for (name, value) in value.as_object().ok_or_else(refuse)? {
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(flag) => flag.to_string(),
                Value::Array(items) if items.iter().all(Value::is_string) => {
                    items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
                }
                Value::Array(_) | Value::Object(_) => return Err(refuse()),
            };
            wishes.0.insert(name.clone(), text);
        }
        Ok(wishes)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|text| !text.is_empty())
    }

    fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.text(name).ok_or_else(|| Refusal::missing(name))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let refuse = |_| Refusal::invalid(name, format!("{name} is not a whole number: {text}"));
        text.parse().map(Some).map_err(refuse)
    }

    fn count(&self, name: &str) -> Result<u32, Refusal> {
        let number = self.number(name)?.unwrap_or(1);
        u32::try_from(number)
            .map_err(|_| Refusal::invalid(name, format!("{name} must be 0 or more: {number}")))
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.text(name), Some("true" | "on" | "yes" | "1"))
    }

    fn decline(&self) -> Result<Decline, Refusal> {
        let Some(name) = self.text("decline") else { return Ok(Decline::Generic) };
        Decline::of(name)
            .ok_or_else(|| Refusal::invalid("decline", format!("There is no decline called {name}.")))
    }

    pub(crate) fn purchase(&self) -> Result<Purchase, Refusal> {
        let means = self.text("means").unwrap_or("card");
        Ok(Purchase {
            means: Desk::means(means).ok_or_else(|| {
                Refusal::invalid("means", format!("Nobody can pay by {means}: card, declined, delayed."))
            })?,
            amount: self.number("amount")?,
            quantity: self.number("quantity")?,
            promotion_code: self.text("promotion_code").map(str::to_owned),
            email: self.text("email").map(str::to_owned),
        })
    }
}

/// Does what the button says. The answer is the object that it was about.
pub(crate) async fn act(desk: &Arc<Desk>, name: &str, wishes: &Wishes) -> Result<Value, Refusal> {
    match name {
        "deliver" => {
            let copies = usize::try_from(wishes.count("copies")?).unwrap_or(usize::MAX);
            deliveries(postman::send_copies(desk, wishes.required("event")?, copies).await?)
        }
        "deliver_in_order" => {
            let events: Vec<String> = wishes.required("events")?.split(',').map(str::to_owned).collect();
            deliveries(postman::send_in_order(desk, &events).await?)
        }
        "release_shuffled" => {
            let events = desk.with(|books| books.shuffled_held_events());
            let attempts = postman::send_in_order(desk, &events).await;
            desk.with(|books| books.release_deliveries());
            deliveries(attempts?)
        }
        _ => act_at_once(desk, name, wishes),
    }
}

fn deliveries(attempts: Vec<crate::Attempt>) -> Result<Value, Refusal> {
    Ok(json!({ "attempts": attempts.iter().map(crate::Attempt::shown).collect::<Vec<_>>() }))
}

fn act_at_once(desk: &Desk, name: &str, wishes: &Wishes) -> Result<Value, Refusal> {
    match name {
        "pay" => desk.buy(wishes.required("session")?, &wishes.purchase()?),
        "expire" => {
            let session = wishes.required("session")?;
            desk.call("POST", &format!("/v1/checkout/sessions/{session}/expire"), Form::default())
        }
        "settle" => desk.settle(wishes.required("payment")?, wishes.flag("paid")),
        "refund" => desk.refund(wishes.required("payment")?, wishes.number("amount")?, wishes.flag("slowly")),
        "finish_refund" => desk.end_refund(wishes.required("refund")?, true),
        "fail_refund" => desk.end_refund(wishes.required("refund")?, false),
        "dispute" => desk.dispute(wishes.required("payment")?, wishes.number("amount")?, false),
        "inquire" => desk.dispute(wishes.required("payment")?, None, true),
        "step_dispute" => {
            let step = wishes.required("step")?;
            let known = DisputeStep::ALL.iter().find(|(name, _)| *name == step);
            let (_, step) =
                known.ok_or_else(|| Refusal::invalid("step", format!("There is no step called {step}.")))?;
            desk.step_dispute(wishes.required("dispute")?, *step)
        }
        "renew" => desk.renew(wishes.required("subscription")?),
        "fail_renewal" => desk.fail_renewal(wishes.required("subscription")?, wishes.decline()?),
        "mend_card" => set_card(desk, wishes, None),
        "break_card" => set_card(desk, wishes, Some(wishes.decline()?)),
        "end_with_period" | "go_on" => {
            let path = format!("/v1/subscriptions/{}", wishes.required("subscription")?);
            let ends = if name == "end_with_period" { "true" } else { "false" };
            desk.call("POST", &path, Form::of(&[("cancel_at_period_end", ends)])?)
        }
        "end_now" => {
            let path = format!("/v1/subscriptions/{}", wishes.required("subscription")?);
            desk.call("DELETE", &path, Form::default())
        }
        "pay_invoice" => desk.pay_invoice(wishes.required("invoice")?),
        "advance" => {
            let seconds = wishes.number("seconds")?.ok_or_else(|| Refusal::missing("seconds"))?;
            if seconds < 0 {
                return Err(Refusal::invalid("seconds", "The till's clock does not go back."));
            }
            desk.advance(seconds.saturating_mul(1_000));
            Ok(json!({ "now": desk.now().iso() }))
        }
        "hold" => {
            desk.with(|books| books.hold_deliveries());
            Ok(json!({ "holding": true }))
        }
        "release" => {
            desk.with(|books| books.release_deliveries());
            Ok(json!({ "holding": false }))
        }
        "lose_next" => {
            let count = wishes.count("count")?;
            desk.with(|books| books.lose_next(count));
            Ok(json!({ "losing": count }))
        }
        "webhook" => {
            let secrets =
                wishes.required("secrets")?.split(',').map(|secret| Secret::new(secret.to_owned())).collect();
            desk.set_endpoint(wishes.required("url")?, secrets)?;
            Ok(json!({ "url": wishes.required("url")? }))
        }
        "fault" => {
            let name = wishes.required("fault")?;
            let fault = Fault::parse(name)
                .ok_or_else(|| Refusal::invalid("fault", format!("There is no fault called {name}.")))?;
            desk.faults().order(fault, wishes.count("count")?, wishes.text("path").unwrap_or_default());
            Ok(json!({ "fault": name }))
        }
        "clear_faults" => {
            desk.faults().clear();
            Ok(json!({}))
        }
        _ => Err(Refusal::not_found("action", name)),
    }
}

fn set_card(desk: &Desk, wishes: &Wishes, declines: Option<Decline>) -> Result<Value, Refusal> {
    let subscription = wishes.required("subscription")?;
    desk.set_card(subscription, declines)?;
    desk.with(|books| books.answer(subscription))
}
