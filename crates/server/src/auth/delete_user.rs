//! Deleting one's own account: at once with a password or a fresh session, or by a mailed link.

use super::callback::{self, MailedLink};
use super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::error::{Code, Failure};
use super::fields::Fields;
use super::password::prove;
use crate::app::{may_mail, promise_mail};
use gate::departure::delete_user;
use http::StatusCode;
use identity::User;
use identity::one_time::{self, Consumed, Purpose};
use kernel::signed::encode_uri_component;
use kernel::{Secret, random};
use mail::{Link, Message};
use serde_json::json;

pub struct DeleteUser;
pub struct DeleteUserCallback;

pub struct Input {
    password: Option<Secret<String>>,
    token: Option<String>,
    callback: Option<String>,
}

impl Endpoint for DeleteUser {
    type Input = Input;
    const SPEC: Spec = Spec::post("/delete-user", Access::SignedIn, "Deletes one's own account");

    fn read(fields: &mut Fields) -> Input {
        fields.need_object();
        Input {
            callback: fields.maybe_text("callbackURL"),
            password: fields.maybe_text("password").filter(|text| !text.is_empty()).map(Secret::new),
            token: fields.maybe_text("token").filter(|text| !text.is_empty()),
        }
    }

    async fn run(call: Call, input: Input) -> Outcome {
        let settings = &call.app.settings;
        if !settings.accounts.delete_user {
            return Err(Failure::Empty(StatusCode::NOT_FOUND));
        }
        let live = call.signed_in()?;
        let with_password = input.password.is_some();
        if let Some(password) = input.password {
            prove(&call, password, Code::InvalidPassword).await?;
        }
        if let Some(token) = input.token {
            delete_with_token(&call, &live.user, token).await?;
            return Ok(deleted(&call));
        }
        if settings.accounts.delete_needs_mail {
            send_link(&call, &live.user, input.callback).await?;
            return Ok(Reply::json(&json!({ "success": true, "message": "Verification email sent" })));
        }
        if !with_password && !live.session.is_fresh(settings.session.fresh_age, call.now) {
            return Err(Code::SessionExpired.into());
        }
        let (app, id, now) = (call.app.clone(), live.user.id.clone(), call.now);
        call.app.store.write(move |tx| delete_user(tx, app.ledger.settings(), &id, now)).await?;
        Ok(deleted(&call))
    }
}

fn deleted(call: &Call) -> Reply {
    Reply::json(&json!({ "success": true, "message": "User deleted" })).end_session(call)
}

async fn send_link(call: &Call, user: &User, target: Option<String>) -> Result<(), Failure> {
    let (app, user, now) = (call.app.clone(), user.clone(), call.now);
    let target = encode_uri_component(target.as_deref().filter(|text| !text.is_empty()).unwrap_or("/"));
    call.app
        .store
        .write(move |tx| {
            if !may_mail(tx, &app, &user.email, "delete-account", now)? {
                return Ok(());
            }
            let token = one_time::issue(
                tx,
                &app.vault,
                Purpose::DeleteUser,
                user.id.as_str(),
                &json!({}),
                now,
                &mut random::secure(),
            )?;
            let url = app.auth_url(&format!("/delete-user/callback?token={token}&callbackURL={target}"));
            let url = Link::parse(&url).map_err(|error| store::Error::Fault(error.to_string()))?;
            promise_mail(tx, &app, &user.email, &user.name, &Message::DeleteAccount { url }, now)
        })
        .await?;
    call.app.outbox.wake();
    Ok(())
}

/// The token is used up even when the wrong user shows it.
async fn delete_with_token(call: &Call, user: &User, token: String) -> Result<(), Failure> {
    let (app, id, now) = (call.app.clone(), user.id.clone(), call.now);
    let gone = call
        .app
        .store
        .write(move |tx| {
            let used: Consumed<serde_json::Value> =
                one_time::consume(tx, &app.vault, Purpose::DeleteUser, &token, now)?;
            match used {
                Consumed::Now(found) if found.subject == id.as_str() => {
                    delete_user(tx, app.ledger.settings(), &id, now)
                }
                _ => Ok::<_, store::Error>(false),
            }
        })
        .await?;
    if gone { Ok(()) } else { Err(Code::UnknownLink.into()) }
}

impl Endpoint for DeleteUserCallback {
    type Input = MailedLink;
    const SPEC: Spec = Spec::get(
        "/delete-user/callback",
        Access::MaybeSignedIn,
        "The mailed link that deletes one's own account",
    )
    .link();

    fn read(fields: &mut Fields) -> MailedLink {
        MailedLink::read(fields)
    }

    async fn run(call: Call, input: MailedLink) -> Outcome {
        if !call.app.settings.accounts.delete_user {
            return Err(Code::NotFound.into());
        }
        let user = call.session.as_ref().map(|live| live.user.clone()).ok_or(Code::FailedToGetUserInfo)?;
        delete_with_token(&call, &user, input.token).await?;
        Ok(match &input.callback {
            Some(text) => {
                let target = callback::target(&call.app.settings.trusted_origins, text)?;
                Reply::redirect(&target.location()).end_session(&call)
            }
            None => deleted(&call),
        })
    }
}
