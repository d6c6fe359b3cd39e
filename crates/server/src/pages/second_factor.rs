//! What `/sign-in` shows when the password was right and something more is asked for, and where that form leads.

use super::door::{Answer, Visit};
use super::form::{self, Form};
use super::{Pages, problem, see_other, sign_in};
use axum::body::Body;
use axum::extract::{Request, State};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

const APP: &str = "totp";
const MAIL: &str = "otp";

#[derive(Serialize)]
struct View<'a> {
    app_name: &'a str,
    target: &'a str,
    onward: String,
    /// What there is to choose from, to be sent with the form.
    methods: &'a str,
    /// A code of the app is expected, or one that was mailed; empty while there is neither.
    by: &'a str,
    can_mail: bool,
    problem: Option<String>,
    notice: Option<&'a str>,
}

/// Whether a sign-in stops here.
pub fn is_asked_for(answer: &Answer) -> bool {
    answer.body["twoFactorRedirect"] == Value::Bool(true)
}

/// The page in place of the one that the sign-in would have led to.
pub fn ask(pages: &Pages, form: &Form, answer: &Answer) -> Response<Body> {
    let methods: Vec<&str> =
        answer.body["twoFactorMethods"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let by = if methods.contains(&APP) { APP } else { "" };
    show(pages, form, (&methods.join(" "), by), None, None, StatusCode::OK)
}

pub async fn answer(State(pages): State<Arc<Pages>>, request: Request) -> Response<Body> {
    let (parts, form) = match form::read(&pages, request).await {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    let mut visit = Visit::of(&pages, &parts);
    let (methods, by) = (form.text("methods"), form.text("by"));
    if form.some("send").is_some() {
        let answer = visit.post("/two-factor/send-otp", &json!({})).await;
        let response = match answer.is_good() {
            true => {
                let notice = "We have mailed you a code. It works for three minutes.";
                show(&pages, &form, (methods, MAIL), None, Some(notice), StatusCode::OK)
            }
            false => refused(&pages, &form, (methods, by), &answer),
        };
        return visit.answer(response);
    }
    let code = form.text("code").trim();
    let path = match by {
        // Codes are digits, and codes on paper have a dash.
        _ if code.contains('-') => "/two-factor/verify-backup-code",
        MAIL => "/two-factor/verify-otp",
        _ => "/two-factor/verify-totp",
    };
    let code = if code.contains('-') { code.to_owned() } else { code.replace(' ', "") };
    let answer = visit.post(path, &json!({"code": code, "trustDevice": form.some("trust").is_some()})).await;
    let response = match answer.is_good() {
        true => see_other(&sign_in::onward(&pages, &form)),
        false => refused(&pages, &form, (methods, by), &answer),
    };
    visit.answer(response)
}

fn refused(pages: &Pages, form: &Form, state: (&str, &str), answer: &Answer) -> Response<Body> {
    match answer.code() {
        // The sign-in waits no more.
        "INVALID_TWO_FACTOR_COOKIE" | "BANNED_USER" => sign_in::again(pages, form, answer),
        "TOO_MANY_ATTEMPTS_REQUEST_NEW_CODE" if state.1 != MAIL => sign_in::again(pages, form, answer),
        _ => show(pages, form, state, Some(problem::sentence(answer)), None, answer.status),
    }
}

fn show(
    pages: &Pages,
    form: &Form,
    (methods, by): (&str, &str),
    problem: Option<String>,
    notice: Option<&str>,
    status: StatusCode,
) -> Response<Body> {
    let target = sign_in::target(pages, form).unwrap_or_default();
    let view = View {
        app_name: &pages.app.settings.app_name,
        target: &target,
        onward: sign_in::onward_query(&target),
        methods,
        by,
        can_mail: methods.split(' ').any(|method| method == MAIL),
        problem,
        notice,
    };
    let mut response = pages.views.page("second-factor.html", &view);
    if response.status() == StatusCode::OK {
        *response.status_mut() = status;
    }
    response
}
