//! `/token` and `/jwks`: a signed statement about who is signed in, and the keys to check it with. `get-session` hands the
//! same statement out in a header.

use super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::fields::Fields;
use super::json::UserBody;
use crate::settings::Switch;
use serde_json::json;

pub const HEADER: &str = "set-auth-jwt";

pub struct Token;
pub struct KeySet;

/// A signed statement about a user, whose `members` are as they stand in an answer.
pub async fn state(call: &Call, members: &[u8], user: &str) -> Result<String, store::Error> {
    let tokens = &call.app.tokens;
    let signer = tokens.signer(&call.app, call.now).await?;
    tokens.state(&signer, members, user, call.now)
}

impl Endpoint for Token {
    type Input = ();
    const SPEC: Spec = Spec::get(
        "/token",
        Access::SignedIn,
        "A signed token about the user, for services that check it themselves",
    )
    .of(Switch::Jwt);

    fn read(_: &mut Fields) {}

    async fn run(call: Call, (): ()) -> Outcome {
        let user = &call.signed_in()?.user;
        let token = state(&call, &UserBody::from(user).members(), user.id.as_str()).await?;
        Ok(Reply::json(&json!({ "token": token })))
    }
}

impl Endpoint for KeySet {
    type Input = ();
    const SPEC: Spec =
        Spec::get("/jwks", Access::Anyone, "The public keys that tokens are checked with").of(Switch::Jwt);

    fn read(_: &mut Fields) {}

    async fn run(call: Call, (): ()) -> Outcome {
        let signer = call.app.tokens.signer(&call.app, call.now).await?;
        Ok(Reply::json(&signer.key_set()))
    }
}
