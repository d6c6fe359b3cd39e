//! What becomes of a delivery: verified, written down, answered. The work happens afterwards.

use crate::desk::Desk;
use crate::inbox::{self, Arrival};
use crate::signature::Wrong;
use crate::stripe::objects::Event;
use crate::subject::Subject;
use kernel::Millis;

/// What the door answers.
#[derive(Debug)]
pub enum Received {
    /// It is in the inbox, now or since before.
    Taken,
    /// No secret is configured: there is no door.
    Shut,
    Unsigned(Wrong),
    /// Signed, and no event all the same.
    NotAnEvent,
}

impl Desk {
    /// `body` as it came: the signature is over its bytes.
    pub async fn receive(
        &self,
        signature: Option<&str>,
        body: &[u8],
        now: Millis,
    ) -> Result<Received, store::Error> {
        let tools = self.tools();
        if !tools.verifier.is_open() {
            return Ok(Received::Shut);
        }
        if let Err(wrong) = tools.verifier.verify(signature, body, now) {
            return Ok(Received::Unsigned(wrong));
        }
        let Ok(event) = serde_json::from_slice::<Event>(body) else { return Ok(Received::NotAnEvent) };
        self.write_down(event, false, now).await
    }

    /// Also for events that reconciliation found at Stripe, and works on at once (`leased`).
    pub(crate) async fn write_down(
        &self,
        event: Event,
        leased: bool,
        now: Millis,
    ) -> Result<Received, store::Error> {
        let tools = self.tools();
        // PostgreSQL stores no NUL, and no id or kind of Stripe's is long.
        let odd = |text: &str| text.is_empty() || text.len() > 255 || text.contains('\0');
        if odd(&event.id) || odd(&event.r#type) {
            return Ok(Received::NotAnEvent);
        }
        let ours = event.livemode == tools.terms.livemode;
        let subject = if ours { Subject::of(&event) } else { None };
        // Nothing at Stripe has such an id, so there is nothing to look at.
        let subject = subject.filter(|subject| !odd(subject.id()));
        let remark = match (ours, &subject) {
            (false, _) => Some("of the other mode"),
            (true, None) => Some("nothing here depends on events of this kind"),
            (true, Some(_)) => None,
        };
        let subject = subject.map(|subject| subject.to_string());
        let written = tools.store.write(move |tx| {
            let arrival = Arrival {
                event: &event.id,
                livemode: event.livemode,
                kind: &event.r#type,
                subject: subject.clone(),
                created_at: crate::subscriptions::from_seconds(event.created),
                remark,
                leased,
            };
            inbox::receive(tx, &arrival, now)
        });
        written.await?;
        self.ring();
        Ok(Received::Taken)
    }
}
