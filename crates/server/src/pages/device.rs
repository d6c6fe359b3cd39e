//! `/device`: where a person types the code that a device shows, and lets the device in.
//!
//! Opening a link changes nothing: the code becomes the person's to decide with the first form.

use super::door::{Answer, Visit};
use super::form::{self, Form};
use super::{Pages, problem, sign_in};
use crate::auth::origin_guard;
use crate::openapi::Field;
use axum::body::Body;
use axum::extract::{Request, State};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

pub const QUERY: &[Field] = &[Field::text("user_code").optional().note("Stands in the form already")];

#[derive(Serialize, Default)]
struct View<'a> {
    app_name: &'a str,
    email: &'a str,
    /// `ask`, `confirm`, `approved` or `denied`.
    state: &'a str,
    code: &'a str,
    client: &'a str,
    scope: &'a str,
    problem: Option<String>,
}

pub async fn page(State(pages): State<Arc<Pages>>, request: Request) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let query = form::of_query(&parts);
    let mut visit = Visit::of(&pages, &parts);
    let response = match signed_in(&mut visit, &query).await {
        Ok(email) => show(
            &pages,
            &View { email: &email, code: query.text("user_code"), ..View::default() },
            StatusCode::OK,
        ),
        Err(response) => *response,
    };
    visit.answer(response)
}

pub async fn decide(State(pages): State<Arc<Pages>>, request: Request) -> Response<Body> {
    let (parts, form) = match form::read(&pages, request).await {
        Ok(read) => read,
        Err(refused) => return *refused,
    };
    // The door would not ask where a look comes from, and this one claims the code.
    if origin_guard::check(&parts.headers, &pages.app.settings.trusted_origins).is_err() {
        let message =
            "This form came from another site, so nothing was done. Open this page anew and try again.";
        return problem::page(&pages, StatusCode::FORBIDDEN, message);
    }
    let mut visit = Visit::of(&pages, &parts);
    let response = match signed_in(&mut visit, &form).await {
        Ok(email) => act(&pages, &mut visit, &form, &email).await,
        Err(response) => *response,
    };
    visit.answer(response)
}

/// The address of who is signed in; else the way to sign in and back.
async fn signed_in(visit: &mut Visit<'_>, form: &Form) -> Result<String, Box<Response<Body>>> {
    let session = visit.get("/get-session").await;
    if !session.is_good() {
        return Err(Box::new(problem::of(visit.pages(), &session)));
    }
    match session.body["user"]["email"].as_str() {
        Some(email) => Ok(email.to_owned()),
        None => {
            let code = in_query(form.text("user_code"));
            Err(Box::new(sign_in::and_back(&format!("/device?{code}"))))
        }
    }
}

async fn act(pages: &Pages, visit: &mut Visit<'_>, form: &Form, email: &str) -> Response<Body> {
    let code = form.text("user_code").trim();
    let view = View { email, code, ..View::default() };
    let (path, state) = match form.text("decision") {
        "approve" => ("/device/approve", "approved"),
        "deny" => ("/device/deny", "denied"),
        _ => {
            let found = visit.get(&format!("/device?{}", in_query(code))).await;
            return match found.body["client_id"].as_str() {
                Some(client) if found.body["status"] == "pending" => {
                    let scope = found.body["scope"].as_str().unwrap_or_default();
                    show(pages, &View { state: "confirm", client, scope, ..view }, StatusCode::OK)
                }
                _ => refused(pages, view, &found),
            };
        }
    };
    let decided = visit.post(path, &json!({ "userCode": code })).await;
    if decided.is_good() {
        return show(pages, &View { state, ..view }, StatusCode::OK);
    }
    refused(pages, view, &decided)
}

fn refused(pages: &Pages, view: View<'_>, answer: &Answer) -> Response<Body> {
    let told = match answer.body["error"].as_str() {
        Some("expired_token") => "This code has expired. Begin again on your device and type the new one.",
        Some("access_denied") => "Somebody else has opened this code first. Begin again on your device.",
        Some("invalid_request") if answer.body["error_description"] == "Device code already processed" => {
            "This code was used already. Begin again on your device if it is not signed in."
        }
        Some(_) => "No device shows this code. Check it on your device and type it again.",
        // The door found it, but it is not this person's, or it is decided.
        None if answer.is_good() && answer.body["status"] == "pending" => {
            "Somebody else has opened this code first. Begin again on your device."
        }
        None if answer.is_good() => {
            "This code was used already. Begin again on your device if it is not signed in."
        }
        None => {
            return show(pages, &View { problem: Some(problem::sentence(answer)), ..view }, answer.status);
        }
    };
    let status = if answer.is_good() { StatusCode::CONFLICT } else { answer.status };
    show(pages, &View { problem: Some(told.to_owned()), ..view }, status)
}

fn show(pages: &Pages, view: &View<'_>, status: StatusCode) -> Response<Body> {
    let state = if view.state.is_empty() { "ask" } else { view.state };
    let view = View { app_name: &pages.app.settings.app_name, state, problem: view.problem.clone(), ..*view };
    let mut response = pages.views.page("device.html", &view);
    if response.status() == StatusCode::OK {
        *response.status_mut() = status;
    }
    response
}

fn in_query(code: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new()).append_pair("user_code", code).finish()
}
