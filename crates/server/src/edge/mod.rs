//! What stands before every door: connections and their limits, request ids, headers, CORS, log and metrics.
//!
//! [`serve`] takes connections from its own accept loop ([`listen`]), drives each over hyper ([`connection`]), and passes
//! each request through one function ([`passage`]) into the router and back. Doors read bodies with [`body::read`] and
//! take a [`RequestContext`] as an argument.

pub mod body;
mod connection;
mod context;
mod cors;
mod headers;
mod listen;
mod metrics;
mod passage;
mod refusal;
mod shutdown;

#[cfg(test)]
mod tests;

pub use context::{RequestContext, RequestId};
pub use listen::{Drained, serve};
pub use metrics::Metrics;
pub use refusal::Refusal;
pub use shutdown::Shutdown;

use crate::settings::{Limits, Settings};
use kernel::{Clock, TrustedOrigins, TrustedProxies};
use std::sync::Arc;

/// What the edge needs to know; one for all listeners.
pub struct Edge {
    pub(crate) limits: Limits,
    pub(crate) proxies: TrustedProxies,
    pub(crate) origins: TrustedOrigins,
    /// Our own origin, as browsers write it.
    pub(crate) base_origin: String,
    pub(crate) https: bool,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Edge {
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Edge {
        let base = settings.trusted_origins.base();
        Edge {
            limits: settings.limits.clone(),
            proxies: settings.trusted_proxies.clone(),
            origins: settings.trusted_origins.clone(),
            base_origin: base.origin().ascii_serialization(),
            https: base.scheme() == "https",
            clock,
            metrics,
        }
    }
}

/// Who calls decides how errors look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `{"message", "code"}`
    BetterAuth,
    /// `{"error_code", "message", "detail"}`
    Tollgate,
}

impl Dialect {
    pub fn of(path: &str) -> Dialect {
        match path.strip_prefix("/api/auth") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Dialect::BetterAuth,
            _ => Dialect::Tollgate,
        }
    }
}
