//! `/api-key/update` and `/api-key/delete`.

use super::shape::Shape;
use super::{
    NOTHING_TO_UPDATE, SERVER_ONLY_PROPERTY, UNAUTHORIZED, asks_for_server_only, check_name, end_of, find,
    metadata_text,
};
use crate::auth::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use crate::auth::error::Failure;
use crate::auth::fields::Fields;
use crate::settings::Switch;
use identity::api_keys::{self, ApiKey, Changes};
use serde_json::{Value, json};

pub struct UpdateKey;
pub struct DeleteKey;

pub struct Update {
    config: Option<String>,
    id: String,
    user: Option<Value>,
    name: Option<String>,
    enabled: Option<bool>,
    expires_in: Option<Option<f64>>,
    metadata: Option<Value>,
    server_only: bool,
}

impl Endpoint for UpdateKey {
    type Input = Update;
    const SPEC: Spec =
        Spec::post("/api-key/update", Access::MaybeSignedIn, "Renames, disables or extends a key")
            .of(Switch::ApiKeys);

    fn read(fields: &mut Fields) -> Update {
        fields.need_object();
        let input = Update {
            config: fields.maybe_text("configId"),
            id: fields.text("keyId"),
            user: fields.any("userId"),
            name: fields.maybe_text("name"),
            enabled: fields.maybe_flag("enabled"),
            expires_in: fields.nullable_number("expiresIn", Some(1)),
            metadata: fields.any("metadata"),
            server_only: asks_for_server_only(fields, None),
        };
        fields.storable(&["keyId", "name"]);
        input
    }

    async fn run(call: Call, input: Update) -> Outcome {
        // No key gives itself, or another one, more time.
        let Some(user) = call.in_person().map(|live| live.user.id.clone()) else {
            return Err(UNAUTHORIZED);
        };
        if input.user.is_some_and(|named| named.as_str() != Some(user.as_str())) {
            return Err(UNAUTHORIZED);
        }
        if input.server_only {
            return Err(SERVER_ONLY_PROPERTY);
        }
        // Whose key it is comes first, so what is wrong with the changes waits.
        let changes = changes(&call, input.name, input.enabled, input.expires_in, input.metadata);
        let (id, config, now) = (input.id, input.config, call.now);
        let changed = call.app.store.write(move |tx| -> Result<Result<ApiKey, Failure>, store::Error> {
            api_keys::hold(tx, &id)?;
            let key = match find(tx, &user, &id, config.as_deref())? {
                Ok(key) => key,
                Err(failure) => return Ok(Err(failure)),
            };
            match changes.clone() {
                Ok(changes) => api_keys::change(tx, key, changes, now).map(Ok),
                Err(failure) => Ok(Err(failure)),
            }
        });
        let key = changed.await??;
        Ok(Reply::json(&Shape::of(&key, None)))
    }
}

fn changes(
    call: &Call,
    name: Option<String>,
    enabled: Option<bool>,
    expires_in: Option<Option<f64>>,
    metadata: Option<Value>,
) -> Result<Changes, Failure> {
    name.as_deref().map_or(Ok(()), check_name)?;
    let expires_at = match expires_in {
        Some(Some(seconds)) => Some(Some(end_of(call, seconds)?)),
        Some(None) => Some(None),
        None => None,
    };
    let metadata = metadata.as_ref().map(metadata_text).transpose()?;
    let changes = Changes { name, enabled, expires_at, metadata, ..Changes::default() };
    if changes == Changes::default() {
        return Err(NOTHING_TO_UPDATE);
    }
    Ok(changes)
}

impl Endpoint for DeleteKey {
    type Input = (Option<String>, String);
    const SPEC: Spec =
        Spec::post("/api-key/delete", Access::SignedIn, "Ends a key for good").of(Switch::ApiKeys);

    fn read(fields: &mut Fields) -> Self::Input {
        fields.need_object();
        let input = (fields.maybe_text("configId"), fields.text("keyId"));
        fields.storable(&["keyId"]);
        input
    }

    async fn run(call: Call, (config, id): Self::Input) -> Outcome {
        let user = call.signed_in()?.user.id.clone();
        let deleted = call.app.store.write(move |tx| -> Result<Result<bool, Failure>, store::Error> {
            match find(tx, &user, &id, config.as_deref())? {
                Ok(key) => api_keys::delete(tx, &key.id).map(Ok),
                Err(failure) => Ok(Err(failure)),
            }
        });
        // Of two at once the second finds that what it wants is done.
        deleted.await??;
        Ok(Reply::json(&json!({ "success": true })))
    }
}
