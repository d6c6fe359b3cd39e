//! Which doors stand on which listener, and what is counted about them.

use crate::process::bookkeeping::LastWalk;
use crate::process::selling::InboxGauge;
use crate::process::telling::DeliveryGauge;
use axum::Router;
use axum::body::Bytes;
use kernel::Clock;
use server::dev::{self, Dev};
use server::edge::{Edge, Metrics, Shutdown};
use server::openapi::{self, CookieNames, RouteDoc};
use server::operations::{self, Operations};
use server::{App, Settings, adapter, auth, billing, credits, gate, guest, pages};
use std::sync::Arc;

/// What all doors offer: the OpenAPI document and the names in `/metrics` come from it.
fn all_routes(settings: &Settings) -> Vec<RouteDoc> {
    let dev = if settings.dev { dev::ROUTES } else { &[] };
    let mut routes = auth::route_docs();
    routes.extend(credits::route_docs());
    routes.extend(billing::route_docs());
    routes.extend(gate::route_docs());
    routes.extend(guest::ROUTES);
    routes.extend(adapter::ROUTES);
    routes.extend(pages::ROUTES);
    routes.extend(dev.iter().chain(operations::ROUTES).copied());
    routes
}

/// Which doors stand on a listener of their own.
#[derive(Debug, Clone, Copy)]
pub struct Apart {
    pub operations: bool,
    pub adapter: bool,
}

pub struct Doors {
    pub public: Router,
    /// For the operators' own listener.
    pub operations: Router,
    /// For the adapter's own listener.
    pub adapter: Router,
    pub edge: Arc<Edge>,
}

impl Doors {
    /// What is `apart` is missing from the public router.
    pub fn open(
        app: &Arc<App>,
        apart: Apart,
        dev: Option<Dev>,
        shutdown: &Shutdown,
        walk: Arc<LastWalk>,
        gauges: (Arc<InboxGauge>, Arc<DeliveryGauge>),
    ) -> Doors {
        let metrics = Arc::new(metrics(app, walk, gauges));
        let clock: Arc<dyn Clock> = app.clock.clone();
        let edge = Arc::new(Edge::new(&app.settings, clock, metrics.clone()));
        let operations = operations::router(Operations {
            store: app.store.clone(),
            counters: app.counters.clone(),
            metrics,
            document: Bytes::from(document(&app.settings)),
            shutdown: shutdown.clone(),
        });
        let auth = auth::router(app);
        let doors = pages::router(app, auth.clone()).merge(auth).merge(credits::router(app));
        let doors = doors.merge(billing::router(app)).merge(gate::router(app)).merge(guest::router(app));
        let doors = match dev {
            Some(dev) => doors.merge(dev::router(dev)),
            None => doors,
        };
        let doors = if apart.operations { doors } else { doors.merge(operations.clone()) };
        let adapter = adapter::router(app);
        let public = if apart.adapter { doors } else { doors.merge(adapter.clone()) };
        Doors { public, operations, adapter, edge }
    }
}

fn metrics(
    app: &App,
    walk: Arc<LastWalk>,
    (inbox, deliveries): (Arc<InboxGauge>, Arc<DeliveryGauge>),
) -> Metrics {
    let (failed, oldest, clock) = (inbox.clone(), inbox.clone(), app.clock.clone());
    let (ledger, verified) = (app.ledger.clone(), walk.clone());
    let (waiting, retried) = (app.store.clone(), app.store.clone());
    let (queue, done) = (app.hasher.clone(), app.hasher.clone());
    let metrics = Metrics::new(&[&all_routes(&app.settings)]);
    of_deliveries(metrics, &deliveries, &app.clock)
        .with_gauge("tollgate_store_waiting", "Closures that wait for the database", move || {
            waiting.waiting() as f64
        })
        .with_counter("tollgate_store_retried_total", "Transactions run again after a collision", move || {
            retried.retried() as f64
        })
        .with_gauge("tollgate_passwords_waiting", "Passwords that wait to be hashed", move || {
            queue.waiting() as f64
        })
        .with_counter("tollgate_passwords_total", "Passwords hashed", move || done.done() as f64)
        .with_gauge("tollgate_credits_waiting", "Requests that wait for the ledger", move || {
            ledger.waiting() as f64
        })
        .with_gauge(
            "tollgate_credits_problems",
            "Problems that the ledger's last verification found",
            move || walk.problems() as f64,
        )
        .with_gauge(
            "tollgate_credits_verified_timestamp",
            "When the ledger was verified last, in seconds since 1970; 0: not yet",
            move || verified.at_seconds() as f64,
        )
        .with_gauge("tollgate_billing_pending", "Stripe's events that wait to be worked off", move || {
            inbox.pending() as f64
        })
        .with_gauge("tollgate_billing_failed", "Stripe's events that were given up", move || {
            failed.failed() as f64
        })
        .with_gauge(
            "tollgate_billing_oldest_pending_seconds",
            "How long the oldest of Stripe's events has waited; 0: none waits",
            move || oldest.oldest_seconds(clock.now()) as f64,
        )
}

