//! Endpoints: where events go, which ones, and the secret that signs them.

use crate::event::Kind;
use crate::reach::is_loopback_host;
use crate::signature::new_secret;
use kernel::{Millis, Secret, Vault, random};
use rand::CryptoRng;
use store::{Error, Row, Tx, params};
use url::Url;

const PURPOSE: &str = "hook secret";
const URL_LENGTH: usize = 2_048;

macro_rules! columns {
    () => {
        "id, url, kinds, created_at, failing_since, disabled_at"
    };
}

const ADD: &str =
    "INSERT INTO hook_endpoints (id, url, kinds, secret_sealed, created_at) VALUES ($1, $2, $3, $4, $5)";
const LIST: &str = concat!("SELECT ", columns!(), " FROM hook_endpoints ORDER BY created_at, id");
const ONE: &str = concat!("SELECT ", columns!(), " FROM hook_endpoints WHERE id = $1");
const LISTENERS: &str = "SELECT id, kinds, disabled_at FROM hook_endpoints ORDER BY id";
const FIRST_SINCE: &str = "SELECT MIN(created_at) FROM hook_endpoints";
const TARGET: &str = "SELECT url, secret_sealed FROM hook_endpoints WHERE id = $1 AND disabled_at IS NULL";
const REMOVE: &str = "DELETE FROM hook_endpoints WHERE id = $1";
const REMOVE_DELIVERIES: &str = "DELETE FROM hook_deliveries WHERE endpoint_id = $1";
const ENABLE: &str = "UPDATE hook_endpoints SET disabled_at = NULL, failing_since = NULL WHERE id = $1";
const DISABLE: &str = "UPDATE hook_endpoints SET disabled_at = $2 WHERE id = $1 AND disabled_at IS NULL";
const WORKS: &str =
    "UPDATE hook_endpoints SET failing_since = NULL WHERE id = $1 AND failing_since IS NOT NULL";
const FAILS: &str = "UPDATE hook_endpoints SET failing_since = $2 WHERE id = $1 AND failing_since IS NULL";
const FAILING_SINCE: &str = "SELECT failing_since FROM hook_endpoints WHERE id = $1";

/// Which events an endpoint gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    All,
    These(Vec<Kind>),
}

impl Wanted {
    /// An unknown name is given back.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Wanted, &'a str> {
        let mut kinds = Vec::new();
        for name in names {
            let kind = Kind::parse(name).ok_or(name)?;
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        Ok(if kinds.is_empty() { Wanted::All } else { Wanted::These(kinds) })
    }

    pub fn has(&self, kind: Kind) -> bool {
        match self {
            Wanted::All => true,
            Wanted::These(kinds) => kinds.contains(&kind),
        }
    }

    /// `*`, or names separated by commas.
    pub fn text(&self) -> String {
        match self {
            Wanted::All => "*".into(),
            Wanted::These(kinds) => kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(","),
        }
    }

