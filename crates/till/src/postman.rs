//! Brings events to the app: waits until they are due, signs, sends and notes how it went.

use crate::delivery::{Attempt, Parcel};
use crate::desk::Desk;
use crate::refusal::Refusal;
use axum::body::Body;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderName, Method, Request};
use http_body_util::{BodyExt, Limited};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use url::Url;

const SIGNATURE: HeaderName = HeaderName::from_static("stripe-signature");
/// How long the postman sleeps at most: what is due by the machine's clock is late by no more.
const NAP: Duration = Duration::from_millis(500);
/// What is read of an answer.
const LARGEST_ANSWER: usize = 64 * 1024;
const MOST_COPIES: usize = 1_000;

pub(crate) async fn run(desk: Arc<Desk>) {
    let slots = Arc::new(Semaphore::new(desk.deliveries_at_once));
    loop {
        for parcel in desk.with(|books| books.take_parcels()) {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let desk = Arc::clone(&desk);
            tokio::spawn(async move {
                let attempt = send(&desk, &parcel).await;
                desk.with(|books| books.came_back(attempt));
                drop(slot);
            });
        }
        // Whoever wakes it too often costs a look at an empty list.
        let _ = tokio::time::timeout(NAP, desk.post_arrived.notified()).await;
    }
}

pub(crate) async fn send_copies(
    desk: &Arc<Desk>,
    event: &str,
    copies: usize,
) -> Result<Vec<Attempt>, Refusal> {
    if copies > MOST_COPIES {
        return Err(Refusal::invalid("copies", format!("At most {MOST_COPIES} copies at once.")));
    }
    let parcel = Arc::new(desk.with(|books| books.parcel(event))?);
    let mut sending = JoinSet::new();
    for _ in 0..copies {
        let (desk, parcel) = (Arc::clone(desk), Arc::clone(&parcel));
        sending.spawn(async move { send(&desk, &parcel).await });
    }
    let attempts = sending.join_all().await;
    desk.with(|books| attempts.iter().for_each(|attempt| books.delivered(attempt.clone())));
    Ok(attempts)
}

pub(crate) async fn send_in_order(desk: &Arc<Desk>, events: &[String]) -> Result<Vec<Attempt>, Refusal> {
    let mut attempts = Vec::new();
    for event in events {
        attempts.extend(send_copies(desk, event, 1).await?);
    }
    Ok(attempts)
}

/// Returns when nothing is due or on its way.
pub(crate) async fn until_quiet(desk: &Arc<Desk>) {
    while desk.with(|books| books.has_deliveries_now()) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn send(desk: &Desk, parcel: &Parcel) -> Attempt {
    let sent = tokio::time::timeout(desk.delivery_timeout, post(desk, parcel)).await;
    let (status, problem) = match sent {
        Ok(Ok(status)) => (Some(status), None),
        Ok(Err(problem)) => (None, Some(problem)),
        Err(_) => (None, Some(format!("no answer in {:?}", desk.delivery_timeout))),
    };
    Attempt { event: parcel.event.clone(), kind: parcel.kind, at: desk.now(), status, problem }
}

async fn post(desk: &Desk, parcel: &Parcel) -> Result<u16, String> {
    let url = Url::parse(&parcel.url).map_err(|error| error.to_string())?;
    let host = url.host_str().unwrap_or("localhost");
    let port = url.port_or_known_default().unwrap_or(80);
    let stream =
        TcpStream::connect((host.trim_matches(['[', ']']), port)).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(&url[url::Position::BeforePath..])
        .header(HOST, format!("{host}:{port}"))
        .header(CONTENT_TYPE, "application/json; charset=utf-8")
        .header(ACCEPT, "*/*")
        .header(USER_AGENT, "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
        .header(SIGNATURE, parcel.signature(desk.signing_time()))
        .body(Body::from(parcel.body.clone()))
        .map_err(|error| error.to_string())?;
    let driven = tokio::spawn(connection);
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        // The status decides; the body is read so that the endpoint is not cut off while writing.
        let _ = Limited::new(response.into_body(), LARGEST_ANSWER).collect().await;
        Ok(status)
    };
    let answer = answer.await;
    driven.abort();
    answer
}
