//! How often one client may call: the original's rules, counted by address and path before anything else is done.

use super::error::Failure;
use crate::app::App;
use kernel::time::SECOND;
use kernel::{ClientAddress, Millis};
use store::{Hit, Rule};

const GENERAL: Rule = Rule { window: 10 * SECOND, max: 100 };
const SENSITIVE: Rule = Rule { window: 10 * SECOND, max: 3 };
const MAILING: Rule = Rule { window: 60 * SECOND, max: 3 };

const MAILING_PATHS: [&str; 5] = [
    "/request-password-reset",
    "/send-verification-email",
    "/forget-password",
    "/email-otp/send-verification-otp",
    "/email-otp/request-password-reset",
];
const SENSITIVE_PATHS: [&str; 5] =
    ["/sign-in", "/sign-up", "/change-password", "/change-email", "/two-factor"];

/// The rule of a path, and whether it is the one for everything else.
fn rule_of(app: &App, path: &str) -> (Rule, bool) {
    if let Some((_, window, max)) =
        app.settings.rate_limit.rules.iter().find(|(configured, ..)| configured == path)
    {
        return (Rule { window: *window, max: *max }, false);
    }
    let begins = |paths: &[&str]| paths.iter().any(|prefix| path.starts_with(prefix));
    if begins(&MAILING_PATHS) {
        (MAILING, false)
    } else if begins(&SENSITIVE_PATHS) {
        (SENSITIVE, false)
    } else {
        (GENERAL, true)
    }
}

/// Counts a request. `path` is below the door and without a slash at its end, so that spellings share a count.
/// A backend speaks for many people from one address, so it is not counted by the general rule.
pub async fn check(app: &App, client: ClientAddress, path: &str, now: Millis) -> Result<(), Failure> {
    if !app.settings.rate_limit.enabled {
        return Ok(());
    }
    let (rule, general) = rule_of(app, path);
    if rule.max == 0 || (general && matches!(client, ClientAddress::Proxy(_))) {
        return Ok(());
    }
    // Unknown paths share one count, so that a scanner does not fill the table.
    let path = if path.len() > 64 { "/…" } else { path };
    let key = format!("rate:{}:{path}", client.bucket());
    match app.counters.hit(&key, rule, now).await? {
        Hit::Counted { .. } => Ok(()),
        Hit::Refused { retry_at } => {
            Err(Failure::TooMany { seconds: ((retry_at.0 - now.0 + 999) / 1_000).max(1) })
        }
    }
}
