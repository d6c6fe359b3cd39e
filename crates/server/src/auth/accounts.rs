//! The ways a user signs in: list them, remove one.

use super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::error::Code;
use super::fields::Fields;
use super::json::Instant;
use identity::accounts::{self, Account, Unlinked};
use kernel::AccountId;
use serde::Serialize;

pub struct ListAccounts;
pub struct UnlinkAccount;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    id: &'a str,
    provider_id: &'a str,
    account_id: &'a str,
    user_id: &'a str,
    scopes: Vec<&'a str>,
    created_at: Instant,
    updated_at: Instant,
}

impl<'a> From<&'a Account> for Body<'a> {
    fn from(account: &'a Account) -> Self {
        let scopes = account.scope.as_deref().unwrap_or("");
        Body {
            id: account.id.as_str(),
            provider_id: &account.provider_id,
            account_id: &account.account_id,
            user_id: account.user_id.as_str(),
            scopes: scopes.split(',').filter(|scope| !scope.is_empty()).collect(),
            created_at: Instant(account.created_at),
            updated_at: Instant(account.updated_at),
        }
    }
}

impl Endpoint for ListAccounts {
    type Input = ();
    const SPEC: Spec = Spec::get("/list-accounts", Access::SignedIn, "The ways one signs in");

    fn read(_: &mut Fields) {}

    async fn run(call: Call, (): ()) -> Outcome {
        let user = call.signed_in()?.user.id.clone();
        let found = call.app.store.read(move |tx| accounts::list(tx, &user)).await?;
        let list: Vec<Body<'_>> = found.iter().map(Body::from).collect();
        Ok(Reply::json(&list))
    }
}

impl Endpoint for UnlinkAccount {
    type Input = String;
    const SPEC: Spec =
        Spec::post("/unlink-account", Access::Fresh, "Removes one way to sign in, but never the last");

    fn read(fields: &mut Fields) -> String {
        fields.need_object();
        fields.text("accountId")
    }

    async fn run(call: Call, id: String) -> Outcome {
        let user = call.signed_in()?.user.id.clone();
        let unlinked = call
            .app
            .store
            .write(move |tx| accounts::unlink(tx, &user, &AccountId::from_text(id.as_str())))
            .await?;
        match unlinked {
            Unlinked::Done => Ok(Reply::json(&serde_json::json!({ "status": true }))),
            Unlinked::LastAccount => Err(Code::FailedToUnlinkLastAccount.into()),
            Unlinked::NotFound => Err(Code::AccountNotFound.into()),
        }
    }
}
