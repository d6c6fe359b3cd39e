//! `/callback/{provider}`: people come back from the provider, with a code or with a reason why not. What can be read
//! ends in a redirect: a person looks at it.

use super::super::beginning::Beginning;
use super::super::cookies::Writer;
use super::super::endpoint::{Access, BodyKind, Call, Endpoint, Grant, Outcome, Reply, Spec};
use super::super::error::Failure;
use super::super::fields::Fields;
use super::super::pipeline::BASE;
use super::arrival::{CameIn, come_in, incoming, terms};
use super::{note, redirect_uri};
use identity::providers::{Link, Linked, State, linking, state};
use kernel::redirect::{Target, judge};
use kernel::secret::same_secret;
use kernel::signed::encode_uri_component;
use kernel::{UserId, cookie, random};
use oidc::{Profile, Provider, Tokens};
use std::time::Duration;

pub struct FollowCallback;
pub struct PostedCallback;

/// What a provider may send, in the order in which it is passed on.
const NAMES: [&str; 7] = ["code", "error", "device_id", "error_description", "state", "user", "iss"];
/// For the whole conversation with the provider: a person waits.
const ALTOGETHER: Duration = Duration::from_secs(15);
const BANNED: &str =
    "You have been banned from this application. Please contact support if you believe this is an error.";

pub struct Answer {
    provider: String,
    /// By [`NAMES`].
    values: [Option<String>; NAMES.len()],
}

impl Answer {
    fn read(fields: &mut Fields) -> Answer {
        Answer { provider: fields.segment(0), values: NAMES.map(|name| fields.maybe_query(name)) }
    }

    /// The same as a link.
    fn onward(&self, base_url: &str) -> String {
        let said =
            NAMES.into_iter().zip(&self.values).filter_map(|(name, value)| Some((name, value.as_deref()?)));
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(said).finish();
        format!("{base_url}{BASE}/callback/{}?{query}", encode_uri_component(&self.provider))
    }

    /// What is empty counts as not said.
    fn get(&self, name: &str) -> Option<&str> {
        let index = NAMES.iter().position(|known| *known == name)?;
        self.values[index].as_deref().filter(|text| !text.is_empty())
    }
}

/// A reason that is told to the page that people come to.
struct Failed {
    error: String,
    description: Option<String>,
}

impl Failed {
    fn with(error: &str, description: Option<&str>) -> Failed {
        Failed { error: error.to_owned(), description: description.map(str::to_owned) }
    }
}

impl From<&str> for Failed {
    fn from(error: &str) -> Failed {
        Failed::with(error, None)
    }
}

/// How a sign-in that comes back is received.
enum Received {
    Good(Box<State>),
    /// Not by the browser that began it: it stays for that one.
    Foreign(Box<State>),
    Unknown,
}

impl Endpoint for FollowCallback {
    type Input = Answer;
    const SPEC: Spec =
        Spec::get("/callback/{provider}", Access::Anyone, "Where a provider sends people back to");

    fn read(fields: &mut Fields) -> Answer {
        Answer::read(fields)
    }

    async fn run(call: Call, answer: Answer) -> Outcome {
        let Some(value) = answer.get("state").map(str::to_owned) else {
            return Ok(tell(&call, None, &"state_not_found".into()));
        };
        let begun = match receive(&call, value).await? {
            Received::Good(begun) => begun,
            Received::Foreign(begun) => {
                return Ok(tell(&call, begun.error_callback.as_deref(), &"state_mismatch".into()));
            }
            Received::Unknown => return Ok(tell(&call, None, &"state_mismatch".into())),
        };
        let reply = match proceed(&call, &answer, &begun).await? {
            Ok(reply) => reply,
            Err(failed) => tell(&call, begun.error_callback.as_deref(), &failed),
        };
        let mut writer = Writer::new(&call.app, &call.names);
        writer.clear(&call.names.state);
        Ok(reply.cookies(writer.lines))
    }
}

