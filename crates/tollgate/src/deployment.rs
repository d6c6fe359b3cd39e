//! The deployment that operators' commands work on: its configuration, its database and its vault, without a server.

use crate::config::{Config, DatabaseUrl, Loaded};
use crate::terminal::Failure;
use identity::deployment::VaultError;
use kernel::{Clock as _, Millis, Secret, Secrets, SystemClock, Vault, random};
use mail::{Sender, Smtp};
use store::{MigrateError, Options, Store, Tx};

pub struct Deployment {
    pub config: Config,
    pub store: Store,
    runtime: tokio::runtime::Runtime,
}

impl Deployment {
    /// Opens the database of a sound configuration and checks that its schema is this program's. A database that was
    /// never used is brought to it; one of an older version is left to `tollgate migrate`.
    pub fn open(loaded: Loaded) -> Result<Deployment, Failure> {
        let config = accept(loaded)?;
        let store = open_store(&config)?;
        let found = store.schema_version().map_err(|error| schema_failure(&error))?;
        let newest = store::newest_version();
        if found == 0 {
            store.migrate().map_err(|error| schema_failure(&error))?;
        } else if found != newest {
            let what = format!("The database has schema version {found}; this program works with {newest}.");
            let next = match found < newest {
                true => "Run `tollgate migrate` (after a backup), or start the server, which does it.",
                false => "Use the newer program that made it.",
            };
            return Err(Failure::new(what, next));
        }
        Ok(Deployment { config, store, runtime: single_threaded()? })
    }

    pub fn vault(&self) -> Result<Vault, Failure> {
        let secrets = secrets_of(&self.config)?;
        // A command looks; only the server and `secrets rotate` wrap the key anew.
        let opened = self.store.write(move |tx| match identity::deployment::look_at_vault(tx, &secrets)? {
            Some(vault) => Ok(vault),
            None => identity::deployment::open_vault(tx, &secrets, &mut random::secure()),
        });
        self.runtime.block_on(opened).map_err(|error| vault_failure(&error))
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub fn write<T, F>(&self, run: F) -> Result<T, Failure>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, store::Error> + Send + 'static,
        T: Send + 'static,
    {
        self.runtime.block_on(self.store.write(run)).map_err(|error| store_failure(&error))
    }

    pub fn read<T, F>(&self, run: F) -> Result<T, Failure>
    where
        F: FnMut(&mut Tx<'_>) -> Result<T, store::Error> + Send + 'static,
        T: Send + 'static,
    {
        self.runtime.block_on(self.store.scan(run)).map_err(|error| store_failure(&error))
    }
}

pub fn single_threaded() -> Result<tokio::runtime::Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| {
        Failure::new(
            format!("The runtime cannot start: {error}."),
            "Free some file descriptors and try again.",
        )
    })
}

/// The configuration, unless something in it is wrong.
pub fn accept(loaded: Loaded) -> Result<Config, Failure> {
    if loaded.problems.is_empty() {
        return Ok(loaded.config);
    }
    Err(Failure::with_problems(
        "The configuration has mistakes; nothing was done.",
        "Correct them and try again; `tollgate doctor` checks everything.",
        loaded.problems,
    ))
}

pub fn secrets_of(config: &Config) -> Result<Secrets, Failure> {
    let texts = config.secrets.iter().map(|secret| secret.expose().clone()).collect();
    Secrets::new(texts).ok_or_else(|| {
        Failure::new(
            "There is no secret, so the database's key cannot be opened.",
            "Set TOLLGATE_SECRET or TOLLGATE_SECRETS_FILE to what the server uses.",
        )
    })
}

pub fn open_store(config: &Config) -> Result<Store, Failure> {
    let options = Options { url: store_url(&config.database), pool_size: pool_size(config) };
    if let DatabaseUrl::Sqlite(path) = &config.database {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let what = format!("The folder {} for the database is not there.", folder.display());
            return Err(Failure::new(
                what,
                "Make it for the user that runs Tollgate, or correct database_url.",
            ));
        }
    }
    Store::open(&options).map_err(|error| {
        Failure::new(
            format!("The database cannot be opened: {error}."),
            "Check database_url with `tollgate doctor`.",
        )
    })
}

pub fn store_url(database: &DatabaseUrl) -> String {
    match database {
        DatabaseUrl::Sqlite(path) => format!("sqlite://{}", path.display()),
        DatabaseUrl::Postgres(url) => url.expose().clone(),
    }
}

/// PostgreSQL does best with a few connections a core.
fn pool_size(config: &Config) -> usize {
    config.pool_size.unwrap_or_else(|| (4 * cores()).clamp(8, 64))
}

/// The mail server of the configuration, which has been judged when it was read.
pub fn smtp(config: &Config, url: &Secret<String>) -> Result<Smtp, Failure> {
    let next = "Correct smtp_url and from in [mail].";
    let from = Sender::parse(config.mail.from.as_deref().unwrap_or_default());
    let from = from.map_err(|error| Failure::new(format!("mail.from: {error}."), next))?;
    Smtp::new(url, from).map_err(|error| Failure::new(format!("{error}."), next))
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub fn now() -> Millis {
    SystemClock.now()
}

pub fn store_failure(error: &store::Error) -> Failure {
    Failure::new(
        format!("{}.", capitalised(&error.to_string())),
        "Check the database with `tollgate doctor`.",
    )
}

pub fn schema_failure(error: &MigrateError) -> Failure {
    Failure::new(
        format!("{}.", capitalised(&error.to_string())),
        "Check the database with `tollgate doctor`.",
    )
}

pub fn vault_failure(error: &VaultError) -> Failure {
    let next = match error {
        VaultError::ForeignSecret => "Put the former secret after the new one in `secrets`.",
        VaultError::Store(_) => "Check the database with `tollgate doctor`.",
    };
    Failure::new(format!("{}.", capitalised(&error.to_string())), next)
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
