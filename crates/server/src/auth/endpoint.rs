//! What an endpoint is, what it is given, and what it gives back.

use super::cookies::{Keep, Names};
use super::current::Presented;
use super::error::Failure;
use super::fields::Fields;
use crate::app::App;
use crate::openapi::{Auth, Door, Field, Kind, RouteDoc};
use crate::settings::Switch;
use axum::response::Response;
use http::StatusCode;
use http::header::{
    ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, SET_COOKIE,
};
use http::request::Parts;
use identity::LiveSession;
use identity::api_keys::ApiKey;
use kernel::signed::decode_uri_component;
use kernel::{ClientAddress, Millis, UserId};
use serde::Serialize;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
}

/// How a body may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// GET, or a POST that looks at no body.
    None,
    Json,
    /// Browsers' forms too.
    JsonOrForm,
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Anyone,
    /// Anyone; a session is looked up when one is presented, and makes a difference.
    MaybeSignedIn,
    SignedIn,
    /// Signed in not long ago.
    Fresh,
}

/// What somebody without a session is told where one is demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignedOut {
    /// `UNAUTHORIZED`, as nearly everywhere.
    Coded,
    /// 401 without a word.
    Bare,
    /// 401 with a text and no code.
    Says(&'static str),
}

impl SignedOut {
    pub fn failure(self) -> Failure {
        match self {
            SignedOut::Coded => super::error::Code::Unauthorized.into(),
            SignedOut::Bare => Failure::Empty(StatusCode::UNAUTHORIZED),
            SignedOut::Says(text) => Failure::Message(StatusCode::UNAUTHORIZED, text),
        }
    }
}

/// The facts about an endpoint that the pipeline, the documentation and the authorization matrix need.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    pub method: Method,
    /// Below `/api/auth`; a segment in braces matches any text without a slash.
    pub path: &'static str,
    pub summary: &'static str,
    pub access: Access,
    pub body: BodyKind,
    /// A sign-in from another site must be refused even without a cookie.
    pub signs_in: bool,
    /// A GET whose link carries `callbackURL`: judged before anything else.
    pub link: bool,
    /// Where this is switched off, there is no such route.
    pub switch: Option<Switch>,
    pub signed_out: SignedOut,
    /// A page of somebody else's posts here, and nothing is done with it but a redirect: no origin is asked for.
    pub from_elsewhere: bool,
}

impl Spec {
    pub const fn get(path: &'static str, access: Access, summary: &'static str) -> Spec {
        Spec {
            method: Method::Get,
            path,
            summary,
            access,
            body: BodyKind::None,
            signs_in: false,
            link: false,
            switch: None,
            signed_out: SignedOut::Coded,
            from_elsewhere: false,
        }
    }

    pub const fn post(path: &'static str, access: Access, summary: &'static str) -> Spec {
        Spec {
            method: Method::Post,
            path,
            summary,
            access,
            body: BodyKind::Json,
            signs_in: false,
            link: false,
            switch: None,
            signed_out: SignedOut::Coded,
            from_elsewhere: false,
        }
    }

    pub const fn link(self) -> Spec {
        Spec { link: true, ..self }
    }

    /// A part of what can be switched off.
    pub const fn of(self, switch: Switch) -> Spec {
        Spec { switch: Some(switch), ..self }
    }

    /// What is told without a session, where it is not the usual.
    pub const fn signed_out(self, signed_out: SignedOut) -> Spec {
        Spec { signed_out, ..self }
    }

    /// A form that another site posts.
    pub const fn from_elsewhere(self) -> Spec {
        Spec { from_elsewhere: true, body: BodyKind::JsonOrForm, ..self }
    }

    pub const fn signing_in(self) -> Spec {
        Spec { signs_in: true, body: BodyKind::JsonOrForm, ..self }
    }
}

pub type Outcome = Result<Reply, Failure>;

pub trait Endpoint: 'static {
    type Input: Send;
    const SPEC: Spec;

    /// Reads and checks the body and the query; every problem is noted, and a single one ends the request.
    fn read(fields: &mut Fields) -> Self::Input;

    /// What a caller is told whose body or query cannot be read.
    fn unreadable(failure: Failure) -> Failure {
        failure
    }

    fn run(call: Call, input: Self::Input) -> impl Future<Output = Outcome> + Send;
}

