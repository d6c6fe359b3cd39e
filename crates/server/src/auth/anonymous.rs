//! Users without an address, until they sign in as somebody ([`super::beginning`] lets them go then).

use super::beginning::Beginning;
use super::cookies::Keep;
use super::endpoint::{Access, Call, Endpoint, Grant, Outcome, Reply, Spec};
use super::error::Code;
use super::fields::Fields;
use super::json::UserBody;
use crate::settings::Switch;
use gate::departure::delete_user;
use identity::anonymous;
use kernel::random;
use serde::Serialize;
use serde_json::json;

pub struct SignInAnonymous;
pub struct DeleteAnonymousUser;

#[derive(Serialize)]
struct Body<'a> {
    token: &'a str,
    user: UserBody<'a>,
}

impl Endpoint for SignInAnonymous {
    type Input = ();
    const SPEC: Spec = Spec::post(
        "/sign-in/anonymous",
        Access::MaybeSignedIn,
        "Makes a user without an address, and a session",
    )
    .of(Switch::Anonymous);

    fn read(_: &mut Fields) {}

    async fn run(call: Call, (): ()) -> Outcome {
        if call.session.as_ref().is_some_and(|live| live.user.is_anonymous) {
            return Err(Code::AnonymousAgain.into());
        }
        let (app, now, beginning) = (call.app.clone(), call.now, Beginning::of(&call, None));
        let live = call
            .app
            .store
            .write(move |tx| {
                let user = anonymous::create(tx, now, &mut random::secure())?;
                gate::arrival::tell_created(tx, &user, now)?;
                // No welcome: what a new user gets is for addresses, of which people have few.
                beginning.begin(tx, &app, user, None, now)
            })
            .await?;
        let grant = Grant {
            token: live.token.clone(),
            user: live.user.id.clone(),
            keep: Some(Keep::Remember),
            method: None,
        };
        let body = Body { token: &live.token, user: (&live.user).into() };
        Ok(Reply::json(&body).grant(grant).forget_guest(&call))
    }
}

impl Endpoint for DeleteAnonymousUser {
    type Input = ();
    const SPEC: Spec =
        Spec::post("/delete-anonymous-user", Access::SignedIn, "Deletes the anonymous user who is signed in")
            .of(Switch::Anonymous);

    fn read(_: &mut Fields) {}

    async fn run(call: Call, (): ()) -> Outcome {
        let user = &call.signed_in()?.user;
        if !user.is_anonymous {
            return Err(Code::NotAnonymous.into());
        }
        let (app, id, now) = (call.app.clone(), user.id.clone(), call.now);
        call.app.store.write(move |tx| delete_user(tx, app.ledger.settings(), &id, now)).await?;
        Ok(Reply::json(&json!({ "success": true })).end_session(&call))
    }
}