/// Uses the sign-in up, if this browser has begun it.
async fn receive(call: &Call, value: String) -> Result<Received, store::Error> {
    let held =
        cookie::first(call.cookie_lines(), &call.names.state).and_then(|held| call.app.signer.open(held));
    let own = held.is_some_and(|held| same_secret(held.as_bytes(), value.as_bytes()));
    let (app, now) = (call.app.clone(), call.now);
    call.app
        .store
        .write(move |tx| {
            let Some(begun) = state::look(tx, &app.vault, &value, now)? else { return Ok(Received::Unknown) };
            if !own {
                return Ok(Received::Foreign(Box::new(begun)));
            }
            let used = state::consume(tx, &app.vault, &value, now)?;
            Ok(used.map_or(Received::Unknown, |begun| Received::Good(Box::new(begun))))
        })
        .await
}

/// From here on the sign-in is used up, whatever comes of it.
async fn proceed(call: &Call, answer: &Answer, begun: &State) -> Result<Result<Reply, Failed>, Failure> {
    if let Some(error) = answer.get("error") {
        return Ok(Err(Failed::with(error, answer.get("error_description"))));
    }
    let Some(code) = answer.get("code") else { return Ok(Err("no_code".into())) };
    let Some(provider) = call.app.providers.get(&answer.provider) else {
        return Ok(Err("oauth_provider_not_found".into()));
    };
    if begun.provider != provider.settings.id {
        return Ok(Err("state_mismatch".into()));
    }
    let asked = tokio::time::timeout(ALTOGETHER, ask(call, provider, answer, code, begun)).await;
    let late = |_| Err(Failed::from("unable_to_get_user_info"));
    let (profile, tokens) = match asked.unwrap_or_else(late) {
        Ok(found) => found,
        Err(failed) => return Ok(Err(failed)),
    };
    match &begun.link {
        Some(link) => joined(call, provider, (profile, tokens), begun, link).await,
        None => arrived(call, provider, (profile, tokens), begun).await,
    }
}

/// The conversation with the provider.
async fn ask(
    call: &Call,
    provider: &Provider,
    answer: &Answer,
    code: &str,
    begun: &State,
) -> Result<(Profile, Tokens), Failed> {
    let now = call.now;
    let noted = |error: &'static str| {
        move |trouble: oidc::Trouble| {
            note(provider, &trouble);
            Failed::from(error)
        }
    };
    let issuer = provider.issuer(now).await.map_err(noted("invalid_code"))?;
    if let (Some(expected), Some(named)) = (&issuer, answer.get("iss"))
        && expected != named
    {
        return Err("issuer_mismatch".into());
    }
    let back = redirect_uri(call, provider);
    let tokens = provider.exchange(code, &begun.verifier, &back, now).await.map_err(noted("invalid_code"))?;
    // The time may have gone on meanwhile, and a token must not come from the future.
    let profile = provider.profile(&tokens, &begun.nonce, answer.get("user"), call.app.clock.now()).await;
    match profile.map_err(noted("unable_to_get_user_info"))? {
        Some(profile) => Ok((profile, tokens)),
        None => Err("unable_to_get_user_info".into()),
    }
}

async fn joined(
    call: &Call,
    provider: &Provider,
    (profile, tokens): (Profile, Tokens),
    begun: &State,
    link: &Link,
) -> Result<Result<Reply, Failed>, Failure> {
    let trusted = provider.settings.trusted;
    let counts = trusted || profile.email_verified;
    let Some(incoming) = incoming(provider, profile, tokens) else {
        let error = if counts { "email_does_not_match" } else { "unable_to_link_account" };
        return Ok(Err(error.into()));
    };
    let (app, now, link) = (call.app.clone(), call.now, link.clone());
    let linked = call
        .app
        .store
        .write(move |tx| {
            let who = (&UserId::from_text(link.user.as_str()), link.session.as_str());
            linking::link(tx, &app.vault, who, &incoming, trusted, now, &mut random::secure())
        })
        .await?;
    Ok(match linked {
        Linked::Done => Ok(Reply::redirect(&target(call, begun.callback.as_deref()))),
        Linked::NotAllowed => Err("unable_to_link_account".into()),
        Linked::OtherEmail => Err("email_does_not_match".into()),
        Linked::OtherUser => Err("account_already_linked_to_different_user".into()),
    })
}

