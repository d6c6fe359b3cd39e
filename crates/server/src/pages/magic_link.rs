//! `/magic-link`: where a mailed link leads first. Programs that look into mails open links, but press no buttons: the
//! link is used up by the form.

use super::door::{Answer, Visit};
use super::form::{self, Form};
use super::{Pages, problem, see_other};
use crate::auth::origin_guard;
use crate::openapi::Field;
use axum::body::Body;
use axum::extract::{Request, State};
use http::{Response, StatusCode};
use serde::Serialize;
use std::sync::Arc;
use url::Url;

const NAMES: [&str; 4] = ["token", "callbackURL", "newUserCallbackURL", "errorCallbackURL"];

pub const QUERY: &[Field] = &[
    Field::text("token").note("Of the mail"),
    Field::text("callbackURL").optional().note("Where to go afterwards; else `/`"),
    Field::text("newUserCallbackURL").optional().note("The same for a new user"),
    Field::text("errorCallbackURL")
        .optional()
        .note("Where to go when the link does not work; else this page says it"),
];

#[derive(Serialize)]
struct View<'a> {
    app_name: &'a str,
    /// What the mail said, to be sent with the form.
    fields: Vec<(&'static str, &'a str)>,
}

#[derive(Serialize)]
struct Onward<'a> {
    app_name: &'a str,
    url: &'a str,
    host: &'a str,
}

fn fields(form: &Form) -> Vec<(&'static str, &str)> {
    NAMES.into_iter().filter_map(|name| Some((name, form.some(name)?))).collect()
}

pub async fn page(State(pages): State<Arc<Pages>>, request: Request) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let query = form::of_query(&parts);
    let app_name = &pages.app.settings.app_name;
    pages.views.page("magic-link.html", &View { app_name, fields: fields(&query) })
}

pub async fn follow(State(pages): State<Arc<Pages>>, request: Request) -> Response<Body> {
    let (parts, form) = match form::read(&pages, request).await {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    // The door would not ask where a look comes from, and this one signs in: nobody else's page may do that.
    let trusted = &pages.app.settings.trusted_origins;
    let guarded = origin_guard::check(&parts.headers, trusted)
        .and_then(|()| origin_guard::check_first_sign_in(&parts.headers, trusted));
    if guarded.is_err() {
        let message =
            "This form came from another site, so nothing was done. Open the link of the mail again.";
        return problem::page(&pages, StatusCode::FORBIDDEN, message);
    }
    let query = in_query(&form);
    let mut visit = Visit::of(&pages, &parts);
    let answer = visit.get(&format!("/magic-link/verify?{query}")).await;
    let response = go_on(&pages, &form, &answer);
    visit.answer(response)
}

/// As the door's link has it: with somewhere to go.
fn in_query(form: &Form) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(fields(form));
    if form.some("callbackURL").is_none() {
        query.append_pair("callbackURL", "/");
    }
    query.finish()
}

fn go_on(pages: &Pages, form: &Form, answer: &Answer) -> Response<Body> {
    let base = &pages.app.settings.base_url;
    let target = answer.location.as_deref().and_then(|location| Url::parse(base).ok()?.join(location).ok());
    let Some(target) = target else { return problem::of(pages, answer) };
    let told = target.query_pairs().find(|(name, _)| name == "error").and_then(|(_, code)| sentence(&code));
    if let (Some(message), None) = (told, form.some("errorCallbackURL")) {
        return problem::page(pages, StatusCode::BAD_REQUEST, message);
    }
    if Url::parse(base).is_ok_and(|base| base.origin() == target.origin()) {
        return see_other(target.as_str());
    }
    // Browsers do not follow a form to an origin that the page's policy does not name; a page leads there.
    let (app_name, host) = (&pages.app.settings.app_name, target.host_str().unwrap_or_default());
    pages.views.page("signed-in.html", &Onward { app_name, url: target.as_str(), host })
}

/// What the door's own errors mean to a person; another one is the target's, which had it before.
fn sentence(code: &str) -> Option<&'static str> {
    match code {
        "INVALID_TOKEN" => Some(
            "This link does not work any more: it was used already, or it is older than five minutes. Ask for a new one where \
             you wanted to sign in.",
        ),
        "new_user_signup_disabled" => Some(
            "There is no account with this address, and new ones cannot be made here. Ask whoever runs this service.",
        ),
        _ => None,
    }
}
