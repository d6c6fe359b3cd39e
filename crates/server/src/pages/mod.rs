//! The pages that people see: where they sign in, and where they see what they have and buy more.
//!
//! They hold no rule of their own. A page asks the Better Auth door in this process what an app's pages would ask it by HTTP
//! ([`door`]), with the browser's own cookies, and writes the answer as HTML. So origins, rates, sessions and prices are judged
//! where they are judged for everybody. Everything works without JavaScript.

mod assets;
mod billing;
mod device;
mod door;
mod form;
mod magic_link;
mod money;
mod problem;
mod second_factor;
mod sign_in;

use crate::app::App;
use crate::openapi::{Auth, Door, RouteDoc};
use crate::settings::Switch;
use crate::views::Views;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY};
use http::{HeaderValue, Response, StatusCode};
use std::sync::Arc;
use url::Url;

pub const ROUTES: &[RouteDoc] = &[
    page(RouteDoc::get("/sign-in", "Where people sign in")).query(sign_in::QUERY),
    page(RouteDoc::post("/sign-in", "Signs in and goes on")).notes(FORM),
    page(RouteDoc::post("/second-factor", "Answers with a code, or asks for a mailed one")).notes(FORM),
    page(RouteDoc::get("/sign-up", "Where people make an account")).query(sign_in::QUERY),
    page(RouteDoc::post("/sign-up", "Makes an account and goes on")).notes(FORM),
    page(RouteDoc::post("/sign-out", "Signs out")).notes(FORM),
    page(RouteDoc::get("/device", "Where people type the code that a device shows"))
        .auth(Auth::Session)
        .query(device::QUERY)
        .answers(&[(200, "The page"), (303, "To `/sign-in`"), (404, "Switched off")]),
    page(RouteDoc::post("/device", "Shows which device it is; then lets it in or turns it away"))
        .auth(Auth::Session)
        .notes(FORM),
    page(RouteDoc::get("/magic-link", "Where a mailed link leads: a button that signs in"))
        .query(magic_link::QUERY)
        .answers(&[(200, "The page"), (404, "Switched off")]),
    page(RouteDoc::post("/magic-link", "Uses the link up, signs in and goes on")).notes(FORM),
    page(RouteDoc::get("/billing", "What one has, and what can be bought"))
        .auth(Auth::Session)
        .query(billing::QUERY)
        .answers(&[(200, "The page"), (303, "To `/sign-in`")]),
    page(RouteDoc::post("/billing/checkout", "Opens a checkout and goes there"))
        .auth(Auth::Session)
        .notes(FORM)
        .answers(&[(303, "To the checkout, or to `/sign-in`"), (400, "The page, which says why not")]),
    page(RouteDoc::post("/billing/portal", "Opens Stripe's portal and goes there"))
        .auth(Auth::Session)
        .notes(FORM)
        .answers(&[(303, "To the portal, or to `/sign-in`"), (503, "The page, which says why not")]),
    page(RouteDoc::get("/assets/{file}", "What the pages load")),
];

const FORM: &str =
    "A form of the page, `application/x-www-form-urlencoded`. A program asks `/api/auth` instead.";

const fn page(doc: RouteDoc) -> RouteDoc {
    doc.door(Door::Pages)
}

/// Shared by the handlers.
struct Pages {
    app: Arc<App>,
    /// The Better Auth door.
    door: Router,
    views: Views,
    /// Of every page: only its forms may lead elsewhere, and only to where is paid.
    policy: HeaderValue,
    /// Origins that a form may lead to.
    payment: Vec<String>,
}

macro_rules! embedded {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("../../../../web/pages/people/", $name)))),*] };
}

/// `door` is the Better Auth door's router.
pub fn router(app: &Arc<App>, door: Router) -> Router {
    let payment = payment(app);
    let form_action = payment.join(" ");
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' {form_action}; base-uri 'none'; \
         frame-ancestors 'none'"
    );
    let pages = Arc::new(Pages {
        app: app.clone(),
        door,
        views: Views::of(embedded![
            "layout.html",
            "sign-in.html",
            "sign-up.html",
            "second-factor.html",
            "billing.html",
            "device.html",
            "magic-link.html",
            "signed-in.html",
            "go-on.html",
            "problem.html"
        ]),
        policy: HeaderValue::try_from(policy).expect("origins are visible ASCII"),
        payment,
    });
    let entrances = match app.settings.session.strategy.is_own() {
        true => own_entrances(app),
        false => {
            Router::new().route("/sign-in", get(sign_in::at_app)).route("/sign-up", get(sign_in::at_app))
        }
    };
    entrances
        .route("/billing", get(billing::page))
        .route("/billing/checkout", post(billing::checkout))
        .route("/billing/portal", post(billing::portal))
        .route("/assets/{file}", get(assets::file))
        .route_layer(axum::middleware::from_fn_with_state(pages.clone(), headers))
        .with_state(pages)
}

/// Where people sign in, unless an app does that.
fn own_entrances(app: &App) -> Router<Arc<Pages>> {
    let mut router = Router::new();
    if app.settings.methods.has(Switch::DeviceAuthorization) {
        router = router.route("/device", get(device::page).post(device::decide));
    }
    if [Switch::MagicLink, Switch::MagicLinkConfirm]
        .into_iter()
        .all(|switch| app.settings.methods.has(switch))
    {
        router = router.route("/magic-link", get(magic_link::page).post(magic_link::follow));
    }
    router
        .route("/sign-in", get(sign_in::page).post(sign_in::sign_in))
        .route("/second-factor", post(second_factor::answer))
        .route("/sign-up", get(sign_in::new_page).post(sign_in::sign_up))
        .route("/sign-out", post(sign_in::sign_out))
}

/// Where a checkout or a portal can be. Browsers hold a form's redirect against the page's policy, too.
fn payment(app: &App) -> Vec<String> {
    let Some(desk) = &app.billing else { return Vec::new() };
    match Url::parse(desk.tools().stripe.base()) {
        Ok(base) if base.host_str() != Some("api.stripe.com") => vec![base.origin().ascii_serialization()],
        _ => vec!["https://checkout.stripe.com".to_owned(), "https://billing.stripe.com".to_owned()],
    }
}

async fn headers(State(pages): State<Arc<Pages>>, request: Request, next: Next) -> Response<Body> {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, pages.policy.clone());
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    // With `no-referrer` a browser sends a form with `Origin: null`, which is refused.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

/// The answer to a form: the browser asks for `target` anew.
fn see_other(target: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let target = HeaderValue::try_from(target).unwrap_or(HeaderValue::from_static("/billing"));
    response.headers_mut().insert(LOCATION, target);
    response
}
