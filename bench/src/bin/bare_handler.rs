//! An axum handler that answers every session check with the same bytes from memory: what HTTP itself costs.
//!
//! `bench-bare-handler ADDRESS FILE`: the file holds a whole answer of Tollgate, head and body.

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::routing::get;
use axum::serve::ListenerExt as _;

/// Written by the server itself, as it writes them for Tollgate.
const OF_THE_CONNECTION: [&str; 4] = ["content-length", "connection", "date", "transfer-encoding"];

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, address, file] = arguments.as_slice() else {
        return Err("usage: bench-bare-handler ADDRESS FILE".into());
    };
    let (headers, body) = read_answer(&std::fs::read(file)?)?;
    let handler = move || {
        let answer = (headers.clone(), body.clone());
        async move { answer }
    };
    let app = Router::new().route("/api/auth/get-session", get(handler));
    let listener = tokio::net::TcpListener::bind(address).await?.tap_io(|stream| {
        // As Tollgate and Node.js do; without it the answer is only slower.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, app).await?)
}

fn read_answer(bytes: &[u8]) -> Result<(HeaderMap, Bytes), Failure> {
    let answer = bench::answer::parse(bytes)?.ok_or("the file holds half an answer")?;
    let mut headers = HeaderMap::new();
    for line in std::str::from_utf8(answer.head)?.lines().skip(1) {
        let (name, value) = line.split_once(':').ok_or("a header line without a colon")?;
        if !OF_THE_CONNECTION.contains(&name.to_ascii_lowercase().as_str()) {
            headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value.trim())?);
        }
    }
    Ok((headers, Bytes::copy_from_slice(&answer.body)))
}
