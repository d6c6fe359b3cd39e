//! A key as clients see it: all columns of the original, null where empty, and the key itself only when it was just made.

use super::config_of;
use crate::auth::json::Instant;
use identity::api_keys::ApiKey;
use serde::Serialize;
use serde_json::Value;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shape<'a> {
    config_id: &'static str,
    name: Option<&'a str>,
    start: &'a str,
    reference_id: &'a str,
    prefix: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    refill_interval: Option<i64>,
    refill_amount: Option<i64>,
    last_refill_at: Option<Instant>,
    enabled: bool,
    rate_limit_enabled: bool,
    rate_limit_time_window: Option<i64>,
    rate_limit_max: Option<i64>,
    request_count: i64,
    remaining: Option<i64>,
    last_request: Option<Instant>,
    expires_at: Option<Instant>,
    created_at: Instant,
    updated_at: Instant,
    permissions: Option<Value>,
    metadata: Option<Value>,
    id: &'a str,
}

impl<'a> Shape<'a> {
    /// With its clear text, just after it was made.
    pub fn of(key: &'a ApiKey, text: Option<&'a str>) -> Shape<'a> {
        Shape {
            config_id: config_of(key),
            name: key.name.as_deref(),
            start: &key.start,
            reference_id: key.holder.id(),
            prefix: key.prefix.as_deref(),
            key: text,
            refill_interval: key.quota.refill_interval,
            refill_amount: key.quota.refill_amount,
            last_refill_at: key.last_refill_at.map(Instant),
            enabled: key.enabled,
            rate_limit_enabled: key.limit.enabled,
            rate_limit_time_window: key.limit.window,
            rate_limit_max: key.limit.max,
            request_count: key.request_count,
            remaining: key.quota.remaining,
            last_request: key.last_request_at.map(Instant),
            expires_at: key.expires_at.map(Instant),
            created_at: Instant(key.created_at),
            updated_at: Instant(key.updated_at),
            permissions: json(&key.permissions),
            metadata: json(&key.metadata),
            id: &key.id,
        }
    }
}

/// Stored as it was written by us; what is no JSON is shown as nothing.
fn json(text: &Option<String>) -> Option<Value> {
    text.as_deref().and_then(|text| serde_json::from_str(text).ok())
}