fn of_deliveries(metrics: Metrics, deliveries: &Arc<DeliveryGauge>, clock: &Arc<dyn Clock>) -> Metrics {
    let of = |read: fn(&hooks::Load) -> i64| {
        let deliveries = deliveries.clone();
        move || read(&deliveries.load()) as f64
    };
    let (overdue, clock) = (deliveries.clone(), clock.clone());
    metrics
        .with_gauge(
            "tollgate_hooks_waiting",
            "Deliveries of outgoing events that were not made yet",
            of(|load| load.waiting),
        )
        .with_gauge(
            "tollgate_hooks_overdue_seconds",
            "For how long the delivery waits that has been due longest; 0: none is due",
            move || overdue.overdue_seconds(clock.now()) as f64,
        )
        .with_gauge(
            "tollgate_hooks_failed",
            "Deliveries in the log that were given up",
            of(|load| load.failed),
        )
        .with_gauge(
            "tollgate_hooks_endpoints_failing",
            "Endpoints that take nothing at the moment",
            of(|load| load.failing),
        )
        .with_gauge("tollgate_hooks_endpoints_off", "Endpoints that are switched off", of(|load| load.off))
}

/// The OpenAPI document of a deployment.
pub fn document(settings: &Settings) -> String {
    let prefix = if settings.cookies.secure { "__Secure-" } else { "" };
    let names = CookieNames {
        session: format!("{prefix}{}.session_token", settings.cookies.prefix),
        guest: format!("{prefix}tollgate.guest"),
    };
    openapi::document(&settings.base_url, &names, &[&all_routes(settings)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const BILLING: &str = include_str!("../../../docs/reference/billing.md");
    const PAGES: &str = include_str!("../../../docs/reference/pages.md");

    #[test]
    fn the_reference_of_auth_js_names_every_path_of_the_adapter() {
        let reference = include_str!("../../../docs/reference/authjs.md");
        for route in adapter::ROUTES {
            let below = route.path.strip_prefix("/api/internal/auth").expect("the door's paths begin alike");
            let spelled = format!("| `{}` | `{} {below}` |", route.summary, route.method);
            assert!(reference.contains(&spelled), "docs/reference/authjs.md lacks {spelled}");
        }
    }

    #[test]
    fn the_reference_of_the_pages_names_each() {
        for route in pages::ROUTES {
            let spelled = format!("`{} {}`", route.method, route.path);
            assert!(PAGES.contains(&spelled), "docs/reference/pages.md lacks {spelled}");
        }
    }

    #[test]
    fn the_reference_of_billing_names_every_path_and_every_event() {
        let doors = [auth::route_docs(), billing::route_docs()].concat();
        let of_auth = |route: &RouteDoc| route.path.starts_with("/api/auth/");
        let told = |route: &&RouteDoc| !of_auth(route) || route.path.starts_with("/api/auth/billing/");
        for route in doors.iter().filter(told) {
            let spelled = format!("{} {}`", route.method, route.path);
            assert!(BILLING.contains(&spelled), "docs/reference/billing.md lacks `{spelled}");
        }
        for kind in ::billing::subject::KINDS {
            assert!(BILLING.contains(&format!("`{kind}`")), "docs/reference/billing.md lacks {kind}");
        }
    }
}
