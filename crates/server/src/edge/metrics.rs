//! Counts and times for `/metrics`: fixed tables of atomics, so that counting a request takes no lock and allocates
//! nothing.

use super::Refusal;
use crate::openapi::RouteDoc;
use http::{Method, StatusCode};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper ends in microseconds. Session checks live in the first few, password hashing and mail in the last.
const BUCKETS: [u64; 15] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000,
];
const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What a path that no door knows is called: its text may be anything, a mistyped token included.
pub(crate) const UNMATCHED: &str = "unmatched";

pub struct Metrics {
    routes: Routes,
    counts: Vec<Counts>,
    in_flight: AtomicI64,
    connections: AtomicI64,
    resting: AtomicI64,
    accepted: AtomicU64,
    accept_errors: AtomicU64,
    panics: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    readings: Vec<Reading>,
}

/// Which row of the table a request counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RouteIndex(u16);

/// The paths of all doors; row 0 is for those that none knows.
struct Routes {
    names: Vec<&'static str>,
    literal: HashMap<&'static str, u16>,
    patterns: Vec<u16>,
}

#[derive(Default)]
struct Counts {
    answers: [[AtomicU64; CLASSES.len()]; METHODS.len()],
    /// One more than there are bounds: the last is for everything above.
    times: [AtomicU64; BUCKETS.len() + 1],
    total_micros: AtomicU64,
}

/// A value that somebody else keeps and that is read when `/metrics` is asked for.
struct Reading {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    read: Box<dyn Fn() -> f64 + Send + Sync>,
}

impl Metrics {
    pub fn new(doors: &[&[RouteDoc]]) -> Metrics {
        let routes = Routes::new(doors);
        let counts = routes.names.iter().map(|_| Counts::default()).collect();
        Metrics {
            routes,
            counts,
            in_flight: AtomicI64::new(0),
            connections: AtomicI64::new(0),
            resting: AtomicI64::new(0),
            accepted: AtomicU64::new(0),
            accept_errors: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            refused: Default::default(),
            readings: Vec::new(),
        }
    }

