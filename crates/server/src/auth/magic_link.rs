//! Signing in by a mailed link.

use super::beginning::Beginning;
use super::callback;
use super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::error::{Code, Failure};
use super::fields::Fields;
use super::json::{SessionBody, UserBody};
use super::mailbox::{self, CameIn, Newcomer};
use crate::app::{App, may_mail, pretend_mail, promise_mail};
use crate::settings::Switch;
use identity::one_time::{self, Consumed, Purpose};
use identity::{EmailAddress, users};
use kernel::random;
use kernel::signed::encode_uri_component;
use mail::{Link, Message};
use serde::Serialize;
use serde_json::json;

const TEMPLATE: &str = "magic-link";

pub struct SignInMagicLink;
pub struct VerifyMagicLink;

/// Where a link leads in the end.
#[derive(Debug, Clone)]
struct Targets {
    callback: Option<String>,
    new_user: Option<String>,
    error: Option<String>,
}

impl Targets {
    fn in_query(&self) -> String {
        let callback = self.callback.as_deref().unwrap_or("/");
        let mut query = format!("&callbackURL={}", encode_uri_component(callback));
        for (name, target) in [("newUserCallbackURL", &self.new_user), ("errorCallbackURL", &self.error)] {
            if let Some(target) = target {
                query.push_str(&format!("&{name}={}", encode_uri_component(target)));
            }
        }
        query
    }
}

pub struct Request {
    email: String,
    newcomer: Newcomer,
    targets: Targets,
}

fn some(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

impl Endpoint for SignInMagicLink {
    type Input = Request;
    const SPEC: Spec = Spec {
        signs_in: true,
        ..Spec::post("/sign-in/magic-link", Access::Anyone, "Mails a link that signs in")
            .of(Switch::MagicLink)
    };

    fn read(fields: &mut Fields) -> Request {
        fields.need_object();
        fields.storable(&["name"]);
        let email = fields.email("email");
        let name = fields.maybe_text("name").unwrap_or_default();
        let targets = Targets {
            callback: some(fields.maybe_text("callbackURL")),
            new_user: some(fields.maybe_text("newUserCallbackURL")),
            error: some(fields.maybe_text("errorCallbackURL")),
        };
        fields.maybe_record("metadata");
        Request { email, newcomer: Newcomer { name, image: None }, targets }
    }

    /// The same answer for everybody, and a mail for whoever may come in this way.
    async fn run(call: Call, input: Request) -> Outcome {
        let email = EmailAddress::parse(&input.email).ok_or(Code::InvalidEmail)?;
        let (app, now) = (call.app.clone(), call.now);
        call.app
            .store
            .write(move |tx| {
                let address = email.as_str();
                let may = may_mail(tx, &app, address, TEMPLATE, now)?;
                let user = users::by_email(tx, address)?;
                if !may || (user.is_none() && !mailbox::takes_new(&app)) {
                    return pretend_mail(tx, &app, Purpose::MagicLink, address, TEMPLATE, now);
                }
                let rng = &mut random::secure();
                let token =
                    one_time::issue(tx, &app.vault, Purpose::MagicLink, address, &input.newcomer, now, rng)?;
                let url = Link::parse(&format!("{}?token={token}{}", page(&app), input.targets.in_query()));
                let url = url.map_err(|error| store::Error::Fault(error.to_string()))?;
                let name = user.map_or(String::new(), |user| user.name);
                promise_mail(tx, &app, address, &name, &Message::MagicLink { url }, now)
            })
            .await?;
        call.app.outbox.wake();
        Ok(Reply::json(&json!({ "status": true })))
    }
}

/// Where the mailed link leads first: to a page with a button, since programs that look at mails open links before people
/// do, or at once to the door.
fn page(app: &App) -> String {
    if app.settings.methods.has(Switch::MagicLinkConfirm) {
        format!("{}/magic-link", app.settings.base_url)
    } else {
        app.auth_url("/magic-link/verify")
    }
}

pub struct Follow {
    token: String,
    targets: Targets,
}

#[derive(Serialize)]
struct Body<'a> {
    token: &'a str,
    user: UserBody<'a>,
    session: SessionBody<'a>,
}

impl Endpoint for VerifyMagicLink {
    type Input = Follow;
    const SPEC: Spec =
        Spec::get("/magic-link/verify", Access::Anyone, "The mailed link: signs in and goes on")
            .of(Switch::MagicLink)
            .link();

    fn read(fields: &mut Fields) -> Follow {
        Follow {
            token: fields.query("token"),
            targets: Targets {
                callback: some(fields.maybe_query("callbackURL")),
                new_user: some(fields.maybe_query("newUserCallbackURL")),
                error: some(fields.maybe_query("errorCallbackURL")),
            },
        }
    }

    async fn run(call: Call, input: Follow) -> Outcome {
        let (app, now, beginning) = (call.app.clone(), call.now, Beginning::of(&call, None));
        let came_in = call
            .app
            .store
            .write(move |tx| {
                let used: Consumed<Newcomer> =
                    one_time::consume(tx, &app.vault, Purpose::MagicLink, &input.token, now)?;
                let Consumed::Now(found) = used else { return Ok(None) };
                // Other links to this mailbox have done their work.
                one_time::supersede(tx, &found.subject, Purpose::MagicLink)?;
                let email = EmailAddress::from_stored(found.subject);
                mailbox::come_in(tx, &app, &beginning, &email, &found.payload, now).map(Some)
            })
            .await?;
        let trusted = &call.app.settings.trusted_origins;
        let Targets { callback, new_user, error } = &input.targets;
        let lead = |target: &Option<String>| {
            let text = target.as_deref().or(callback.as_deref()).unwrap_or("/");
            callback::target(trusted, text)
        };
        let refuse = |code: &str| Ok(Reply::redirect(&lead(error)?.absolute_with("error", code)));
        let (live, target) = match came_in {
            None => return refuse("INVALID_TOKEN"),
            Some(CameIn::Closed) => return refuse("new_user_signup_disabled"),
            Some(CameIn::Banned) => return Err(Failure::from(Code::BannedUser)),
            Some(CameIn::New(live)) => (live, lead(new_user)?),
            Some(CameIn::Known(live)) => (live, lead(&None)?),
        };
        let reply = match callback {
            Some(_) => Reply::redirect(&target.absolute()),
            None => Reply::json(&Body {
                token: &live.token,
                user: (&live.user).into(),
                session: SessionBody::new(live.session.view(), &live.token),
            }),
        };
        Ok(reply.grant(mailbox::grant(&live, Some("magic-link"))).forget_guest(&call))
    }
}
