//! `/api-key/list` and `/api-key/get`.

use super::shape::Shape;
use super::{config_of, find, may_manage};
use crate::auth::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use crate::auth::error::Failure;
use crate::auth::fields::Fields;
use crate::settings::Switch;
use identity::api_keys::{self, ApiKey, Holder};
use kernel::OrganizationId;
use serde::Serialize;
use std::cmp::Ordering;

pub struct ListKeys;
pub struct GetKey;

pub struct Wanted {
    config: Option<String>,
    organization: Option<String>,
    limit: Option<usize>,
    offset: Option<usize>,
    sort_by: Option<String>,
    descending: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    api_keys: Vec<Shape<'a>>,
    total: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<usize>,
}

impl Endpoint for ListKeys {
    type Input = Wanted;
    const SPEC: Spec = Spec::get("/api-key/list", Access::SignedIn, "The keys of a user or an organization")
        .of(Switch::ApiKeys);

    fn read(fields: &mut Fields) -> Wanted {
        Wanted {
            config: fields.maybe_query("configId"),
            organization: fields.maybe_query("organizationId").filter(|id| !id.is_empty()),
            limit: fields.maybe_query_count("limit"),
            offset: fields.maybe_query_count("offset"),
            sort_by: fields.maybe_query("sortBy"),
            descending: fields.maybe_query_of("sortDirection", &["asc", "desc"]).as_deref() == Some("desc"),
        }
    }

    async fn run(call: Call, wanted: Wanted) -> Outcome {
        let user = call.signed_in()?.user.id.clone();
        let holder = match wanted.organization {
            Some(id) => Holder::Organization(OrganizationId::from_text(id.replace('\0', "?"))),
            None => Holder::User(user.clone()),
        };
        let found = call.app.store.read(move |tx| -> Result<Result<Vec<ApiKey>, Failure>, store::Error> {
            match may_manage(tx, &user, &holder)? {
                Ok(()) => api_keys::list(tx, &holder).map(Ok),
                Err(failure) => Ok(Err(failure)),
            }
        });
        let mut keys = found.await??;
        if let Some(config) = wanted.config.filter(|config| !config.is_empty()) {
            keys.retain(|key| config_of(key) == config);
        }
        if let Some(name) = &wanted.sort_by {
            sort(&mut keys, name, wanted.descending);
        }
        let total = keys.len();
        let page = keys.iter().skip(wanted.offset.unwrap_or(0)).take(wanted.limit.unwrap_or(usize::MAX));
        let api_keys = page.map(|key| Shape::of(key, None)).collect();
        Ok(Reply::json(&Body { api_keys, total, limit: wanted.limit, offset: wanted.offset }))
    }
}

/// By one of the columns that people look at; another name leaves the order as it is.
fn sort(keys: &mut [ApiKey], name: &str, descending: bool) {
    let compare = |one: &ApiKey, other: &ApiKey| -> Ordering {
        match name {
            "createdAt" => one.created_at.cmp(&other.created_at),
            "updatedAt" => one.updated_at.cmp(&other.updated_at),
            "expiresAt" => one.expires_at.cmp(&other.expires_at),
            "lastRequest" => one.last_request_at.cmp(&other.last_request_at),
            "name" => one.name.cmp(&other.name),
            "start" => one.start.cmp(&other.start),
            "enabled" => one.enabled.cmp(&other.enabled),
            "requestCount" => one.request_count.cmp(&other.request_count),
            "remaining" => one.quota.remaining.cmp(&other.quota.remaining),
            "id" => one.id.cmp(&other.id),
            _ => Ordering::Equal,
        }
    };
    keys.sort_by(|one, other| if descending { compare(other, one) } else { compare(one, other) });
}

impl Endpoint for GetKey {
    type Input = (Option<String>, String);
    const SPEC: Spec =
        Spec::get("/api-key/get", Access::SignedIn, "One key, without its text").of(Switch::ApiKeys);

    fn read(fields: &mut Fields) -> Self::Input {
        (fields.maybe_query("configId"), fields.query("id"))
    }

    async fn run(call: Call, (config, id): Self::Input) -> Outcome {
        let user = call.signed_in()?.user.id.clone();
        // No id of ours has a null character, which PostgreSQL would not even look for.
        let id = id.replace('\0', "?");
        let found = call.app.store.read(move |tx| find(tx, &user, &id, config.as_deref()));
        let key = found.await??;
        Ok(Reply::json(&Shape::of(&key, None)))
    }
}
