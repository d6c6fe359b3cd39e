//! Where somebody who signs out here signs out at the provider, too.

use super::super::endpoint::Call;
use crate::app::App;
use identity::providers::{TokenAccount, tokens};
use identity::sessions;
use kernel::redirect::judge;
use store::Tx;

/// The accounts behind a session that is about to end, the last used first.
pub fn accounts_behind(
    tx: &mut Tx<'_>,
    app: &App,
    token: &str,
    now: kernel::Millis,
) -> Result<Vec<TokenAccount>, store::Error> {
    if app.providers.iter().all(|provider| !provider.settings.sign_out_there) {
        return Ok(Vec::new());
    }
    match sessions::find_live(tx, &app.vault, token, now)? {
        Some(live) => tokens::of_user(tx, &app.vault, &live.user.id),
        None => Ok(Vec::new()),
    }
}

/// The first of the accounts' providers that has such a place.
pub async fn place(
    call: &Call,
    accounts: &[TokenAccount],
    callback: Option<&str>,
    state: Option<&str>,
) -> Option<String> {
    let trusted = &call.app.settings.trusted_origins;
    let back = callback.and_then(|text| judge(trusted, text)).map(|target| target.absolute());
    let mut seen = Vec::new();
    for account in accounts {
        let id = account.account.provider_id.as_str();
        if seen.contains(&id) {
            continue;
        }
        seen.push(id);
        let Some(provider) = call.app.providers.get(id) else { continue };
        let token = account.tokens.id.as_ref().map(|token| token.expose().as_str());
        if let Some(url) = provider.end_session_url(token, back.as_deref(), state, call.now).await {
            return Some(url);
        }
    }
    None
}
