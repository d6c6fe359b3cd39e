//! What a provider handed out, for the app of the user whom it belongs to: the access token while it works, a new one,
//! and what the provider says about the person now.

use super::super::endpoint::{Access, Call, Endpoint, Outcome, Reply, SignedOut, Spec};
use super::super::error::{Code, Failure};
use super::super::fields::Fields;
use super::super::json::Instant;
use super::{NO_USER_INFO, note, out_of_reach};
use http::StatusCode;
use identity::accounts::{Account, CREDENTIAL};
use identity::providers::{Kept, TokenAccount, tokens};
use kernel::time::SECOND;
use kernel::{AccountId, Secret, random};
use oidc::{Provider, Tokens};
use serde::Serialize;
use serde_json::{Map, Value};

pub struct GetAccessToken;
pub struct RefreshToken;
pub struct AccountInfo;

/// A token that ends sooner is traded for a new one first.
const MARGIN: i64 = 5 * SECOND;

const fn refused(code: &'static str, message: &'static str) -> Failure {
    Failure::Coded { status: StatusCode::BAD_REQUEST, code, message }
}

/// The provider of an account; a password has none, and one that was configured once may be so no more.
fn provider_of<'a>(call: &'a Call, account: &Account) -> Result<&'a Provider, Failure> {
    let message = match account.provider_id.as_str() {
        CREDENTIAL => "Provider credential is not supported.",
        _ => "The account's provider is not configured here any more.",
    };
    call.app.providers.get(&account.provider_id).ok_or(refused("PROVIDER_NOT_SUPPORTED", message))
}

/// Which account is meant: by its id, or by a cookie that is never set here.
pub struct Selection(Option<AccountId>);

impl Selection {
    fn read(fields: &mut Fields) -> Selection {
        let (id, by_cookie) = (fields.any("accountId"), fields.any("useAccountCookie"));
        let user = fields.any("userId");
        let good = match (&id, &by_cookie) {
            (Some(Value::String(_)), None) => true,
            (None, Some(Value::Bool(flag))) => *flag,
            _ => false,
        };
        let more = fields.has_more_than(&["accountId", "useAccountCookie", "userId"]);
        if !good || more || user.is_some_and(|user| !user.is_string()) {
            fields.whole_problem("body", "Invalid input");
        }
        Selection(id.and_then(|id| id.as_str().map(AccountId::from_text)))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccessBody<'a> {
    access_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token_expires_at: Option<Instant>,
    scopes: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RefreshBody<'a> {
    access_token: &'a str,
    refresh_token: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token_expires_at: Option<Instant>,
    refresh_token_expires_at: Option<Instant>,
    scope: &'a str,
    id_token: Option<&'a str>,
    provider_id: &'a str,
    account_id: &'a str,
}

#[derive(Serialize)]
struct InfoBody<'a> {
    user: Person<'a>,
    data: &'a Map<String, Value>,
    account: AccountBody<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Person<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a str>,
    email_verified: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountBody<'a> {
    id: &'a str,
    provider_id: &'a str,
    account_id: &'a str,
}

fn clear(token: &Option<Secret<String>>) -> Option<&str> {
    token.as_ref().map(|token| token.expose().as_str())
}

/// An account of the caller; somebody else's is not found.
async fn account(call: &Call, selection: Selection) -> Result<TokenAccount, Failure> {
    // No id has a null character, and PostgreSQL takes none.
    let id = selection.0.filter(|id| !id.as_str().contains('\0')).ok_or(Code::AccountNotFound)?;
    find(call, id).await
}

async fn find(call: &Call, id: AccountId) -> Result<TokenAccount, Failure> {
    let (app, user) = (call.app.clone(), call.signed_in()?.user.id.clone());
    let found = call.app.store.read(move |tx| tokens::find(tx, &app.vault, &user, &id)).await?;
    Ok(found.ok_or(Code::AccountNotFound)?)
}

/// Trades the refresh token for a new access token. Of several who want to at once one does, and the others get what it
/// got: many a provider takes a refresh token once.
async fn trade(
    call: &Call,
    provider: &Provider,
    before: TokenAccount,
    failed: Failure,
) -> Result<TokenAccount, Failure> {
    let _turn = call.app.providers.turn(before.account.id.as_str()).await;
    let id = before.account.id.clone();
    let current = find(call, id.clone()).await?;
    let traded = |current: &TokenAccount| {
        current.was_traded_since(&before) || current.tokens.access_ends != before.tokens.access_ends
    };
    if traded(&current) {
        return Ok(current);
    }
    let Some(refresh) = &current.tokens.refresh else { return Err(failed) };
    let answered = match provider.refresh(refresh, call.now).await {
        Ok(answered) => answered,
        Err(trouble) => {
            note(provider, &trouble);
            // Another node may have been first.
            let current = find(call, id).await?;
            return if traded(&current) { Ok(current) } else { Err(failed) };
        }
    };
    let (app, now, kept) = (call.app.clone(), call.app.clock.now(), kept(answered));
    let keep = move |tx: &mut store::Tx<'_>| {
        tokens::keep_refreshed(tx, &app.vault, &current, &kept, now, &mut random::secure())
    };
    call.app.store.write(keep).await?;
    find(call, id).await
}

