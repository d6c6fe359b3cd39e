//! The listener: connections of this machine, each served by the router, and cut where a fault says so.

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt;

const MOST_CONNECTIONS: usize = 2_048;
const HEADERS_WITHIN: Duration = Duration::from_secs(10);

/// Marks a response that must not be sent: the connection breaks instead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BreakConnection;

pub(crate) async fn serve(listener: std::net::TcpListener, router: Router) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the till cannot listen");
            return;
        }
    };
    let seats = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    talk(stream, peer, router).await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the till cannot take a connection in");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn talk(stream: TcpStream, peer: SocketAddr, router: Router) {
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let response = match router.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if response.extensions().get::<BreakConnection>().is_some() {
                return Err(io::Error::other("broken on purpose"));
            }
            Ok(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection of the till ended early");
    }
}
