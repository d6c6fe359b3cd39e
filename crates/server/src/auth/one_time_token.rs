//! `/one-time-token/…`: a session for another of the person's apps, by a token that works once.

use super::endpoint::{Access, Call, Endpoint, Grant, Outcome, Reply, Spec};
use super::error::Failure;
use super::fields::Fields;
use super::json::{Both, SessionBody};
use crate::settings::Switch;
use http::StatusCode;
use identity::one_time::{self, Consumed, Purpose};
use identity::{LiveSession, sessions};
use kernel::{SessionId, random};
use serde_json::json;

pub struct Generate;
pub struct Verify;

impl Endpoint for Generate {
    type Input = ();
    const SPEC: Spec = Spec::get(
        "/one-time-token/generate",
        Access::SignedIn,
        "A token that hands this session to another app, once and within three minutes",
    )
    .of(Switch::OneTimeToken);

    fn read(_: &mut Fields) {}

    async fn run(call: Call, (): ()) -> Outcome {
        let live = call.signed_in()?;
        let (vault, now) = (call.app.vault.clone(), call.now);
        let (user, session) = (live.user.id.clone(), live.session.id.as_str().to_owned());
        let token = call
            .app
            .store
            .write(move |tx| {
                let rng = &mut random::secure();
                one_time::issue(tx, &vault, Purpose::Handover, user.as_str(), &session, now, rng)
            })
            .await?;
        Ok(Reply::json(&json!({ "token": token })))
    }
}

/// What a token led to.
enum Followed {
    Session(Box<LiveSession>),
    Refused(&'static str),
}

impl Endpoint for Verify {
    type Input = String;
    const SPEC: Spec = Spec::post(
        "/one-time-token/verify",
        Access::Anyone,
        "Uses a token up and takes over the session that it stands for",
    )
    .of(Switch::OneTimeToken);

    fn read(fields: &mut Fields) -> String {
        fields.need_object();
        fields.text("token")
    }

    async fn run(call: Call, token: String) -> Outcome {
        let (vault, now) = (call.app.vault.clone(), call.now);
        let followed = call
            .app
            .store
            .write(move |tx| {
                let used: Consumed<String> = one_time::consume(tx, &vault, Purpose::Handover, &token, now)?;
                let Consumed::Now(found) = used else { return Ok(Followed::Refused("Invalid token")) };
                let live = sessions::find_by_id(tx, &vault, &SessionId::from_text(found.payload))?;
                Ok::<_, store::Error>(match live {
                    None => Followed::Refused("Session not found"),
                    Some(live) if live.session.expires_at <= now => Followed::Refused("Session expired"),
                    Some(live) => Followed::Session(Box::new(live)),
                })
            })
            .await?;
        match followed {
            Followed::Refused(message) => Err(Failure::Message(StatusCode::BAD_REQUEST, message)),
            Followed::Session(live) => {
                let session = SessionBody::new(live.session.view(), &live.token);
                let both = Both { session, user: (&live.user).into(), needs_refresh: None };
                Ok(Reply::json(&both).grant(Grant::renew(&live)))
            }
        }
    }
}
