//! A small app that says who its caller is: it asks Tollgate through `tollgate-client`, each time.
//!
//! `bench-client-app ADDRESS TOLLGATE`: where it listens, and the address of the server it asks.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::serve::ListenerExt as _;
use tollgate_client::Tollgate;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, address, tollgate] = arguments.as_slice() else {
        return Err("usage: bench-client-app ADDRESS TOLLGATE".into());
    };
    let app = Router::new().route("/me", get(me)).with_state(Tollgate::new(tollgate)?);
    let listener = tokio::net::TcpListener::bind(address).await?.tap_io(|stream| {
        // As every server here does; without it the answer is only slower.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, app).await?)
}

async fn me(State(tollgate): State<Tollgate>, headers: HeaderMap) -> (StatusCode, String) {
    match tollgate.session(&headers).await {
        Ok(Some(session)) => (StatusCode::OK, session.user.id.to_string()),
        Ok(None) => (StatusCode::UNAUTHORIZED, "nobody is signed in".to_owned()),
        Err(error) => (error.status(), error.to_string()),
    }
}