    /// A value that goes up and down, such as the length of a queue: `tollgate_store_waiting`.
    pub fn with_gauge(
        self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Metrics {
        self.with(name, help, "gauge", read)
    }

    /// A count that only grows: `tollgate_store_retried_total`.
    pub fn with_counter(
        self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Metrics {
        self.with(name, help, "counter", read)
    }

    fn with(
        mut self,
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Metrics {
        self.readings.push(Reading { name, help, kind, read: Box::new(read) });
        self
    }

    pub(crate) fn route(&self, path: &str) -> RouteIndex {
        RouteIndex(self.routes.find(path))
    }

    pub(crate) fn name(&self, route: RouteIndex) -> &'static str {
        self.routes.names[usize::from(route.0)]
    }

    pub(crate) fn answered(&self, route: RouteIndex, method: &Method, status: StatusCode, took: Duration) {
        let counts = &self.counts[usize::from(route.0)];
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        counts.answers[method_index(method)][class].fetch_add(1, Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        counts.times[BUCKETS.partition_point(|&bound| bound < micros)].fetch_add(1, Relaxed);
        counts.total_micros.fetch_add(micros, Relaxed);
    }

    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refused[refusal as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    pub(crate) fn accept_failed(&self) {
        self.accept_errors.fetch_add(1, Relaxed);
    }

    pub(crate) fn request_begun(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    pub(crate) fn request_ended(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    pub(crate) fn connection_opened(&self) {
        self.accepted.fetch_add(1, Relaxed);
        self.connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    pub(crate) fn rest_begun(&self) {
        self.resting.fetch_add(1, Relaxed);
    }

    pub(crate) fn rest_ended(&self) {
        self.resting.fetch_sub(1, Relaxed);
    }

    /// The text format 0.0.4 of Prometheus.
    pub fn render(&self) -> String {
        let mut page = Page(String::with_capacity(16 * 1024));
        self.render_requests(&mut page);
        self.render_times(&mut page);
        let in_flight = self.in_flight.load(Relaxed) as f64;
        let open = self.connections.load(Relaxed) as f64;
        page.value("tollgate_http_requests_in_flight", "Requests being answered", "gauge", in_flight);
        let resting = self.resting.load(Relaxed) as f64;
        page.value("tollgate_http_connections", "Open connections", "gauge", open);
        page.value("tollgate_http_connections_resting", "Those that hold no buffers", "gauge", resting);
        let counters = [
            ("tollgate_http_connections_total", "Connections taken in", &self.accepted),
            (
                "tollgate_http_accept_errors_total",
                "Connections that could not be taken in",
                &self.accept_errors,
            ),
            ("tollgate_http_panics_total", "Handlers that panicked", &self.panics),
        ];
        for (name, help, value) in counters {
            page.value(name, help, "counter", value.load(Relaxed) as f64);
        }
        page.head("tollgate_http_refused_total", "Requests refused before a handler judged them", "counter");
        for refusal in Refusal::ALL {
            let count = self.refused[refusal as usize].load(Relaxed);
            page.line("tollgate_http_refused_total", &[("reason", refusal.label())], count as f64);
        }
        for reading in &self.readings {
            page.value(reading.name, reading.help, reading.kind, (reading.read)());
        }
        page.0
    }

    fn render_requests(&self, page: &mut Page) {
        const NAME: &str = "tollgate_http_requests_total";
        page.head(NAME, "Requests answered", "counter");
        for (counts, route) in self.counts.iter().zip(&self.routes.names) {
            for (classes, method) in counts.answers.iter().zip(METHODS) {
                for (count, class) in classes.iter().zip(CLASSES) {
                    let count = count.load(Relaxed);
                    if count > 0 {
                        let labels = [("route", *route), ("method", method), ("status", class)];
                        page.line(NAME, &labels, count as f64);
                    }
                }
            }
        }
    }

    fn render_times(&self, page: &mut Page) {
        const NAME: &str = "tollgate_http_request_seconds";
        page.head(NAME, "Time from a request's head to its answer's head", "histogram");
        for (counts, route) in self.counts.iter().zip(&self.routes.names) {
            let times: Vec<u64> = counts.times.iter().map(|time| time.load(Relaxed)).collect();
            let total: u64 = times.iter().sum();
            if total == 0 {
                continue;
            }
            let mut below = 0;
            for (count, bound) in times.iter().zip(BUCKETS) {
                below += count;
                let bound = (bound as f64 / 1e6).to_string();
                page.line(&format!("{NAME}_bucket"), &[("route", route), ("le", &bound)], below as f64);
            }
            page.line(&format!("{NAME}_bucket"), &[("route", route), ("le", "+Inf")], total as f64);
            let seconds = counts.total_micros.load(Relaxed) as f64 / 1e6;
            page.line(&format!("{NAME}_sum"), &[("route", route)], seconds);
            page.line(&format!("{NAME}_count"), &[("route", route)], total as f64);
        }
    }
}

impl Routes {
    fn new(doors: &[&[RouteDoc]]) -> Routes {
        let mut routes = Routes { names: vec![UNMATCHED], literal: HashMap::new(), patterns: Vec::new() };
        for path in doors.iter().copied().flatten().map(|route| route.path) {
            if routes.names.contains(&path) {
                continue;
            }
            // Some hundred routes are known when the program is built.
            let Ok(index) = u16::try_from(routes.names.len()) else { break };
            routes.names.push(path);
            if path.contains('{') {
                routes.patterns.push(index);
            } else {
                routes.literal.insert(path, index);
            }
        }
        routes
    }

    fn find(&self, path: &str) -> u16 {
        if let Some(&index) = self.literal.get(path) {
            return index;
        }
        let fits = |index: &&u16| path_matches(self.names[usize::from(**index)], path);
        self.patterns.iter().find(fits).copied().unwrap_or(0)
    }
}

/// `{name}` stands for one segment that is not empty, `{*name}` for the rest.
fn path_matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut segments) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if pattern.starts_with("{*") => return !segment.is_empty(),
            (Some(pattern), Some(segment)) if pattern.starts_with('{') && !segment.is_empty() => {}
            (Some(pattern), Some(segment)) if pattern == segment => {}
            _ => return false,
        }
    }
}

fn method_index(method: &Method) -> usize {
    let name = method.as_str();
    METHODS.iter().position(|known| *known == name).unwrap_or(METHODS.len() - 1)
}

/// The page as it grows. Label values are our own constants, so nothing needs escaping.
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, help: &str, kind: &str, value: f64) {
        self.head(name, help, kind);
        self.line(name, &[], value);
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            let before = if place == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{text}\"");
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{after} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &[RouteDoc] = &[
        RouteDoc::get("/api/auth/get-session", ""),
        RouteDoc::post("/api/auth/get-session", ""),
        RouteDoc::get("/api/auth/reset-password/{token}", ""),
        RouteDoc::get("/files/{*rest}", ""),
    ];

    #[test]
    fn a_request_counts_under_its_template_and_never_under_its_own_text() {
        let metrics = Metrics::new(&[ROUTES]);
        let name = |path: &str| metrics.name(metrics.route(path));
        assert_eq!(name("/api/auth/get-session"), "/api/auth/get-session");
        assert_eq!(name("/api/auth/reset-password/secret"), "/api/auth/reset-password/{token}");
        assert_eq!(name("/files/a/b/c"), "/files/{*rest}");
        let unknown = ["//api/auth/reset-password/secret", "/api/auth/reset-password/", "/files/", "/", ""];
        for path in unknown {
            assert_eq!(name(path), UNMATCHED, "{path}");
        }
    }

    #[test]
    fn the_page_shows_counts_cumulative_times_and_readings() {
        let metrics = Metrics::new(&[ROUTES]).with_gauge("tollgate_mails_waiting", "Mails waiting", || 3.0);
        let route = metrics.route("/api/auth/get-session");
        metrics.answered(route, &Method::GET, StatusCode::OK, Duration::from_micros(100));
        metrics.answered(route, &Method::GET, StatusCode::OK, Duration::from_micros(101));
        metrics.answered(route, &Method::POST, StatusCode::UNAUTHORIZED, Duration::from_secs(60));
        metrics.refused(Refusal::UrlTooLong);
        let page = metrics.render();
        let lines = [
            r#"tollgate_http_requests_total{route="/api/auth/get-session",method="GET",status="2xx"} 2"#,
            r#"tollgate_http_requests_total{route="/api/auth/get-session",method="POST",status="4xx"} 1"#,
            r#"tollgate_http_request_seconds_bucket{route="/api/auth/get-session",le="0.0001"} 1"#,
            r#"tollgate_http_request_seconds_bucket{route="/api/auth/get-session",le="0.00025"} 2"#,
            r#"tollgate_http_request_seconds_bucket{route="/api/auth/get-session",le="10"} 2"#,
            r#"tollgate_http_request_seconds_bucket{route="/api/auth/get-session",le="+Inf"} 3"#,
            r#"tollgate_http_request_seconds_count{route="/api/auth/get-session"} 3"#,
            r#"tollgate_http_refused_total{reason="url_too_long"} 1"#,
            "tollgate_mails_waiting 3",
        ];
        for line in lines {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        assert!(!page.contains("POST\",status=\"2xx"));
    }

    #[test]
    fn every_refusal_has_its_own_place() {
        let places: Vec<usize> = Refusal::ALL.iter().map(|refusal| *refusal as usize).collect();
        assert_eq!(places, (0..Refusal::ALL.len()).collect::<Vec<_>>());
    }
}
