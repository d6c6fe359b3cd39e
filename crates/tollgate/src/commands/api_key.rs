//! `tollgate api-key`: keys of users and organizations, with what only an operator sets.

use super::user::{look_up, unknown};
use crate::config::{Loaded, duration::parse_duration};
use crate::deployment::{Deployment, now};
use crate::terminal::{Failure, Outcome, Terminal};
use identity::api_keys::{self, ApiKey, Changes, Holder, NewKey, Quota, RateLimit};
use identity::organizations;
use kernel::{Millis, OrganizationId, random};
use serde_json::{Map, Value, json};

#[derive(Debug, clap::Args)]
pub struct HolderOptions {
    /// Address or id of the user whose key it is
    #[arg(long, value_name = "USER", required_unless_present = "organization")]
    user: Option<String>,
    /// Id of the organization whose key it is
    #[arg(long, value_name = "ID", conflicts_with = "user")]
    organization: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct CreateOptions {
    #[command(flatten)]
    holder: HolderOptions,
    /// To know it by
    #[arg(long)]
    name: Option<String>,
    /// Stands before the key's letters
    #[arg(long)]
    prefix: Option<String>,
    #[command(flatten)]
    terms: Terms,
}

/// What a key may do, and how often.
#[derive(Debug, Clone, clap::Args)]
pub struct Terms {
    /// How long it is good, such as 90d; `never` takes the end away
    #[arg(long, value_name = "TIME")]
    expires_in: Option<String>,
    /// How often it may be used within its window; 0: any number of times
    #[arg(long, value_name = "USES", value_parser = clap::value_parser!(i64).range(0..))]
    rate_limit_max: Option<i64>,
    /// The window, such as 24h
    #[arg(long, value_name = "TIME")]
    rate_limit_window: Option<String>,
    /// How often it may be used in all; `any` takes the bound away
    #[arg(long, value_name = "USES")]
    remaining: Option<String>,
    /// How many uses it has again after each refill
    #[arg(long, value_name = "USES", requires = "refill_interval", value_parser = clap::value_parser!(i64).range(1..))]
    refill_amount: Option<i64>,
    /// How long a refill takes, such as 30d
    #[arg(long, value_name = "TIME", requires = "refill_amount")]
    refill_interval: Option<String>,
    /// What it permits, as JSON: {"files": ["read"]}
    #[arg(long, value_name = "JSON")]
    permissions: Option<String>,
}

pub fn create(loaded: Loaded, options: &CreateOptions, terminal: &Terminal) -> Outcome {
    let deployment = Deployment::open(loaded)?;
    let holder = holder(&deployment, &options.holder)?;
    let is_plain = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'_' || letter == b'-';
    let fits = |prefix: &String| (1..=32).contains(&prefix.len()) && prefix.bytes().all(is_plain);
    if options.prefix.as_ref().is_some_and(|prefix| !fits(prefix)) {
        let next = "Write 1 to 32 letters, digits, `_` and `-`.";
        return Err(Failure::new("This prefix cannot stand in a key.", next));
    }
    let settings = &deployment.config.api_keys;
    let usual = RateLimit {
        enabled: settings.rate_limit.0 > 0,
        window: Some(settings.rate_limit.1),
        max: Some(settings.rate_limit.0),
    };
    let changes = options.terms.changes(usual, Quota::default(), now())?;
    let new = NewKey {
        holder,
        name: options.name.clone(),
        prefix: options.prefix.clone(),
        limit: changes.limit.unwrap_or(usual),
        quota: changes.quota.unwrap_or_default(),
        expires_at: changes.expires_at.flatten(),
        permissions: changes.permissions.flatten(),
        metadata: None,
    };
    let vault = deployment.vault()?;
    let made = deployment.write(move |tx| api_keys::create(tx, &vault, &new, now(), &mut random::secure()));
    let (key, text) = made?;
    let shown = format!(
        "{}\n\nThis is the key {} of {}. It is shown only now.\nEnd it with `tollgate api-key revoke {}`.",
        text.expose(),
        key.id,
        whose(&key.holder),
        key.id
    );
    let mut json = to_json(&key);
    json["key"] = text.expose().as_str().into();
    terminal.result(&shown, &json);
    Ok(())
}

pub fn list(loaded: Loaded, options: &HolderOptions, terminal: &Terminal) -> Outcome {
    let deployment = Deployment::open(loaded)?;
    let holder = holder(&deployment, options)?;
    let owner = whose(&holder);
    let keys = deployment.read(move |tx| api_keys::list(tx, &holder))?;
    let text = match keys.as_slice() {
        [] => format!("There are no API keys of {owner}."),
        keys => keys.iter().map(line).collect::<Vec<_>>().join("\n"),
    };
    terminal.result(&text, &json!({"items": keys.iter().map(to_json).collect::<Vec<_>>()}));
    Ok(())
}

pub fn set(loaded: Loaded, id: &str, terms: &Terms, terminal: &Terminal) -> Outcome {
    let deployment = Deployment::open(loaded)?;
    let (wanted, terms) = (id.to_owned(), terms.clone());
    let changed = deployment.write(move |tx| -> Result<_, store::Error> {
        api_keys::hold(tx, &wanted)?;
        let Some(key) = api_keys::by_id(tx, &wanted)? else { return Ok(None) };
        match terms.changes(key.limit, key.quota, now()) {
            Ok(changes) => api_keys::change(tx, key, changes, now()).map(|key| Some(Ok(key))),
            Err(failure) => Ok(Some(Err(failure))),
        }
    })?;
    let key = changed.ok_or_else(|| no_key(id))??;
    terminal.result(&format!("Changed.\n{}", line(&key)), &to_json(&key));
    Ok(())
}

pub fn revoke(loaded: Loaded, id: &str, terminal: &Terminal) -> Outcome {
    let wanted = id.to_owned();
    if !Deployment::open(loaded)?.write(move |tx| api_keys::delete(tx, &wanted))? {
        return Err(no_key(id));
    }
    let shown = format!("Revoked {id}. Whoever shows this key is refused from now on.");
    terminal.result(&shown, &json!({"id": id, "revoked": true}));
    Ok(())
}

impl Terms {
    /// As far as they are named; what is left out stays as it was.
    fn changes(&self, limit: RateLimit, quota: Quota, now: Millis) -> Result<Changes, Failure> {
        let expires_at = match self.expires_in.as_deref() {
            None => None,
            Some("never") => Some(None),
            Some(text) => Some(Some(now.plus(time(text)?))),
        };
        let window = self.rate_limit_window.as_deref().map(time).transpose()?;
        let limited = (self.rate_limit_max.is_some() || window.is_some()).then(|| RateLimit {
            enabled: self.rate_limit_max.unwrap_or(limit.max.unwrap_or(0)) > 0,
            window: window.or(limit.window),
            max: self.rate_limit_max.or(limit.max),
        });
        let remaining = self.remaining.as_deref().map(uses).transpose()?;
        let interval = self.refill_interval.as_deref().map(time).transpose()?;
        let counted = (remaining.is_some() || interval.is_some()).then(|| Quota {
            remaining: remaining.unwrap_or(quota.remaining.or(self.refill_amount)),
            refill_interval: interval.or(quota.refill_interval),
            refill_amount: self.refill_amount.or(quota.refill_amount),
        });
        let permissions = self.permissions.as_deref().map(permissions).transpose()?;
        Ok(Changes {
            expires_at,
            limit: limited,
            quota: counted,
            permissions: permissions.map(Some),
            ..Changes::default()
        })
    }
}

fn time(text: &str) -> Result<i64, Failure> {
    let refuse = || Failure::new(format!("`{text}` is no time."), "Write it as 90d, 24h or 300s.");
    parse_duration(text).filter(|time| *time > 0).ok_or_else(refuse)
}

fn uses(text: &str) -> Result<Option<i64>, Failure> {
    let refuse = || Failure::new(format!("`{text}` is no number of uses."), "Write 0 or more, or `any`.");
    match text {
        "any" => Ok(None),
        text => text.parse().ok().filter(|uses| *uses >= 0).map(Some).ok_or_else(refuse),
    }
}

fn permissions(text: &str) -> Result<String, Failure> {
    let parsed: Option<Map<String, Value>> = serde_json::from_str(text).ok();
    let is_list = |value: &Value| value.as_array().is_some_and(|list| list.iter().all(Value::is_string));
    match parsed.filter(|parsed| parsed.values().all(is_list)) {
        Some(parsed) => Ok(Value::Object(parsed).to_string()),
        None => Err(Failure::new(
            "These are no permissions.",
            "Write JSON such as {\"files\": [\"read\", \"write\"]}.",
        )),
    }
}

fn holder(deployment: &Deployment, options: &HolderOptions) -> Result<Holder, Failure> {
    match (&options.user, &options.organization) {
        (_, Some(id)) => {
            let organization = OrganizationId::from_text(id.as_str());
            let looked_for = organization.clone();
            match deployment.read(move |tx| organizations::exists(tx, &looked_for))? {
                true => Ok(Holder::Organization(organization)),
                false => Err(Failure::new(
                    format!("There is no organization `{id}`."),
                    "Your app shows its organizations' ids.",
                )),
            }
        }
        (user, None) => {
            let who = user.as_deref().unwrap_or_default();
            let found = look_up(deployment, who)?.ok_or_else(|| unknown(who))?;
            Ok(Holder::User(found.id))
        }
    }
}

fn whose(holder: &Holder) -> String {
    match holder {
        Holder::User(id) => format!("user {id}"),
        Holder::Organization(id) => format!("organization {id}"),
    }
}

fn no_key(id: &str) -> Failure {
    let next = "`tollgate api-key list --user USER` shows the keys of a user.";
    Failure::new(format!("There is no API key `{id}`."), next)
}

fn line(key: &ApiKey) -> String {
    let uses = match (key.limit.enabled, key.limit.max) {
        (true, Some(max)) => format!("{} of {max} uses", key.request_count),
        _ => "any number of uses".to_owned(),
    };
    let left = key.quota.remaining.map_or(String::new(), |left| format!(", {left} left in all"));
    let last = key.last_request_at.map_or("never".to_owned(), Millis::iso);
    let end = key.expires_at.map_or(String::new(), |at| format!("  ends {}", at.iso()));
    let off = if key.enabled { "" } else { "  disabled" };
    let name = key.name.as_deref().unwrap_or("-");
    format!("{}  {}…  {name}  {uses}{left}  last used {last}{end}{off}", key.id, key.start)
}

fn to_json(key: &ApiKey) -> Value {
    let time = |at: Option<Millis>| at.map(Millis::iso);
    let permissions = key.permissions.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let (user, organization) = match &key.holder {
        Holder::User(id) => (Some(id.as_str()), None),
        Holder::Organization(id) => (None, Some(id.as_str())),
    };
    json!({
        "id": key.id, "user_id": user, "organization_id": organization, "name": key.name, "start": key.start,
        "enabled": key.enabled, "rate_limit_max": key.limit.max.filter(|_| key.limit.enabled),
        "rate_limit_window_seconds": key.limit.window.map(|window| window / kernel::time::SECOND),
        "request_count": key.request_count, "remaining": key.quota.remaining,
        "refill_amount": key.quota.refill_amount,
        "refill_interval_seconds": key.quota.refill_interval.map(|interval| interval / kernel::time::SECOND),
        "permissions": permissions, "created_at": key.created_at.iso(), "expires_at": time(key.expires_at),
        "last_used_at": time(key.last_request_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms {
            expires_in: None,
            rate_limit_max: None,
            rate_limit_window: None,
            remaining: None,
            refill_amount: None,
            refill_interval: None,
            permissions: None,
        }
    }

    const USUAL: RateLimit = RateLimit { enabled: true, window: Some(1_000), max: Some(10) };

    fn changes(terms: &Terms) -> Changes {
        let Ok(changes) = terms.changes(USUAL, Quota::default(), Millis(5)) else {
            panic!("refused: {terms:?}")
        };
        changes
    }

    #[test]
    fn what_is_left_out_stays_and_what_is_named_changes() {
        assert_eq!(changes(&terms()), Changes::default());
        let free = changes(&Terms { rate_limit_max: Some(0), ..terms() }).limit;
        assert_eq!(free, Some(RateLimit { enabled: false, window: Some(1_000), max: Some(0) }));
        let slow = changes(&Terms { rate_limit_window: Some("2s".into()), ..terms() }).limit;
        assert_eq!(slow, Some(RateLimit { window: Some(2_000), ..USUAL }));
        let refill = Terms { refill_amount: Some(7), refill_interval: Some("1d".into()), ..terms() };
        let quota = changes(&refill).quota.expect("it is named");
        assert_eq!((quota.remaining, quota.refill_interval), (Some(7), Some(86_400_000)));
        assert_eq!(changes(&Terms { expires_in: Some("never".into()), ..terms() }).expires_at, Some(None));
        let ends = changes(&Terms { expires_in: Some("1s".into()), ..terms() }).expires_at;
        assert_eq!(ends, Some(Some(Millis(1_005))));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in [
            Terms { expires_in: Some("soon".into()), ..terms() },
            Terms { remaining: Some("-1".into()), ..terms() },
            Terms { permissions: Some("[]".into()), ..terms() },
            Terms { permissions: Some(r#"{"files": "read"}"#.into()), ..terms() },
        ] {
            assert!(wrong.changes(USUAL, Quota::default(), Millis(5)).is_err(), "{wrong:?}");
        }
    }
}