/// An endpoint as the OpenAPI document shows it: what it reads is asked of its own `read`. Called once at start, so the
/// few texts that are put together live as long as the program.
pub fn document<E: Endpoint>() -> RouteDoc {
    let mut fields = Fields::new(None, Vec::new(), Vec::new());
    E::read(&mut fields);
    let (asked, kinds) = fields.into_asked();
    let list = |in_query: bool| -> &'static [Field] {
        let kind_of = |asked: &super::fields::Asked| {
            let told = kinds.iter().find(|(name, _)| *name == asked.name).map(|(_, kind)| *kind);
            told.unwrap_or(if asked.flag { Kind::Boolean } else { Kind::Text })
        };
        let field = |asked: &super::fields::Asked| Field {
            name: asked.name,
            kind: kind_of(asked),
            required: asked.required,
            note: "",
        };
        asked.iter().filter(|asked| asked.in_query == in_query).map(field).collect::<Vec<_>>().leak()
    };
    let spec = E::SPEC;
    RouteDoc {
        method: match spec.method {
            Method::Get => "GET",
            Method::Post => "POST",
        },
        path: format!("{}{}", super::pipeline::BASE, spec.path).leak(),
        summary: spec.summary,
        door: Door::Auth,
        auth: match spec.access {
            Access::Anyone => Auth::None,
            Access::MaybeSignedIn => Auth::OptionalSession,
            Access::SignedIn | Access::Fresh => Auth::Session,
        },
        query: list(true),
        body: list(false),
        answers: &[],
        notes: "",
    }
}

/// Parses and reads a body as a request to this endpoint would have it, and stops there.
pub fn read_only<E: Endpoint>(content_type: &str, bytes: &[u8]) {
    let depth = crate::settings::Limits::default().json_depth;
    if let Ok(body) = super::body::parse(E::SPEC.body, Some(content_type), bytes, depth) {
        let mut fields = Fields::new(body, Vec::new(), Vec::new());
        E::read(&mut fields);
        // Refused or not: both are answers.
        let _ = fields.finish();
    }
}

/// A request that has passed every guard.
pub struct Call {
    pub app: Arc<App>,
    pub names: Arc<Names>,
    pub now: Millis,
    pub client: ClientAddress,
    pub request: Arc<Parts>,
    /// What the caller presented as a session, whether it opens one or not.
    pub presented: Arc<Presented>,
    /// Present for every endpoint whose access demands it.
    pub session: Option<LiveSession>,
    /// The key that stands in for a session, where keys may: `session` is then made up for this request, opens nothing and
    /// is never fresh.
    pub key: Option<ApiKey>,
}

impl Call {
    /// The session of an endpoint that demands one.
    pub fn signed_in(&self) -> Result<&LiveSession, Failure> {
        self.session.as_ref().ok_or(super::error::Code::Unauthorized.into())
    }

    /// The session, unless it is only a key's, or an administrator's in the person's place: for what a person has to do in
    /// person, such as opening further ways in.
    pub fn in_person(&self) -> Option<&LiveSession> {
        let own = |live: &&LiveSession| live.session.impersonated_by.is_none();
        self.session.as_ref().filter(|_| self.key.is_none()).filter(own)
    }

    pub fn user_agent(&self) -> &str {
        self.request.headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    pub fn cookie_lines(&self) -> impl Iterator<Item = &str> {
        super::cookies::lines(&self.request.headers)
    }
}

/// A session that the answer hands to the browser; the pipeline writes its cookies.
#[derive(Clone)]
pub struct Grant {
    pub token: String,
    pub user: UserId,
    /// `None`: as the browser was told before.
    pub keep: Option<Keep>,
    /// How the person signed in, to be remembered for the next time.
    pub method: Option<&'static str>,
}

impl Grant {
    /// A session that the browser holds already, or one that takes its place.
    pub fn renew(live: &LiveSession) -> Grant {
        Grant { token: live.token.clone(), user: live.user.id.clone(), keep: None, method: None }
    }
}

/// An answer before it becomes bytes.
#[derive(Clone)]
pub struct Reply {
    status: StatusCode,
    body: Option<Vec<u8>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Those of them that scripts of other origins may read.
    exposed: Vec<&'static str>,
    cookies: Vec<String>,
    grant: Option<Grant>,
    ends_session: bool,
}

impl Reply {
    pub fn json(body: &impl Serialize) -> Reply {
        // A user and a session take some 750 bytes.
        let mut bytes = Vec::with_capacity(1_024);
        match serde_json::to_writer(&mut bytes, body) {
            Ok(()) => Reply::bytes(bytes),
            Err(error) => super::error::Failure::from(store::Error::Fault(error.to_string())).into_reply(),
        }
    }

