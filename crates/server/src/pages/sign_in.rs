//! `/sign-in`, `/sign-up` and the way out.

use super::door::{Answer, Visit};
use super::form::{self, Form};
use super::{Pages, problem, second_factor, see_other};
use crate::openapi::Field;
use axum::body::Body;
use axum::extract::{Request, State};
use http::{Response, StatusCode};
use kernel::redirect::judge;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

pub const QUERY: &[Field] = &[Field::text("callbackURL")
    .optional()
    .note("Where to go afterwards: a path, or an address of a trusted origin; else `/billing`")];

const HOME: &str = "/billing";

#[derive(Serialize, Default)]
struct View<'a> {
    app_name: &'a str,
    enabled: bool,
    sign_up: bool,
    min_length: usize,
    max_length: usize,
    /// Where to go afterwards; empty: home.
    target: &'a str,
    /// The same in a query.
    onward: String,
    name: &'a str,
    email: &'a str,
    problem: Option<String>,
    notice: Option<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    SignIn,
    SignUp,
}

impl Which {
    fn template(self) -> &'static str {
        match self {
            Which::SignIn => "sign-in.html",
            Which::SignUp => "sign-up.html",
        }
    }
}

pub async fn page(State(pages): State<Arc<Pages>>, request: Request) -> Response<Body> {
    entrance(&pages, request, Which::SignIn).await
}

pub async fn new_page(State(pages): State<Arc<Pages>>, request: Request) -> Response<Body> {
    entrance(&pages, request, Which::SignUp).await
}

/// Where the app signs people in, everything leads to its page.
pub async fn at_app(State(pages): State<Arc<Pages>>, request: Request) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let settings = &pages.app.settings;
    let query = form::of_query(&parts);
    let target = judge(&settings.trusted_origins, query.some("callbackURL").unwrap_or(HOME));
    let target = target.map_or_else(|| format!("{}{HOME}", settings.base_url), |target| target.absolute());
    see_other(&settings.sign_in_url(&target))
}

/// Whoever is signed in already goes on.
async fn entrance(pages: &Pages, request: Request, which: Which) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let query = form::of_query(&parts);
    let mut visit = Visit::of(pages, &parts);
    let session = visit.get("/get-session").await;
    if !session.is_good() {
        return visit.answer(problem::of(pages, &session));
    }
    if !session.body.is_null() {
        return visit.answer(see_other(&onward(pages, &query)));
    }
    visit.answer(show(pages, which, &query, None, None, StatusCode::OK))
}

pub async fn sign_in(State(pages): State<Arc<Pages>>, request: Request) -> Response<Body> {
    let (parts, form) = match form::read(&pages, request).await {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    let mut visit = Visit::of(&pages, &parts);
    let mut body = json!({"email": form.text("email").trim(), "password": form.text("password")});
    add_target(&pages, &form, &mut body);
    let answer = visit.post("/sign-in/email", &body).await;
    let response = match answer.is_good() {
        true if second_factor::is_asked_for(&answer) => second_factor::ask(&pages, &form, &answer),
        true => see_other(&onward(&pages, &form)),
        false => again(&pages, &form, &answer),
    };
    visit.answer(response)
}

pub async fn sign_up(State(pages): State<Arc<Pages>>, request: Request) -> Response<Body> {
    let (parts, form) = match form::read(&pages, request).await {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    let mut visit = Visit::of(&pages, &parts);
    let email = form.text("email").trim();
    // A name is asked for and not insisted on.
    let name = form.some("name").unwrap_or_else(|| email.split('@').next().unwrap_or_default());
    let mut body = json!({"name": name, "email": email, "password": form.text("password")});
    add_target(&pages, &form, &mut body);
    let answer = visit.post("/sign-up/email", &body).await;
    let response = match answer.is_good() {
        false => refused(&pages, Which::SignUp, &form, &answer),
        true if answer.body["token"].is_string() => see_other(&onward(&pages, &form)),
        // No session yet, and whether there was an account before is nobody's business.
        true => {
            let notice = match pages.app.settings.email_password.require_verification {
                true => "One more step: open the link that we have just mailed to you, then sign in.",
                false => "Your account is made. Sign in with it.",
            };
            show(&pages, Which::SignIn, &form, None, Some(notice), StatusCode::OK)
        }
    };
    visit.answer(response)
}

pub async fn sign_out(State(pages): State<Arc<Pages>>, request: Request) -> Response<Body> {
    let (parts, _) = match form::read(&pages, request).await {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    let mut visit = Visit::of(&pages, &parts);
    let answer = visit.post("/sign-out", &json!({})).await;
    let response = match answer.is_good() {
        true => see_other("/sign-in"),
        false => problem::of(&pages, &answer),
    };
    visit.answer(response)
}

/// The page with what was wrong.
pub fn again(pages: &Pages, form: &Form, answer: &Answer) -> Response<Body> {
    refused(pages, Which::SignIn, form, answer)
}

fn refused(pages: &Pages, which: Which, form: &Form, answer: &Answer) -> Response<Body> {
    show(pages, which, form, Some(problem::sentence(answer)), None, answer.status)
}

fn show(
    pages: &Pages,
    which: Which,
    form: &Form,
    problem: Option<String>,
    notice: Option<&str>,
    status: StatusCode,
) -> Response<Body> {
    let settings = &pages.app.settings;
    let target = target(pages, form).unwrap_or_default();
    let view = View {
        app_name: &settings.app_name,
        enabled: settings.email_password.enabled,
        sign_up: settings.email_password.enabled && settings.email_password.sign_up,
        min_length: settings.email_password.min_length,
        max_length: settings.email_password.max_length,
        target: &target,
        onward: onward_query(&target),
        name: form.text("name"),
        email: form.text("email"),
        problem,
        notice,
    };
    let mut response = pages.views.page(which.template(), &view);
    if response.status() == StatusCode::OK {
        *response.status_mut() = status;
    }
    response
}

/// How a page that is linked to learns where to go afterwards.
pub fn onward_query(target: &str) -> String {
    match target.is_empty() {
        true => String::new(),
        false => format!("?{}", in_query(target)),
    }
}

/// Where people may be sent, as they came with it.
pub fn target(pages: &Pages, form: &Form) -> Option<String> {
    let target = judge(&pages.app.settings.trusted_origins, form.some("callbackURL")?)?;
    Some(target.location())
}

pub fn onward(pages: &Pages, form: &Form) -> String {
    target(pages, form).unwrap_or_else(|| HOME.to_owned())
}

/// A mailed link leads there, too.
fn add_target(pages: &Pages, form: &Form, body: &mut Value) {
    body["callbackURL"] = onward(pages, form).into();
}

/// The sign-in page that leads back to a page of ours.
pub fn and_back(target: &str) -> Response<Body> {
    see_other(&format!("/sign-in?{}", in_query(target)))
}

fn in_query(target: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new()).append_pair("callbackURL", target).finish()
}
