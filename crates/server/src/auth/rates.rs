//! How often one client may call: the original's rules, counted by address and path before anything else is done.

use super::error::Failure;
use crate::app::App;
use kernel::time::SECOND;
use kernel::{ClientAddress, Millis};
use store::{Hit, Rule};

const GENERAL: Rule = Rule { window: 10 * SECOND, max: 100 };
const SENSITIVE: Rule = Rule { window: 10 * SECOND, max: 3 };
const MAILING: Rule = Rule { window: 60 * SECOND, max: 3 };

/// Looking for a device by its code: whoever guesses codes has these tries.
const DEVICE: Rule = Rule { window: 1_800 * SECOND, max: 5 };
const DEVICE_PATH: &str = "/device";

const MAGIC_LINK: Rule = Rule { window: 60 * SECOND, max: 5 };

const MAGIC_LINK_PATHS: [&str; 2] = ["/sign-in/magic-link", "/magic-link/verify"];
const MAILING_PATHS: [&str; 5] = [
    "/request-password-reset",
    "/send-verification-email",
    "/forget-password",
    "/email-otp/",
    "/sign-in/email-otp",
];
const SENSITIVE_PATHS: [&str; 5] =
    ["/sign-in", "/sign-up", "/change-password", "/change-email", "/two-factor"];

/// The rule of a path, and whether it is the one for everything else.
fn rule_of(app: &App, path: &str) -> (Rule, bool) {
    if let Some(rule) = configured(app, path) {
        return (rule, false);
    }
    if path == DEVICE_PATH {
        (DEVICE, false)
    } else if prefix_of(&MAGIC_LINK_PATHS, path).is_some() {
        (MAGIC_LINK, false)
    } else if prefix_of(&MAILING_PATHS, path).is_some() {
        (MAILING, false)
    } else if prefix_of(&SENSITIVE_PATHS, path).is_some() {
        (SENSITIVE, false)
    } else {
        (GENERAL, true)
    }
}

fn configured(app: &App, path: &str) -> Option<Rule> {
    let (_, window, max) =
        app.settings.rate_limit.rules.iter().find(|(configured, ..)| configured == path)?;
    Some(Rule { window: *window, max: *max })
}

fn prefix_of(prefixes: &[&'static str], path: &str) -> Option<&'static str> {
    prefixes.iter().find(|prefix| path.starts_with(**prefix)).copied()
}

/// Counts a request under the text of its route, never under what was sent: a link's path holds its token, and a scanner
/// would fill the table. What is no route shares a count with its like. A backend speaks for many people from one
/// address, so it is not counted by the general rule.
pub async fn check(
    app: &App,
    client: ClientAddress,
    route: Option<&'static str>,
    path: &str,
    now: Millis,
) -> Result<(), Failure> {
    if !app.settings.rate_limit.enabled {
        return Ok(());
    }
    let (rule, general) = rule_of(app, route.unwrap_or(path));
    if general && matches!(client, ClientAddress::Proxy(_)) {
        return Ok(());
    }
    let like = || prefix_of(&MAILING_PATHS, path).or(prefix_of(&SENSITIVE_PATHS, path)).unwrap_or("/…");
    match refused(app, client, route.unwrap_or_else(like), rule, now).await? {
        None => Ok(()),
        Some(seconds) => Err(Failure::TooMany { seconds }),
    }
}

/// Counts a request of one address; when it is one too many, for how many seconds nothing more is taken.
async fn refused(
    app: &App,
    client: ClientAddress,
    path: &str,
    rule: Rule,
    now: Millis,
) -> Result<Option<i64>, store::Error> {
    if rule.max == 0 {
        return Ok(None);
    }
    let key = format!("rate:{}:{path}", client.bucket());
    Ok(match app.counters.hit(&key, rule, now).await? {
        Hit::Counted { .. } => None,
        Hit::Refused { retry_at } => Some(((retry_at.0 - now.0 + 999) / 1_000).max(1)),
    })
}

/// Each guest that is made is a row. A backend speaks for many visitors, so it is not counted, unless it says for whom.
const NEW_GUESTS: Rule = Rule { window: 10 * SECOND, max: 20 };
/// Under which the configuration may name another rule.
const GUEST_PATH: &str = "/guest";

/// As [`check`], for the making of guests.
pub async fn refuses_new_guest(
    app: &App,
    client: ClientAddress,
    now: Millis,
) -> Result<Option<i64>, store::Error> {
    if !app.settings.rate_limit.enabled || matches!(client, ClientAddress::Proxy(_)) {
        return Ok(None);
    }
    refused(app, client, GUEST_PATH, configured(app, GUEST_PATH).unwrap_or(NEW_GUESTS), now).await
}
