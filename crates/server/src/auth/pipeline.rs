//! The steps of every request at this door, in the contract's order: rate limit, route, body, origin, redirect targets,
//! validation, first sign-in, session, endpoint.

use super::cookies::{Keep, Names, Writer};
use super::current::{self, Presented, Refresh, Resolved};
use super::endpoint::{Access, BodyKind, Call, Endpoint, Grant, Method, Outcome, Reply, Spec};
use super::error::{Code, Failure};
use super::fields::{Fields, has_flag};
use super::{api_keys, app_session, body, callback, multi_session, origin_guard, rates};
use crate::app::App;
use crate::edge::{self, Refusal, RequestContext};
use crate::settings::Switch;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub const BASE: &str = "/api/auth";
/// The plain delegated check must not be slowed by a count that writes. Only with our signature: whoever makes tokens
/// up is counted.
const SESSION_CHECKS: [&str; 2] = ["/get-session", "/session"];

/// Collects the endpoints into a router; two methods of one path share a route.
pub struct Routes {
    app: Arc<App>,
    names: Arc<Names>,
    methods: HashMap<&'static str, axum::routing::MethodRouter>,
}

impl Routes {
    pub fn new(app: Arc<App>) -> Routes {
        let names = Arc::new(Names::new(&app.settings.cookies));
        Routes { app, names, methods: HashMap::new() }
    }

    pub fn with<E: Endpoint>(mut self) -> Routes {
        let filter = match E::SPEC.method {
            Method::Get => MethodFilter::GET,
            Method::Post => MethodFilter::POST,
        };
        let (app, names) = (self.app.clone(), self.names.clone());
        let handler = move |request: Request| serve::<E>(app.clone(), names.clone(), request);
        let route = self.methods.remove(E::SPEC.path).unwrap_or_else(|| {
            let (app, names) = (self.app.clone(), self.names.clone());
            axum::routing::any(move |request: Request| unknown(app.clone(), names.clone(), request))
        });
        self.methods.insert(E::SPEC.path, route.on(filter, handler));
        self
    }

    pub fn into_router(self) -> Router {
        let mut router = Router::new();
        for (path, methods) in self.methods {
            // A GET route must not answer HEAD: the original does not.
            let (app, names) = (self.app.clone(), self.names.clone());
            let head =
                on(MethodFilter::HEAD, move |request: Request| unknown(app.clone(), names.clone(), request));
            router = router.route(&format!("{BASE}{path}"), head.merge(methods));
        }
        let (app, names) = (self.app, self.names);
        let rest = move |request: Request| unknown(app.clone(), names.clone(), request);
        router
            .route(BASE, axum::routing::any(rest.clone()))
            .route(&format!("{BASE}/{{*rest}}"), axum::routing::any(rest))
    }
}

/// Whatever is no endpoint is counted and answered 404 without a word, whatever the method.
async fn unknown(app: Arc<App>, names: Arc<Names>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let context = context_of(&parts);
    // Another spelling of a route shares its count.
    let path = parts.uri.path().strip_prefix(BASE).unwrap_or("").trim_end_matches('/');
    let route = super::ROUTES.iter().map(|spec| spec.path).find(|route| *route == path);
    let presented = Presented::read(&app, &names, &parts.headers);
    let counted = limit(&app, &presented, &parts, route, &context).await;
    counted.map_or_else(Failure::into_reply, |()| Reply::empty(StatusCode::NOT_FOUND)).into_response()
}

async fn serve<E: Endpoint>(app: Arc<App>, names: Arc<Names>, request: Request) -> Response {
    let is_off = E::SPEC.switch.is_some_and(|switch| !app.settings.methods.has(switch));
    let is_own = app.settings.session.strategy.is_own();
    if is_off || !(is_own || app_session::keeps(E::SPEC.path)) {
        return unknown(app, names, request).await;
    }
    let (parts, body) = request.into_parts();
    let presented = Arc::new(Presented::read(&app, &names, &parts.headers));
    // Shared, not copied: a copy of the headers costs more than the whole look-up of a session.
    let parts = Arc::new(parts);
    let mut before = Vec::new();
    let outcome = steps::<E>(&app, &names, &presented, &parts, body, &mut before).await;
    let mut reply = outcome.unwrap_or_else(Failure::into_reply);
    if api_keys::header(&app, &parts.headers).is_some() {
        // A program shows its key each time, and nothing may take its place.
        return reply.without_cookies().into_response();
    }
    if !is_own {
        reply = reply.challenging();
    }
    // A session that the endpoint hands out stands behind one that was just extended, and so wins, as in the original;
    // one that it ends is not extended first.
    if !reply.ends_session() {
        reply = reply.cookies_before(before);
    }
    match finish(&app, &names, &presented, reply, &parts).await {
        Ok(reply) => reply.into_response(),
        Err(failure) => failure.into_reply().into_response(),
    }
}

