//! An app whose users, credits and guests are Tollgate's: the whole of `docs/guide/rust-axum.md`. The tests run it against
//! the real thing.

use axum::extract::Path;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tollgate_client::{
    Charge, Credits, Error, Guest, IdempotencyKey, MaybeUser, Tollgate, TollgateLayer, User, UserId, Visit,
};

pub fn app(tollgate: Tollgate) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/me", get(me))
        .route("/users/{user_id}/files", get(files))
        .route("/admin", get(admin))
        .route("/reports", post(report))
        .route("/pictures", post(picture))
        .route("/try", post(try_out))
        .route("/drafts", post(draft))
        .layer(TollgateLayer::new(tollgate))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = app(Tollgate::from_env()?);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

async fn me(user: User) -> Json<User> {
    Json(user)
}

async fn home(MaybeUser(user): MaybeUser) -> String {
    match user {
        Some(user) => format!("Hello {}", user.name),
        None => "Hello stranger".to_owned(),
    }
}

async fn files(Path(owner): Path<UserId>, user: User) -> Result<Json<Value>, Error> {
    user.must_be(&owner)?; // 403 user_mismatch
    Ok(Json(json!({ "files": [] })))
}

async fn admin(user: User) -> Result<String, Error> {
    user.must_have_role("admin")?; // 403 forbidden
    Ok("the console".to_owned())
}

async fn report(credits: Credits) -> Result<Json<Value>, Error> {
    let spent = credits.spend(Charge::amount(5).reason("report")).await?; // 402 if there is too little
    Ok(Json(json!({ "report": "…", "credits_left": spent.available })))
}

async fn picture(credits: Credits) -> Result<Json<Value>, Error> {
    let hold = credits.hold(60, Duration::from_secs(300)).await?;
    let (picture, cost) = draw().await?; // whoever leaves here has paid nothing
    let spent = hold.settle(cost).await?;
    Ok(Json(json!({ "picture": picture, "credits_left": spent.available })))
}

async fn try_out(guest: Guest) -> Result<Json<Value>, Error> {
    let allowance = guest.act("generate").await?; // 429 guest_limit_reached
    Ok(Json(json!({ "picture": "…", "allowance": allowance })))
}

async fn draft(visit: Visit) -> Result<Json<Value>, Error> {
    // One call: members pay, visitors without an account use up their allowance.
    let key = visit.idempotency_key()?.unwrap_or_else(IdempotencyKey::random);
    let passed = visit.authorize().guest("generate").charge(2, &key).send().await?;
    if passed.spent.is_some_and(|spent| spent.replayed) {
        return Ok(Json(json!({ "draft": "the one that was kept under this key" })));
    }
    Ok(Json(json!({ "draft": "…" })))
}

/// Stands for the work.
async fn draw() -> Result<(String, u64), Error> {
    Ok(("…".to_owned(), 45))
}
