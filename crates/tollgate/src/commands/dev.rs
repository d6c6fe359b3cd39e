//! `tollgate dev`: everything on and nothing asked. Makes its data folder, seeds two users, keeps every mail in an inbox
//! page, sells at a till as long as there is no key of Stripe's, and says what to copy into an app.

mod banner;
mod seed;
mod stand_in;

use crate::config::{Config, DatabaseUrl, Loaded};
use crate::data_folder::{DATABASE, DataFolder, SECRETS};
use crate::deployment::{accept, open_store, schema_failure, single_threaded, store_failure};
use crate::process::{self, Mode, Prepared};
use crate::terminal::{Failure, Outcome, Terminal};
use banner::{Banner, Sells};
use kernel::{Secret, Stopwatch};
use server::dev::Known;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Start without the sample users
    #[arg(long)]
    no_seed: bool,
    /// Folder for database, secrets and keys
    #[arg(long, value_name = "DIR", default_value = "tollgate-data")]
    data: PathBuf,
    /// Address and port to listen on [default: 127.0.0.1:8655]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

/// Apps under development live on any port of this machine.
const LOCAL_ORIGINS: [&str; 4] =
    ["http://localhost", "http://localhost:*", "http://127.0.0.1", "http://127.0.0.1:*"];

pub fn run(loaded: Loaded, options: &Options, terminal: &Terminal) -> Outcome {
    let since_start = Stopwatch::start();
    let mut config = accept(loaded)?;
    // The port first: a second `dev` must not touch anything.
    config.listen = options.listen.unwrap_or(config.listen);
    let listener = process::bind(config.listen, "tollgate dev --listen 127.0.0.1:8656")?;
    config.listen = listener.local_addr().unwrap_or(config.listen);
    let (folder, made) = open_folder(options)?;
    complete(&mut config, &folder)?;
    // It ends with this function.
    let till = stand_in::open(&mut config, terminal)?;
    // Before anything of it is touched: opening wraps its key for our secrets, and may migrate it.
    refuse_foreign_database(&config)?;
    let mut prepared = Prepared::open(config, Mode::Dev, terminal)?;
    let was_new = prepared.was_new;
    if was_new {
        let marked = prepared.store.write(identity::deployment::mark_made_by_dev);
        prepared.block_on(marked).map_err(|error| store_failure(&error))?;
    }
    if till.is_some() {
        stand_in::forget_the_last_one(&prepared)?;
    }
    let seeded = was_new && !options.no_seed;
    if seeded {
        seed::users(&prepared)?;
    }
    let key = seed::service_key(&prepared, &folder)?;
    let seeded = seed::is_seeded(&prepared)?;
    prepared.known = Known {
        service_key: Some(Secret::new(key.clone())),
        sample_user: seeded.then(seed::sample_user),
        till: till.as_ref().map(|till| till.base_url().to_owned()),
        ..Known::default()
    };
    let base_url = prepared.config.base_url.clone().unwrap_or_default();
    let sells = match &till {
        Some(till) => Sells::AtTill(till.base_url().to_owned()),
        None if prepared.config.stripe.secret_key.is_some() => {
            Sells::AtStripe { hears: !prepared.config.stripe.webhook_secrets.is_empty() }
        }
        None => Sells::Nothing,
    };
    let banner = Banner { base_url, folder: made.then(|| options.data.clone()), seeded, key, sells };
    let listening = prepared.config.listen;
    process::run(prepared, listener, terminal, move |terminal| {
        terminal.result(&banner.text(terminal, since_start.elapsed()), &banner.json(listening));
    })
}

fn open_folder(options: &Options) -> Result<(DataFolder, bool), Failure> {
    let name = options.data.display();
    let failed = |error: std::io::Error| {
        Failure::new(
            format!("The data folder {name} cannot be used: {error}."),
            "Choose another with `tollgate dev --data DIR`.",
        )
    };
    let (folder, made) = DataFolder::open(&options.data).map_err(failed)?;
    folder.ensure_secrets().map_err(failed)?;
    Ok((folder, made))
}

/// What `serve` insists on and `dev` assumes.
fn complete(config: &mut Config, folder: &DataFolder) -> Outcome {
    if config.place("database_url").is_none() {
        config.database = DatabaseUrl::Sqlite(folder.file(DATABASE));
    }
    let text = folder.read(SECRETS).ok().flatten().unwrap_or_default();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let own = lines.map(|line| Secret::new(line.to_owned()));
    let configured = std::mem::take(&mut config.secrets);
    let all: Vec<Secret<String>> = match config.names_secrets() {
        true => configured.into_iter().chain(own).collect(),
        // Those found beside the default database, which may not be the one in use.
        false => own.chain(configured).collect(),
    };
    for secret in all {
        if !config.secrets.contains(&secret) {
            config.secrets.push(secret);
        }
    }
    if config.base_url.is_none() {
        config.base_url = Some(format!("http://localhost:{}", config.listen.port()));
    }
    if config.place("trusted_origins").is_none() {
        config.trusted_origins = LOCAL_ORIGINS.map(String::from).to_vec();
    }
    Ok(())
}

/// A database that neither is new nor was made by `dev` belongs to `serve`: its mails are nobody's business.
fn refuse_foreign_database(config: &Config) -> Outcome {
    let store = open_store(config)?;
    if store.schema_version().map_err(|error| schema_failure(&error))? == 0 {
        return Ok(());
    }
    let made_by_dev = single_threaded()?.block_on(store.read(identity::deployment::is_made_by_dev));
    if made_by_dev.map_err(|error| store_failure(&error))? {
        return Ok(());
    }
    Err(Failure::new(
        "This database is one of `tollgate serve`; `dev` would show everybody's mails.",
        "Use another folder with `tollgate dev --data DIR`, and no database_url in the configuration.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load};

    #[test]
    fn dev_completes_what_is_not_configured_and_keeps_what_is() {
        let parent = tempfile::tempdir().unwrap();
        let (folder, _) = DataFolder::open(&parent.path().join("data")).unwrap();
        folder.ensure_secrets().unwrap();
        let mut config = load(
            None,
            &Environment::from([("TOLLGATE_SECRET", "mine"), ("TOLLGATE_LISTEN", "127.0.0.1:99")]),
        )
        .config;
        complete(&mut config, &folder).unwrap();
        assert_eq!(config.base_url.as_deref(), Some("http://localhost:99"));
        assert_eq!(config.database, DatabaseUrl::Sqlite(folder.file(DATABASE)));
        assert_eq!((config.secrets.len(), config.secrets[0].expose().as_str()), (2, "mine"));
        assert_eq!(config.trusted_origins, LOCAL_ORIGINS);
    }
}