    /// Kinds of a newer program mean nothing to this one.
    fn stored(text: &str) -> Wanted {
        match text {
            "*" => Wanted::All,
            names => Wanted::These(names.split(',').filter_map(Kind::parse).collect()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub id: String,
    pub url: String,
    pub wanted: Wanted,
    pub created_at: Millis,
    pub failing_since: Option<Millis>,
    pub disabled_at: Option<Millis>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    #[error("this is not an address such as https://app.example.com/hooks")]
    Form,
    #[error("events go over https; http is for this machine only (localhost, 127.0.0.1, [::1])")]
    Plain,
    #[error("the address must hold no user name, no password and no fragment: the signature says who sends")]
    Parts,
}

/// An address that events may go to, as far as its text tells. Where its name leads is judged at each delivery.
pub fn target(text: &str) -> Result<Url, BadUrl> {
    if text.is_empty() || text.len() > URL_LENGTH || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(BadUrl::Form);
    }
    let url = Url::parse(text).map_err(|_| BadUrl::Form)?;
    let host = url.host().ok_or(BadUrl::Form)?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback_host(&host) => {}
        "http" => return Err(BadUrl::Plain),
        _ => return Err(BadUrl::Form),
    }
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if bare { Ok(url) } else { Err(BadUrl::Parts) }
}

/// The secret is shown once and kept sealed.
pub fn add(
    tx: &mut Tx<'_>,
    vault: &Vault,
    url: &Url,
    wanted: &Wanted,
    now: Millis,
    rng: &mut impl CryptoRng,
) -> Result<(Endpoint, Secret<String>), Error> {
    let id = format!("ep_{}", random::alphanumeric(rng, 16));
    let secret = new_secret(rng);
    // With the endpoint's id: a secret that was moved to another row does not open.
    let sealed = vault.seal(PURPOSE, &format!("{id} {}", secret.expose()), rng);
    tx.execute(ADD, params![&id, url.as_str(), &wanted.text(), &sealed, now])?;
    let endpoint = Endpoint {
        id,
        url: url.as_str().to_owned(),
        wanted: wanted.clone(),
        created_at: now,
        failing_since: None,
        disabled_at: None,
    };
    Ok((endpoint, secret))
}

pub fn list(tx: &mut Tx<'_>) -> Result<Vec<Endpoint>, Error> {
    tx.query(LIST, params![], read)
}

pub fn find(tx: &mut Tx<'_>, id: &str) -> Result<Option<Endpoint>, Error> {
    tx.query_opt(ONE, params![id], read)
}

/// With its deliveries. False when there is none.
pub fn remove(tx: &mut Tx<'_>, id: &str) -> Result<bool, Error> {
    let removed = tx.execute(REMOVE, params![id])? == 1;
    tx.execute(REMOVE_DELIVERIES, params![id])?;
    Ok(removed)
}

/// After it was switched off. False when there is none.
pub fn enable(tx: &mut Tx<'_>, id: &str) -> Result<bool, Error> {
    Ok(tx.execute(ENABLE, params![id])? == 1)
}

/// Since when there has been an endpoint; none: there is none.
pub fn first_since(tx: &mut Tx<'_>) -> Result<Option<Millis>, Error> {
    tx.query_one(FIRST_SINCE, params![], |row| row.get(0))
}

/// As far as it matters when something is told.
pub(crate) struct Listener {
    pub endpoint: String,
    pub wanted: Wanted,
    pub enabled: bool,
}

pub(crate) fn listeners(tx: &mut Tx<'_>) -> Result<Vec<Listener>, Error> {
    tx.query(LISTENERS, params![], |row| {
        let disabled_at: Option<Millis> = row.get(2)?;
        let wanted = Wanted::stored(row.text(1)?);
        Ok(Listener { endpoint: row.get(0)?, wanted, enabled: disabled_at.is_none() })
    })
}

/// Where to deliver and what signs; none when it is gone, switched off, or its secret does not open.
pub(crate) fn open(
    tx: &mut Tx<'_>,
    vault: &Vault,
    id: &str,
) -> Result<Option<(String, Secret<String>)>, Error> {
    let read = |row: &Row<'_>| Ok((row.get::<String>(0)?, row.get::<String>(1)?));
    let found = tx.query_opt(TARGET, params![id], read)?;
    Ok(found.and_then(|(url, sealed)| {
        let clear = Secret::new(vault.open(PURPOSE, &sealed)?);
        let (of, secret) = clear.expose().split_once(' ')?;
        (of == id).then(|| (url, Secret::new(secret.to_owned())))
    }))
}

/// Something was delivered.
pub(crate) fn note_success(tx: &mut Tx<'_>, id: &str) -> Result<(), Error> {
    tx.execute(WORKS, params![id]).map(|_| ())
}

/// Nothing was delivered; gives since when that is so.
pub(crate) fn note_failure(tx: &mut Tx<'_>, id: &str, now: Millis) -> Result<Millis, Error> {
    tx.execute(FAILS, params![id, now])?;
    let since: Option<Option<Millis>> = tx.query_opt(FAILING_SINCE, params![id], |row| row.get(0))?;
    Ok(since.flatten().unwrap_or(now))
}

/// True when it was on.
pub(crate) fn disable(tx: &mut Tx<'_>, id: &str, now: Millis) -> Result<bool, Error> {
    Ok(tx.execute(DISABLE, params![id, now])? == 1)
}

fn read(row: &Row<'_>) -> Result<Endpoint, Error> {
    Ok(Endpoint {
        id: row.get(0)?,
        url: row.get(1)?,
        wanted: Wanted::stored(row.text(2)?),
        created_at: row.get(3)?,
        failing_since: row.get(4)?,
        disabled_at: row.get(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_go_over_https_or_stay_on_this_machine() {
        for text in [
            "https://app.example.com/hooks?for=tollgate",
            "https://10.0.0.1/",
            "http://localhost:3000/hooks",
            "http://127.0.0.1:3000",
            "http://127.8.9.1/",
            "http://[::1]:3000/",
        ] {
            assert!(target(text).is_ok(), "{text}");
        }
        for (text, error) in [
            ("", BadUrl::Form),
            ("app.example.com", BadUrl::Form),
            ("ftp://app.example.com/", BadUrl::Form),
            ("https://", BadUrl::Form),
            ("https://exa mple.com/", BadUrl::Form),
            ("file:///etc/passwd", BadUrl::Form),
            ("http://app.example.com/", BadUrl::Plain),
            ("http://localhost.example.com/", BadUrl::Plain),
            ("http://10.0.0.1/", BadUrl::Plain),
            ("http://[::ffff:10.0.0.1]/", BadUrl::Plain),
            ("https://user@app.example.com/", BadUrl::Parts),
            ("https://user:word@app.example.com/", BadUrl::Parts),
            ("https://app.example.com/#x", BadUrl::Parts),
        ] {
            assert_eq!(target(text).map(|_| ()), Err(error), "{text}");
        }
    }

    #[test]
    fn names_are_read_once_each_and_none_means_all() {
        assert_eq!(Wanted::parse([]), Ok(Wanted::All));
        let two = Wanted::parse(["user.created", "dispute.closed", "user.created"]).unwrap();
        assert_eq!(two, Wanted::These(vec![Kind::UserCreated, Kind::DisputeClosed]));
        assert_eq!(Wanted::stored(&two.text()), two);
        assert_eq!(Wanted::stored(&Wanted::All.text()), Wanted::All);
        assert_eq!(Wanted::parse(["user.*"]), Err("user.*"));
        assert!(
            two.has(Kind::UserCreated) && !two.has(Kind::UserDeleted) && Wanted::All.has(Kind::UserDeleted)
        );
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.name()), Some(kind));
        }
    }
}
