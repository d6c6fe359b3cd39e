//! `/api-key/create`: the only answer that shows a key.

use super::shape::Shape;
use super::{
    BAD_PREFIX, NO_ORGANIZATION, NOT_A_MEMBER, OF_ORGANIZATIONS, SERVER_ONLY_PROPERTY, UNAUTHORIZED,
    asks_for_server_only, check_name, config_named, end_of, may_manage, metadata_text,
};
use crate::auth::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use crate::auth::error::Failure;
use crate::auth::fields::Fields;
use crate::settings::Switch;
use identity::api_keys::{self, Holder, NewKey, Quota, RateLimit};
use kernel::{OrganizationId, random};
use serde_json::Value;

const LONGEST_PREFIX: usize = 32;

pub struct CreateKey;

pub struct Input {
    config: Option<String>,
    name: Option<String>,
    expires_in: Option<f64>,
    prefix: Option<String>,
    metadata: Option<Value>,
    organization: Option<String>,
    names_user: bool,
    server_only: bool,
}

impl Endpoint for CreateKey {
    type Input = Input;
    const SPEC: Spec =
        Spec::post("/api-key/create", Access::MaybeSignedIn, "Makes a key for a program and shows it once")
            .of(Switch::ApiKeys);

    fn read(fields: &mut Fields) -> Input {
        fields.need_object();
        let input = Input {
            config: fields.maybe_text("configId"),
            name: fields.maybe_text("name"),
            expires_in: fields.nullable_number("expiresIn", Some(1)).flatten(),
            prefix: fields.maybe_text("prefix"),
            metadata: fields.any("metadata"),
            organization: fields.maybe_text("organizationId"),
            names_user: fields.any("userId").is_some(),
            server_only: asks_for_server_only(fields, Some("remaining")),
        };
        fields.storable(&["name", "organizationId"]);
        let is_plain = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'_' || letter == b'-';
        if input.prefix.as_deref().is_some_and(|prefix| prefix.is_empty() || !prefix.bytes().all(is_plain)) {
            let message =
                "Invalid prefix format, must be alphanumeric and contain only underscores and hyphens.";
            fields.problem("prefix", message);
        }
        input
    }

    async fn run(call: Call, input: Input) -> Outcome {
        if input.server_only {
            return Err(SERVER_ONLY_PROPERTY);
        }
        // Whoever is in a user's place for an hour makes no key that stays, and a key none without its own limits and end.
        let Some(live) = call.in_person().filter(|_| !input.names_user) else {
            return Err(UNAUTHORIZED);
        };
        let holder = match (config_named(input.config.as_deref()), input.organization) {
            (OF_ORGANIZATIONS, None) => return Err(NO_ORGANIZATION),
            (OF_ORGANIZATIONS, Some(_)) if !call.app.settings.methods.has(Switch::Organizations) => {
                return Err(NOT_A_MEMBER);
            }
            (OF_ORGANIZATIONS, Some(id)) => Holder::Organization(OrganizationId::from_text(id)),
            _ => Holder::User(live.user.id.clone()),
        };
        let metadata = input.metadata.as_ref().map(metadata_text).transpose()?.flatten();
        // Zero, as in the original, is no end.
        let seconds = input.expires_in.filter(|seconds| *seconds != 0.0);
        let expires_at = seconds.map(|seconds| end_of(&call, seconds)).transpose()?;
        if input.prefix.as_ref().is_some_and(|prefix| prefix.len() > LONGEST_PREFIX) {
            return Err(BAD_PREFIX);
        }
        // An empty name is none.
        let name = input.name.filter(|name| !name.is_empty());
        name.as_deref().map_or(Ok(()), check_name)?;
        let (max, window) = call.app.settings.api_keys.rate_limit;
        let new = NewKey {
            holder,
            name,
            prefix: input.prefix,
            limit: RateLimit { enabled: max > 0, window: Some(window), max: Some(max) },
            quota: Quota::default(),
            expires_at,
            permissions: None,
            metadata,
        };
        let (app, now) = (call.app.clone(), call.now);
        let user = live.user.id.clone();
        let made = call.app.store.write(move |tx| -> Result<Result<_, Failure>, store::Error> {
            if let Err(failure) = may_manage(tx, &user, &new.holder)? {
                return Ok(Err(failure));
            }
            api_keys::create(tx, &app.vault, &new, now, &mut random::secure()).map(Ok)
        });
        let (key, text) = made.await??;
        Ok(Reply::json(&Shape::of(&key, Some(text.expose()))))
    }
}
