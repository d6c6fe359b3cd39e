//! What the doors for an app's backend have in common: the service key, strict JSON, strict queries, one form of errors.

pub(crate) mod body;
pub(crate) mod failure;
pub(crate) mod json;
pub(crate) mod moment;
pub(crate) mod query;

pub(crate) use failure::Failure;

use crate::app::App;
use crate::edge::RequestContext;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use identity::service_keys::{self, Scope, Shown};
use kernel::Millis;
use std::sync::Arc;

/// Whose key was shown.
pub(crate) struct Caller {
    pub key_id: String,
}

impl Caller {
    /// As it stands on entries.
    pub fn actor(&self) -> String {
        format!("key:{}", self.key_id)
    }
}

/// The guard of every server door. The key is looked up each time, so a revoked one is refused at once on every node.
pub(crate) async fn admit(
    app: &Arc<App>,
    headers: &HeaderMap,
    scope: Scope,
    context: &RequestContext,
) -> Result<Caller, Failure> {
    let text = shown(headers).ok_or(Failure::InvalidServiceKey)?.to_owned();
    let looking = app.clone();
    let found = app.store.read(move |tx| service_keys::find(tx, &looking.vault, &text)).await;
    let key: Shown = found.map_err(Failure::Store)?.ok_or(Failure::InvalidServiceKey)?;
    if key.is_news(context.now) {
        note_use(app, key.id.clone(), context.now);
    }
    if !key.scopes.allow(scope) {
        return Err(Failure::LacksScope(scope));
    }
    Ok(Caller { key_id: key.id })
}

fn shown(headers: &HeaderMap) -> Option<&str> {
    let (scheme, text) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let text = text.trim();
    (scheme.eq_ignore_ascii_case("bearer") && service_keys::looks_like_one(text)).then_some(text)
}

/// Beside the answer: whoever calls neither waits for it nor hears of its failure.
fn note_use(app: &Arc<App>, id: String, now: Millis) {
    let store = app.store.clone();
    tokio::spawn(async move {
        let noted = store.write(move |tx| service_keys::note_use(tx, &id, now)).await;
        if let Err(error) = noted {
            let error: store::Error = error;
            tracing::warn!(%error, "the use of a service key was not noted");
        }
    });
}