fn kept(tokens: Tokens) -> Kept {
    Kept {
        access: tokens.access,
        refresh: tokens.refresh,
        id: tokens.id,
        access_ends: tokens.access_ends,
        refresh_ends: tokens.refresh_ends,
    }
}

/// The account with an access token that works, as far as one can be had.
async fn usable(call: &Call, provider: &Provider, found: TokenAccount) -> Result<TokenAccount, Failure> {
    let ends_soon = found.tokens.access_ends.is_some_and(|end| end.minus(MARGIN) < call.now);
    if !ends_soon || found.tokens.refresh.is_none() {
        return Ok(found);
    }
    let failed = refused("FAILED_TO_GET_ACCESS_TOKEN", "Failed to get a valid access token");
    trade(call, provider, found, failed).await
}

fn scopes(found: &TokenAccount) -> Vec<&str> {
    found.account.scope.as_deref().unwrap_or("").split(',').filter(|scope| !scope.is_empty()).collect()
}

impl Endpoint for GetAccessToken {
    type Input = Selection;
    const SPEC: Spec =
        Spec::post("/get-access-token", Access::SignedIn, "An access token at the provider that works now")
            .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> Selection {
        Selection::read(fields)
    }

    async fn run(call: Call, selection: Selection) -> Outcome {
        let found = account(&call, selection).await?;
        let provider = provider_of(&call, &found.account)?;
        let found = usable(&call, provider, found).await?;
        Ok(Reply::json(&AccessBody {
            access_token: clear(&found.tokens.access).unwrap_or(""),
            access_token_expires_at: found.tokens.access_ends.map(Instant),
            scopes: scopes(&found),
            id_token: clear(&found.tokens.id),
        }))
    }
}

impl Endpoint for RefreshToken {
    type Input = Selection;
    const SPEC: Spec = Spec::post(
        "/refresh-token",
        Access::SignedIn,
        "Trades the refresh token at the provider for new tokens",
    )
    .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> Selection {
        Selection::read(fields)
    }

    async fn run(call: Call, selection: Selection) -> Outcome {
        let found = account(&call, selection).await?;
        let provider = provider_of(&call, &found.account)?;
        if found.tokens.refresh.is_none() {
            return Err(refused("REFRESH_TOKEN_NOT_FOUND", "Refresh token not found"));
        }
        let failed = refused("FAILED_TO_REFRESH_ACCESS_TOKEN", "Failed to refresh access token");
        let found = trade(&call, provider, found, failed).await?;
        Ok(Reply::json(&RefreshBody {
            access_token: clear(&found.tokens.access).unwrap_or(""),
            refresh_token: clear(&found.tokens.refresh).unwrap_or(""),
            access_token_expires_at: found.tokens.access_ends.map(Instant),
            refresh_token_expires_at: found.tokens.refresh_ends.map(Instant),
            scope: found.account.scope.as_deref().unwrap_or(""),
            id_token: clear(&found.tokens.id),
            provider_id: &found.account.provider_id,
            account_id: found.account.id.as_str(),
        }))
    }
}

impl Endpoint for AccountInfo {
    type Input = Selection;
    const SPEC: Spec =
        Spec::get("/account-info", Access::SignedIn, "What the provider says about the person now")
            .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> Selection {
        let id = fields.maybe_query("accountId");
        if id.is_none() {
            fields.whole_problem("query", "Invalid input");
        }
        Selection(id.map(AccountId::from_text))
    }

    async fn run(call: Call, selection: Selection) -> Outcome {
        let found = account(&call, selection).await?;
        let not_configured = refused(
            "PROVIDER_NOT_CONFIGURED",
            "Account is not associated with a configured social provider.",
        );
        let provider = call.app.providers.get(&found.account.provider_id).ok_or(not_configured)?;
        let found = usable(&call, provider, found).await?;
        if found.tokens.access.is_none() {
            return Err(refused("ACCESS_TOKEN_NOT_FOUND", "Access token not found"));
        }
        let (account, subject) = (&found.account, found.account.account_id.as_str());
        let held =
            Tokens { access: found.tokens.access.clone(), id: found.tokens.id.clone(), ..Tokens::default() };
        let profile = match provider.current_profile(&held, subject, call.now).await {
            Ok(profile) => profile.ok_or(NO_USER_INFO)?,
            Err(trouble @ oidc::Trouble::Refused { .. }) => {
                note(provider, &trouble);
                return Err(NO_USER_INFO);
            }
            Err(trouble) => return Err(out_of_reach(provider, &trouble)),
        };
        Ok(Reply::json(&InfoBody {
            user: Person {
                name: profile.name.as_deref(),
                email: profile.email.as_deref(),
                image: profile.image.as_deref(),
                email_verified: profile.email_verified,
            },
            data: &profile.told,
            account: AccountBody {
                id: account.id.as_str(),
                provider_id: &account.provider_id,
                account_id: &account.account_id,
            },
        }))
    }
}
