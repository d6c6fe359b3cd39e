//! `tollgate key`: service keys for an app's backend.

use crate::config::Loaded;
use crate::deployment::{Deployment, now};
use crate::terminal::{Failure, Outcome, Terminal};
use identity::service_keys::{self, SCOPES, ServiceKey};
use kernel::{Millis, random};
use serde_json::{Value, json};

pub fn create(loaded: Loaded, name: &str, scopes: Option<&[String]>, terminal: &Terminal) -> Outcome {
    let scopes = chosen_scopes(scopes)?;
    if name.trim().is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err(Failure::new(
            "A key needs a name of 1 to 100 characters.",
            "Name it after the backend that uses it.",
        ));
    }
    let deployment = Deployment::open(loaded)?;
    let vault = deployment.vault()?;
    let name = name.to_owned();
    let made = deployment
        .write(move |tx| service_keys::create(tx, &vault, &name, &scopes, now(), &mut random::secure()));
    let (key, text) = made?;
    let shown = format!(
        "{}\n\nThis is the key `{}` with {}. It is shown only now; give it to your backend as TOLLGATE_KEY.\nEnd it with `tollgate key revoke {}`.",
        text.expose(),
        key.name,
        key.scopes.join(", "),
        key.id
    );
    terminal
        .result(&shown, &json!({"id": key.id, "name": key.name, "key": text.expose(), "scopes": key.scopes}));
    Ok(())
}

/// All scopes when none are named.
fn chosen_scopes(scopes: Option<&[String]>) -> Result<Vec<String>, Failure> {
    let Some(scopes) = scopes else { return Ok(SCOPES.map(String::from).to_vec()) };
    if let Some(stranger) = scopes.iter().find(|scope| !SCOPES.contains(&scope.as_str())) {
        let next = format!("Choose from {}.", SCOPES.join(", "));
        return Err(Failure::new(format!("There is no scope `{stranger}`."), next));
    }
    Ok(scopes.to_vec())
}

pub fn list(loaded: Loaded, terminal: &Terminal) -> Outcome {
    let keys = Deployment::open(loaded)?.read(service_keys::list)?;
    let time = |time: Option<Millis>| time.map_or("never".to_owned(), Millis::iso);
    let line = |key: &ServiceKey| {
        let end = key.revoked_at.map_or(String::new(), |at| format!("  revoked {}", at.iso()));
        format!(
            "{}  {}…  {}  [{}]  last used {}{end}",
            key.id,
            key.start,
            key.name,
            key.scopes.join(","),
            time(key.last_used_at)
        )
    };
    let text = match keys.as_slice() {
        [] => "There are no service keys. Make one with `tollgate key create NAME`.".to_owned(),
        keys => keys.iter().map(line).collect::<Vec<_>>().join("\n"),
    };
    terminal.result(&text, &json!({"items": keys.iter().map(to_json).collect::<Vec<_>>()}));
    Ok(())
}

fn to_json(key: &ServiceKey) -> Value {
    let time = |time: Option<Millis>| time.map(Millis::iso);
    json!({
        "id": key.id, "name": key.name, "start": key.start, "scopes": key.scopes, "created_at": key.created_at.iso(),
        "last_used_at": time(key.last_used_at), "revoked_at": time(key.revoked_at),
    })
}

pub fn revoke(loaded: Loaded, id: &str, terminal: &Terminal) -> Outcome {
    let owned = id.to_owned();
    let revoked = Deployment::open(loaded)?.write(move |tx| service_keys::revoke(tx, &owned, now()))?;
    if !revoked {
        let what = format!("There is no key `{id}` that could be revoked.");
        return Err(Failure::new(what, "`tollgate key list` shows all keys."));
    }
    terminal.result(
        &format!("Revoked {id}. Whoever shows this key is refused from now on."),
        &json!({"id": id, "revoked": true}),
    );
    Ok(())
}