async fn steps<E: Endpoint>(
    app: &Arc<App>,
    names: &Arc<Names>,
    presented: &Arc<Presented>,
    parts: &Arc<Parts>,
    body: Body,
    before: &mut Vec<String>,
) -> Outcome {
    const { assert!(E::SPEC.path.as_bytes()[0] == b'/') };
    let spec = E::SPEC;
    let context = context_of(parts);
    limit(app, presented, parts, Some(spec.path), &context).await?;
    let trusted = &app.settings.trusted_origins;
    let query = query_pairs(parts);
    let parsed = read_body(app, &spec, parts, body).await?;
    if spec.method == Method::Post {
        if !spec.from_elsewhere {
            origin_guard::check(&parts.headers, trusted)?;
        }
        callback::check_change(trusted, parsed.as_ref(), &query)?;
    }
    if spec.link {
        callback::check_link(trusted, &query)?;
    }
    let opened = api_keys::open(app, &parts.headers, &context).await?;
    let extend = !app.settings.session.defer_refresh && !has_flag(&query, "disableRefresh");
    let mut fields = Fields::new(parsed, query, segments(spec.path, parts.uri.path()));
    let input = E::read(&mut fields);
    fields.finish().map_err(E::unreadable)?;
    if spec.signs_in {
        origin_guard::check_first_sign_in(&parts.headers, trusted)?;
    }
    let (key, by_key) = opened.unzip();
    let session = match (spec.access, by_key) {
        (_, Some(live)) => {
            let resolved = Resolved { session: Some(live), ..Resolved::default() };
            admit(app, &spec, resolved, &context)?
        }
        (Access::Anyone, None) => None,
        (_, None) => {
            let refresh = if extend { Refresh::Yes } else { Refresh::No };
            let resolved = current::resolve(app, presented, refresh, context.now).await?;
            before.extend(current::cookie_lines(app, names, presented, &resolved));
            let refusal = presented.app.as_ref().and_then(|shown| shown.refusal(context.now));
            match (refusal, spec.access) {
                (Some(refusal), Access::SignedIn | Access::Fresh) => {
                    return Err(app_session::failure(refusal));
                }
                _ => admit(app, &spec, resolved, &context)?,
            }
        }
    };
    let call = Call {
        app: app.clone(),
        names: names.clone(),
        now: context.now,
        client: context.client,
        request: parts.clone(),
        presented: presented.clone(),
        session,
        key,
    };
    E::run(call, input).await
}

fn admit(
    app: &App,
    spec: &Spec,
    resolved: Resolved,
    context: &RequestContext,
) -> Result<Option<identity::LiveSession>, Failure> {
    match (spec.access, resolved.session) {
        (Access::SignedIn | Access::Fresh, None) => Err(spec.signed_out.failure()),
        (Access::Fresh, Some(live))
            if !live.session.is_fresh(app.settings.session.fresh_age, context.now) =>
        {
            Err(Code::SessionNotFresh.into())
        }
        (_, session) => Ok(session),
    }
}

async fn limit(
    app: &App,
    presented: &Presented,
    parts: &Parts,
    route: Option<&'static str>,
    context: &RequestContext,
) -> Result<(), Failure> {
    if !app.settings.rate_limit.enabled {
        return Ok(());
    }
    let path = parts.uri.path().strip_prefix(BASE).unwrap_or("").trim_end_matches('/');
    if SESSION_CHECKS.contains(&path) && presented.is_signed {
        return Ok(());
    }
    rates::check(app, context.client, route, path, context.now).await
}

async fn read_body(
    app: &App,
    spec: &Spec,
    parts: &Parts,
    body: Body,
) -> Result<Option<serde_json::Value>, Failure> {
    if spec.body == BodyKind::None {
        return Ok(None);
    }
    let limits = &app.settings.limits;
    let read = edge::body::read(body, limits.body_bytes, Duration::from_millis(limits.body_read_ms)).await;
    let bytes = read.map_err(|refusal| match refusal {
        Refusal::BodyTooLarge => Failure::from(Code::BodyTooLarge),
        Refusal::BodyTooSlow => Code::BodyTooSlow.into(),
        _ => Code::InvalidJson.into(),
    })?;
    let content_type = parts.headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    body::parse(spec.body, content_type, &bytes, limits.json_depth)
}

/// Writes the cookies of a session that the endpoint began or renewed, and the header for clients without cookies.
async fn finish(app: &App, names: &Names, presented: &Presented, mut reply: Reply, parts: &Parts) -> Outcome {
    if let Some(grant) = reply.take_grant() {
        let now = context_of(parts).now;
        let lines = grant_cookies(app, names, presented, &parts.headers, &grant, now).await?;
        reply = reply.cookies(lines);
    }
    if app.settings.methods.has(Switch::Bearer)
        && let Some(token) = reply.session_cookie(&names.session_token)
    {
        reply = reply.exposed("set-auth-token", &token);
    }
    Ok(reply)
}

async fn grant_cookies(
    app: &App,
    names: &Names,
    presented: &Presented,
    headers: &HeaderMap,
    grant: &Grant,
    now: kernel::Millis,
) -> Result<Vec<String>, Failure> {
    let keep = grant.keep.unwrap_or_else(|| presented.keep());
    let mut writer = Writer::new(app, names);
    writer.session(&grant.token, keep);
    if keep == Keep::Forget {
        writer.dont_remember();
    } else if presented.has_dont_remember {
        writer.clear(&names.dont_remember);
    }
    if app.settings.methods.has(Switch::MultiSession) {
        multi_session::add_to_device(app, names, headers, grant, &mut writer, now).await?;
    }
    if let (Some(method), true) = (grant.method, app.settings.methods.has(Switch::LastLoginMethod)) {
        writer.last_method(method);
    }
    Ok(writer.lines)
}

/// What the edge found out about a request; a door that is mounted without the edge is a mistake of ours.
fn context_of(parts: &Parts) -> RequestContext {
    parts.extensions.get::<RequestContext>().cloned().expect("the edge stands before every door")
}

pub fn query_pairs(parts: &Parts) -> Vec<(String, String)> {
    let Some(query) = parts.uri.query() else { return Vec::new() };
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

/// The texts that stand where the route has braces.
fn segments(route: &str, path: &str) -> Vec<String> {
    let path = path.strip_prefix(BASE).unwrap_or(path);
    let pairs = route.split('/').zip(path.split('/'));
    pairs
        .filter(|(pattern, _)| pattern.starts_with('{'))
        .map(|(_, text)| kernel::signed::decode_uri_component(text).unwrap_or_default().into_owned())
        .collect()
}
