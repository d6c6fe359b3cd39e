//! What operators ask: does it run, is it ready, how is it doing, what does it offer.

use crate::edge::{Metrics, Shutdown};
use crate::openapi::{Door, RouteDoc};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;
use store::{Counters, Store, params};

/// Both checks run side by side within the 100 ms that a load balancer is promised.
const CHECK_TIME: Duration = Duration::from_millis(90);
const SCHEMA_VERSION: &str = "SELECT version FROM schema_version";

pub const ROUTES: &[RouteDoc] = &[
    RouteDoc::get("/healthz", "Whether the process runs").door(Door::Operations),
    RouteDoc::get("/readyz", "Whether requests can be answered")
        .door(Door::Operations)
        .answers(&[(200, "Ready"), (503, "Not ready; `checks` says what is missing")]),
    RouteDoc::get("/metrics", "Counts and times in Prometheus' text format").door(Door::Operations),
    RouteDoc::get("/openapi.json", "This document").door(Door::Operations),
];

/// What the operators' answers are made from.
#[derive(Clone)]
pub struct Operations {
    pub store: Store,
    pub counters: Counters,
    pub metrics: Arc<Metrics>,
    /// From [`crate::openapi::document`], made once.
    pub document: Bytes,
    pub shutdown: Shutdown,
}

/// The routes of [`ROUTES`], for the public listener or one of their own.
pub fn router(operations: Operations) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(document))
        .with_state(Arc::new(operations))
}

async fn healthz() -> Response<Body> {
    answer(StatusCode::OK, "application/json", r#"{"status":"ok"}"#.into())
}

async fn readyz(State(operations): State<Arc<Operations>>) -> Response<Body> {
    let (schema, redis) = tokio::join!(
        tokio::time::timeout(CHECK_TIME, schema_version(&operations.store)),
        tokio::time::timeout(CHECK_TIME, operations.counters.redis_answers()),
    );
    let readiness = Readiness {
        stopping: operations.shutdown.has_begun(),
        schema: schema.unwrap_or(Schema::Unreachable),
        redis: redis.unwrap_or(Some(false)),
    };
    readiness.answer()
}

async fn metrics(State(operations): State<Arc<Operations>>) -> Response<Body> {
    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", operations.metrics.render().into())
}

async fn document(State(operations): State<Arc<Operations>>) -> Response<Body> {
    answer(StatusCode::OK, "application/json", operations.document.clone().into())
}

/// What the checks found.
struct Readiness {
    stopping: bool,
    schema: Schema,
    /// `None` when no Redis is configured.
    redis: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Schema {
    Version(i64),
    /// The database answers, but not with a version: it was never migrated.
    Missing,
    Unreachable,
}

async fn schema_version(store: &Store) -> Schema {
    let found = store
        .read::<_, store::Error, _>(|tx| tx.query_opt(SCHEMA_VERSION, params![], |row| row.get::<i64>(0)))
        .await;
    match found {
        Ok(Some(version)) => Schema::Version(version),
        Err(error) if error.is_unavailable() => Schema::Unreachable,
        Ok(None) | Err(_) => Schema::Missing,
    }
}

impl Readiness {
    fn database(&self) -> &'static str {
        if self.schema == Schema::Unreachable { "unavailable" } else { "ok" }
    }

    /// A newer schema is fine as well: a node of the next release migrates while this one still answers.
    fn migrations(&self) -> &'static str {
        match self.schema {
            Schema::Version(found) if found >= store::newest_version() => "ok",
            Schema::Version(_) | Schema::Missing => "pending",
            Schema::Unreachable => "unknown",
        }
    }

    fn answer(&self) -> Response<Body> {
        let mut checks = Map::new();
        checks.insert("database".into(), json!(self.database()));
        checks.insert("migrations".into(), json!(self.migrations()));
        // Shown, but no reason to be taken out of service: without Redis only guests are refused.
        if let Some(answers) = self.redis {
            checks.insert("redis".into(), json!(if answers { "ok" } else { "unavailable" }));
        }
        let ready = !self.stopping && self.migrations() == "ok";
        let status = match (ready, self.stopping) {
            (true, _) => "ready",
            (false, true) => "stopping",
            (false, false) => "not_ready",
        };
        let body = json!({ "status": status, "checks": Value::Object(checks) });
        let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        let mut response = answer(code, "application/json", body.to_string().into());
        if !ready {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn answer(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let mut set =
        |name: HeaderName, value| response.headers_mut().insert(name, HeaderValue::from_static(value));
    set(CONTENT_TYPE, kind);
    // A kept answer would tell about a state that is over.
    set(CACHE_CONTROL, "no-store");
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt as _;

    async fn ask(router: &Router, path: &str) -> (StatusCode, String) {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn operations(folder: &tempfile::TempDir) -> Operations {
        let url = format!("sqlite://{}", folder.path().join("tollgate.db").display());
        let store = Store::open(&store::Options { url, pool_size: 1 }).unwrap();
        Operations {
            counters: Counters::open(&store, "").unwrap(),
            store,
            metrics: Arc::new(Metrics::new(&[ROUTES])),
            document: Bytes::from_static(b"{}"),
            shutdown: Shutdown::new(),
        }
    }

    #[tokio::test]
    async fn a_database_without_its_schema_is_not_ready_and_a_migrated_one_is() {
        let folder = tempfile::tempdir().unwrap();
        let operations = operations(&folder);
        let router = router(operations.clone());
        let (status, body) = ask(&router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
        assert_eq!(body, r#"{"checks":{"database":"ok","migrations":"pending"},"status":"not_ready"}"#);
        operations.store.migrate().unwrap();
        let (status, body) = ask(&router, "/readyz").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body, r#"{"checks":{"database":"ok","migrations":"ok"},"status":"ready"}"#);
        operations.shutdown.begin();
        let (status, body) = ask(&router, "/readyz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.contains(r#""status":"stopping""#));
        assert_eq!(ask(&router, "/healthz").await.0, StatusCode::OK);
    }

    #[test]
    fn a_lost_database_is_named_and_a_lost_redis_only_shown() {
        let lost = Readiness { stopping: false, schema: Schema::Unreachable, redis: None };
        assert_eq!(lost.answer().status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((lost.database(), lost.migrations()), ("unavailable", "unknown"));
        let version = Schema::Version(store::newest_version());
        let alone = Readiness { stopping: false, schema: version, redis: Some(false) };
        assert_eq!(alone.answer().status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn every_documented_route_is_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let router = router(operations(&folder));
        for route in ROUTES {
            assert_ne!(ask(&router, route.path).await.0, StatusCode::NOT_FOUND, "{}", route.path);
        }
    }
}
