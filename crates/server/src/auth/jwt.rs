//! `/token` and `/jwks`: a signed statement about who is signed in, and the keys to check it with. `get-session` hands the
//! same statement out in a header.

use super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::fields::Fields;
use super::json::UserBody;
use crate::settings::Switch;
use identity::UserView;
use serde_json::json;

pub const HEADER: &str = "set-auth-jwt";

pub struct Token;
pub struct KeySet;

/// A user's claims, before they are signed.
pub struct Claims {
    members: Vec<u8>,
    user: String,
}

impl Claims {
    pub fn of(user: UserView<'_>) -> Claims {
        Claims { members: UserBody::from(user).members(), user: user.id.to_owned() }
    }
}

/// Signs the claims.
pub async fn sign(call: &Call, claims: &Claims) -> Result<String, store::Error> {
    let tokens = &call.app.tokens;
    let signer = tokens.signer(&call.app, call.now).await?;
    tokens.sign(&signer, &claims.members, &claims.user, call.now)
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
        let token = sign(&call, &Claims::of(call.signed_in()?.user.view())).await?;
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
