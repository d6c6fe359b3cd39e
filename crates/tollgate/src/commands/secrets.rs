//! `tollgate secrets rotate`: a new secret in front, so that it signs from now on, while the old ones go on verifying.
//! `tollgate secrets show guest`: what a backend needs to read the guest cookie by itself.

use crate::config::{Config, Loaded, Place};
use crate::data_folder::{new_secret, with_new_first, write_private};
use crate::deployment::{Deployment, accept};
use crate::settings::guest_secrets;
use crate::terminal::{Failure, Outcome, Terminal};
use gate::guest_cookie::{NAME, SALT};
use kernel::time::SECOND;
use serde_json::json;
use std::path::Path;

pub fn rotate(loaded: Loaded, terminal: &Terminal) -> Outcome {
    let deployment = Deployment::open(loaded)?;
    // Proves that the present secrets open the database before anything is changed.
    deployment.vault()?;
    let secret = new_secret();
    match deployment.config.place("secrets") {
        Some(Place::SecretFile { file, .. }) => {
            let file = file.clone();
            rotate_file(deployment, &file, secret, terminal)
        }
        Some(place) => {
            let (lines, from) = (lines_to_change(place, &secret), place.to_string());
            terminal.result(
                &format!("Nothing was changed: the secrets come from {from}. Change it to:\n\n{lines}\n\nThen restart the server; it seals the database's key with the new secret. Keep the old ones for as long as sessions live."),
                &json!({"changed": false, "place": from, "secret": secret, "lines": lines}),
            );
            Ok(())
        }
        None => Err(Failure::new("There is no secret yet.", "Run `tollgate init`, or set TOLLGATE_SECRET.")),
    }
}

/// First the file, then the database's key: a crash in between leaves a key that the second secret opens.
fn rotate_file(mut deployment: Deployment, file: &Path, secret: String, terminal: &Terminal) -> Outcome {
    let failed = |error: std::io::Error| {
        Failure::new(
            format!("{} cannot be changed: {error}.", file.display()),
            "Run this as the user that owns the file.",
        )
    };
    let text = std::fs::read_to_string(file).map_err(failed)?;
    write_private(file, &with_new_first(&text, &secret)).map_err(failed)?;
    put_first(&mut deployment.config, secret);
    deployment.vault()?;
    let count = deployment.config.secrets.len();
    terminal.result(
        &format!(
            "Put a new secret first in {} ({count} now) and sealed the database's key with it.\nRestart the server to sign with it. Nobody is signed out; remove the last line of the file when sessions signed with it have ended.",
            file.display()
        ),
        &json!({"changed": true, "file": file, "secrets": count}),
    );
    Ok(())
}

/// On standard output stands nothing but the secrets, one a line.
pub fn show_guest(loaded: Loaded, terminal: &Terminal) -> Outcome {
    let config = accept(loaded)?;
    let secrets = guest_secrets(&config)?;
    let secrets: Vec<&str> = secrets.iter().map(|secret| secret.expose().as_str()).collect();
    let https = config.base_url.as_deref().is_some_and(|url| url.starts_with("https://"));
    let prefix = if config.cookies.secure.unwrap_or(https) { "__Secure-" } else { "" };
    terminal.result(
        &secrets.join("\n"),
        &json!({
            "cookie": format!("{prefix}{NAME}"),
            "secrets": secrets,
            "salt": SALT,
            "key_derivation": "hmac",
            "digest": "sha256",
            "max_age": config.guest.ttl / SECOND,
        }),
    );
    Ok(())
}

fn put_first(config: &mut Config, secret: String) {
    config.secrets.insert(0, secret.into());
}

/// What to write, without repeating a secret that is in use.
fn lines_to_change(place: &Place, secret: &str) -> String {
    match place {
        Place::Variable(name) if name == "TOLLGATE_SECRETS" => {
            format!("TOLLGATE_SECRETS=\"{secret},$TOLLGATE_SECRETS\"")
        }
        Place::Variable(name) => {
            format!("TOLLGATE_SECRETS=\"{secret},${name}\"   # and {name} no longer for Tollgate")
        }
        Place::Line { .. } | Place::SecretFile { .. } => {
            format!("secrets = [\"{secret}\", …followed by those that stand there now]")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_for_a_variable_refer_to_the_old_secret_by_name() {
        let lines = lines_to_change(&Place::Variable("TOLLGATE_SECRET".into()), "new");
        assert_eq!(
            lines,
            "TOLLGATE_SECRETS=\"new,$TOLLGATE_SECRET\"   # and TOLLGATE_SECRET no longer for Tollgate"
        );
    }
}
