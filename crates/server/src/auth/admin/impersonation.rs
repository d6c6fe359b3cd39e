//! An administrator in a user's place: a session of an hour that says whose it really is, and the way back.

use super::{YOU_ARE_NOT_ALLOWED_TO_IMPERSONATE_USERS, administrator, record, told};
use crate::auth::beginning::{Beginning, Entry, enter};
use crate::auth::cookies::{Keep, Writer};
use crate::auth::endpoint::{Access, Call, Endpoint, Grant, Outcome, Reply, SignedOut, Spec};
use crate::auth::error::Failure;
use crate::auth::fields::Fields;
use crate::auth::json::{Both, SessionBody};
use crate::settings::Switch;
use http::StatusCode;
use identity::admin::{self, Refusal};
use identity::{LiveSession, sessions};
use kernel::{UserId, cookie};

pub struct ImpersonateUser;
pub struct StopImpersonating;

fn body(live: &LiveSession) -> Both<'_> {
    Both {
        session: SessionBody::new(live.session.view(), &live.token),
        user: (&live.user).into(),
        needs_refresh: None,
    }
}

impl Endpoint for ImpersonateUser {
    type Input = UserId;
    const SPEC: Spec =
        Spec::post("/admin/impersonate-user", Access::SignedIn, "Opens a session in a user's place")
            .of(Switch::Admin)
            .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> UserId {
        fields.need_object();
        UserId::from_text(fields.id("userId"))
    }

    async fn run(call: Call, id: UserId) -> Outcome {
        administrator(&call, YOU_ARE_NOT_ALLOWED_TO_IMPERSONATE_USERS)?;
        // A key has no browser to come back to.
        let own = call.in_person().ok_or(YOU_ARE_NOT_ALLOWED_TO_IMPERSONATE_USERS)?.clone();
        let beginning = Beginning::in_place_of(&call);
        let (app, now, by) = (call.app.clone(), call.now, own.user.id.clone());
        let begun = call.app.store.write(move |tx| {
            let user = match enter(tx, &id, now)? {
                Entry::Open(user) => user,
                Entry::Banned => return Err(Refusal::Banned),
                Entry::Gone => return Err(Refusal::NoUser),
            };
            admin::stands_in_for(&user)?;
            let mut live = beginning.begin(tx, &app, user, None, now)?;
            sessions::mark_impersonated(tx, &mut live, &by)?;
            Ok(live)
        });
        let live = begun.await.map_err(told)?;
        record(&call, "impersonate-user", Some(&live.user.id));
        let mut writer = Writer::new(&call.app, &call.names);
        writer.clear_session();
        writer.admin_session(&own.token, call.presented.dont_remember);
        let grant = Grant {
            token: live.token.clone(),
            user: live.user.id.clone(),
            keep: Some(Keep::Forget),
            method: None,
        };
        Ok(Reply::json(&body(&live)).cookies(writer.lines).grant(grant))
    }
}

impl Endpoint for StopImpersonating {
    type Input = ();
    const SPEC: Spec =
        Spec::post("/admin/stop-impersonating", Access::SignedIn, "Goes back to one's own session")
            .of(Switch::Admin)
            .signed_out(SignedOut::Bare);

    fn read(_: &mut Fields) {}

    async fn run(call: Call, (): ()) -> Outcome {
        let live = call.signed_in()?.clone();
        let Some(by) = live.session.impersonated_by.clone() else {
            return Err(Failure::Message(StatusCode::BAD_REQUEST, "You are not impersonating anyone"));
        };
        let lost = || Failure::Message(StatusCode::BAD_REQUEST, "Failed to find admin session");
        let kept = cookie::first(call.cookie_lines(), &call.names.admin_session)
            .and_then(|value| call.app.signer.open(value));
        let kept = kept.ok_or_else(lost)?.into_owned();
        let (token, forgets) = kept.split_once(':').unwrap_or((&kept, ""));
        let (vault, now, token, place) =
            (call.app.vault.clone(), call.now, token.to_owned(), live.token.clone());
        let back = call.app.store.write(move |tx| {
            let own = sessions::find_live(tx, &vault, &token, now)?;
            let Some(own) = own.filter(|own| own.user.id.as_str() == by) else { return Ok(None) };
            sessions::end(tx, &vault, &place)?;
            Ok::<_, store::Error>(Some(own))
        });
        let own = back.await?.ok_or_else(lost)?;
        record(&call, "stop-impersonating", Some(&live.user.id));
        let mut writer = Writer::new(&call.app, &call.names);
        writer.clear(&call.names.admin_session);
        let keep = if forgets.is_empty() { Keep::Remember } else { Keep::Forget };
        let grant =
            Grant { token: own.token.clone(), user: own.user.id.clone(), keep: Some(keep), method: None };
        Ok(Reply::json(&body(&own)).cookies(writer.lines).grant(grant))
    }
}