    pub fn bytes(body: Vec<u8>) -> Reply {
        Reply { body: Some(body), ..Reply::empty(StatusCode::OK) }
    }

    /// No body and no content type.
    pub fn empty(status: StatusCode) -> Reply {
        Reply {
            status,
            body: None,
            headers: Vec::new(),
            exposed: Vec::new(),
            cookies: Vec::new(),
            grant: None,
            ends_session: false,
        }
    }

    /// A redirect of the original: the type of JSON, and no body.
    pub fn redirect(location: &str) -> Reply {
        Reply { status: StatusCode::FOUND, ..Reply::bytes(Vec::new()) }
            .header_text(LOCATION.as_str(), location)
    }

    pub fn status(mut self, status: StatusCode) -> Reply {
        self.status = status;
        self
    }

    /// Values that cannot stand in a header are left out; ours are checked before.
    pub fn header_text(mut self, name: &'static str, value: &str) -> Reply {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((HeaderName::from_static(name), value));
        }
        self
    }

    /// A header that scripts of other origins may read. The one that is added last is named first, as in the original.
    pub fn exposed(mut self, name: &'static str, value: &str) -> Reply {
        self.exposed.insert(0, name);
        self.header_text(name, value)
    }

    pub fn cookies(mut self, lines: impl IntoIterator<Item = String>) -> Reply {
        self.cookies.extend(lines);
        self
    }

    /// Hands a session to the browser.
    pub fn grant(mut self, grant: Grant) -> Reply {
        self.grant = Some(grant);
        self
    }

    /// No cache may keep it; not everything says so, because clients compare headers.
    pub fn uncached(self) -> Reply {
        self.header_text("cache-control", "no-store").header_text("pragma", "no-cache")
    }

    /// Nothing for a browser to keep.
    /// Says on a 401 what is expected (RFC 6750).
    pub fn challenging(self) -> Reply {
        match self.status {
            StatusCode::UNAUTHORIZED => {
                self.header_text("www-authenticate", "Bearer error=\"invalid_token\"")
            }
            _ => self,
        }
    }

    pub fn without_cookies(self) -> Reply {
        Reply { cookies: Vec::new(), grant: None, ..self }
    }

    pub fn take_grant(&mut self) -> Option<Grant> {
        self.grant.take()
    }

    /// Tells the browser to forget its session.
    pub fn end_session(mut self, call: &Call) -> Reply {
        let mut writer = super::cookies::Writer::new(&call.app, &call.names);
        writer.clear_session();
        self.ends_session = true;
        self.cookies(writer.lines)
    }

    pub fn ends_session(&self) -> bool {
        self.ends_session
    }

    /// The value of the session cookie that this answer sets, decoded.
    pub fn session_cookie(&self, name: &str) -> Option<String> {
        let line = self
            .cookies
            .iter()
            .rev()
            .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))?;
        let value = line[name.len() + 1..].split(';').next().filter(|value| !value.is_empty())?;
        decode_uri_component(value).map(|value| value.into_owned())
    }

    /// Cookies that were decided before the endpoint ran come first.
    pub fn cookies_before(mut self, mut lines: Vec<String>) -> Reply {
        lines.append(&mut self.cookies);
        self.cookies = lines;
        self
    }

    pub fn into_response(self) -> Response {
        let is_json = self.body.is_some();
        let mut response = Response::new(self.body.map_or_else(axum::body::Body::empty, Into::into));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if is_json {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        if let Ok(names) = HeaderValue::try_from(self.exposed.join(", "))
            && !self.exposed.is_empty()
        {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, names);
        }
        for line in self.cookies {
            if let Ok(value) = HeaderValue::try_from(line) {
                headers.append(SET_COOKIE, value);
            }
        }
        response
    }
}