async fn arrived(
    call: &Call,
    provider: &Provider,
    (profile, tokens): (Profile, Tokens),
    begun: &State,
) -> Result<Result<Reply, Failed>, Failure> {
    let Some(incoming) = incoming(provider, profile, tokens) else {
        return Ok(Err("email_not_found".into()));
    };
    let terms = terms(provider, begun.sign_up_asked);
    let mut beginning = Beginning::of(call, None);
    beginning.anonymous = begun.anonymous.as_deref().map(UserId::from_text);
    let (app, now, callback) = (call.app.clone(), call.now, begun.callback.clone());
    let came = call
        .app
        .store
        .write(move |tx| come_in(tx, &app, (&incoming, terms), &beginning, callback.as_deref(), now))
        .await?;
    call.app.outbox.wake();
    Ok(match came {
        CameIn::In { live, new } => {
            let first = begun.new_user_callback.as_deref().filter(|_| new);
            let grant = Grant { method: Some(provider.settings.id), ..Grant::renew(&live) };
            let target = target(call, first.or(begun.callback.as_deref()));
            Ok(Reply::redirect(&target).grant(grant).forget_guest(call))
        }
        CameIn::NotLinked => Err("account_not_linked".into()),
        CameIn::SignUpDisabled => Err("signup_disabled".into()),
        CameIn::Banned => Err(Failed::with("BANNED_USER", Some(BANNED))),
    })
}

/// Where people go; it was judged when the sign-in began, and is again, since what is trusted may have changed.
fn target(call: &Call, wanted: Option<&str>) -> String {
    let judged = wanted.and_then(|text| judge(&call.app.settings.trusted_origins, text));
    judged.as_ref().map_or_else(|| call.app.settings.base_url.clone(), Target::location)
}

/// Leads to the app's own page for errors, or to the general one.
fn tell(call: &Call, page: Option<&str>, failed: &Failed) -> Reply {
    let pairs =
        [("error", Some(failed.error.as_str())), ("error_description", failed.description.as_deref())];
    let pairs = pairs.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let own = page.and_then(|text| judge(&call.app.settings.trusted_origins, text));
    let location = match own {
        Some(target) => target.with_all(pairs),
        None => {
            let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
            format!("{}?{query}", call.app.auth_url("/error"))
        }
    };
    Reply::redirect(&location)
}

impl Endpoint for PostedCallback {
    type Input = Answer;
    const SPEC: Spec = Spec::post(
        "/callback/{provider}",
        Access::Anyone,
        "The same for a provider that posts a form: leads to the other",
    )
    .from_elsewhere();

    fn read(fields: &mut Fields) -> Answer {
        let mut answer = Answer::read(fields);
        for (name, value) in NAMES.into_iter().zip(&mut answer.values) {
            let posted = fields.any(name).and_then(|posted| posted.as_str().map(str::to_owned));
            *value = value.take().or(posted);
        }
        answer
    }

    /// A form from another site comes without our cookies; what follows it brings them.
    async fn run(call: Call, answer: Answer) -> Outcome {
        Ok(Reply::redirect(&answer.onward(&call.app.settings.base_url)))
    }
}

/// Where a form with these bytes leads; what the fuzz target calls.
pub fn onward(
    base_url: &str,
    provider: &str,
    content_type: &str,
    body: &[u8],
    query: &[u8],
) -> Option<String> {
    let depth = crate::settings::Limits::default().json_depth;
    let body = super::super::body::parse(BodyKind::JsonOrForm, Some(content_type), body, depth).ok()?;
    let query = url::form_urlencoded::parse(query).into_owned().collect();
    let mut fields = Fields::new(body, query, vec![provider.to_owned()]);
    let answer = PostedCallback::read(&mut fields);
    fields.finish().ok()?;
    Some(answer.onward(base_url))
}
