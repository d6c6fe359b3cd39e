//! Tollgate itself, on SQLite and on PostgreSQL: the release binary with e-mail and password and nothing else.

use crate::cache::{Cache, copy_database};
use crate::people::{self, Person, USER_AGENT};
use crate::postgres::Postgres;
use crate::seed::{self, Table, Value};
use crate::server::{Contents, Server, Side, free_address};
use identity::deployment::VaultError;
use identity::{accounts, passwords, sessions};
use kernel::{Secrets, Vault, random};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

pub struct OnSqlite {
    pub cache: Rc<Cache>,
    pub program: PathBuf,
    pub rows: u32,
    seed: PathBuf,
    settings: String,
    methods: Methods,
}

impl OnSqlite {
    pub fn new(cache: Rc<Cache>, program: PathBuf, rows: u32) -> OnSqlite {
        let methods = Methods::AsThePeers;
        OnSqlite { cache, program, rows, seed: PathBuf::new(), settings: String::new(), methods }
    }

    /// With every way to sign in switched on.
    pub fn with_every_method(self) -> OnSqlite {
        OnSqlite { methods: Methods::All, ..self }
    }

    /// With more configuration, as TOML.
    pub fn with(self, settings: &str) -> OnSqlite {
        OnSqlite { settings: settings.to_owned(), ..self }
    }

    fn run_file(&self, contents: Contents) -> PathBuf {
        let contents = match contents {
            Contents::Empty => "empty",
            Contents::Seeded => "seeded",
        };
        self.cache.run_file(&format!("{}-{contents}.db", self.key()))
    }
}

impl Side for OnSqlite {
    fn key(&self) -> &'static str {
        match self.methods {
            Methods::AsThePeers => "tollgate-sqlite",
            Methods::All => "tollgate-every-method",
        }
    }

    fn title(&self) -> &'static str {
        match self.methods {
            Methods::AsThePeers => "Tollgate on SQLite",
            Methods::All => "Tollgate on SQLite, every method on",
        }
    }

    fn prepare(&mut self) -> Result<(), String> {
        let (title, rows) = (self.title(), self.rows);
        let fingerprint = seed::fingerprint(&[&seed::schema_text()?]);
        self.seed = self.cache.sqlite("tollgate-sqlite", rows, &fingerprint, |file| {
            let vault = new_database(&sqlite_url(file))?;
            seed::fill_sqlite(title, file, tables(&vault), rows)
        })?;
        // The files of this run; what it writes is thrown away with them.
        copy_database(&self.seed, &self.run_file(Contents::Seeded))?;
        new_database(&sqlite_url(&self.run_file(Contents::Empty))).map(drop)
    }

    fn start(&mut self, contents: Contents) -> Result<Server, String> {
        let file = self.run_file(contents);
        let (settings, methods) = (self.settings.as_str(), self.methods);
        let configured = Configured { database_url: &sqlite_url(&file), settings, methods };
        start(&self.cache, &self.program, self.key(), self.title(), configured, contents)
    }

    fn versions(&self) -> String {
        format!("{}, SQLite {}", program_version(&self.program), rusqlite::version())
    }
}

pub struct OnPostgres {
    pub cache: Rc<Cache>,
    pub program: PathBuf,
    pub rows: u32,
    postgres: Option<Postgres>,
    settings: String,
}

impl OnPostgres {
    pub fn new(cache: Rc<Cache>, program: PathBuf, rows: u32) -> OnPostgres {
        OnPostgres { cache, program, rows, postgres: None, settings: String::new() }
    }

    /// With more configuration, as TOML.
    pub fn with(mut self, settings: &str) -> OnPostgres {
        self.settings = settings.to_owned();
        self
    }
}

impl Side for OnPostgres {
    fn key(&self) -> &'static str {
        "tollgate-postgres"
    }

    fn title(&self) -> &'static str {
        "Tollgate on PostgreSQL"
    }

    fn prepare(&mut self) -> Result<(), String> {
        let (title, rows) = (self.title(), self.rows);
        let postgres = Postgres::start(&self.cache.folder("postgres"), &self.cache.run_file("postgres.log"))?;
        let fingerprint = seed::fingerprint(&[&seed::schema_text()?]);
        let seeded = postgres.seeded(&format!("seed_{rows}"), &fingerprint, |name| {
            let vault = new_database(&postgres.url(name))?;
            postgres.fill(name, title, tables(&vault), rows)
        })?;
        postgres.drop_database("run_seeded")?;
        postgres.create_database("run_seeded", &seeded)?;
        postgres.drop_database("run_empty")?;
        postgres.create_database("run_empty", "template1")?;
        new_database(&postgres.url("run_empty"))?;
        self.postgres = Some(postgres);
        Ok(())
    }

    fn start(&mut self, contents: Contents) -> Result<Server, String> {
        let postgres = self.postgres.as_ref().ok_or("PostgreSQL is not running")?;
        let url = postgres.url(match contents {
            Contents::Empty => "run_empty",
            Contents::Seeded => "run_seeded",
        });
        let mut server = {
            let (settings, methods) = (self.settings.as_str(), Methods::AsThePeers);
            let configured = Configured { database_url: &url, settings, methods };
            start(&self.cache, &self.program, self.key(), self.title(), configured, contents)?
        };
        server.database_process = Some(postgres.process());
        Ok(server)
    }

    fn versions(&self) -> String {
        let version = self.postgres.as_ref().and_then(|postgres| postgres.version().ok());
        format!("{}, PostgreSQL {}", program_version(&self.program), version.unwrap_or_default())
    }
}

impl Drop for OnPostgres {
    fn drop(&mut self) {
        if let Some(postgres) = &self.postgres {
            // A copy that stays is dropped by the next run.
            let _ = postgres.drop_database("run_seeded");
        }
    }
}

pub(crate) fn sqlite_url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

pub(crate) fn program_version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    output.map_or_else(
        |error| error.to_string(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// Makes the schema and the data key, as the first start of a server does.
pub(crate) fn new_database(url: &str) -> Result<Vault, String> {
    let store = store::Store::open(&store::Options { url: url.to_owned(), pool_size: 1 })
        .map_err(|error| format!("{url}: {error}"))?;
    store.migrate().map_err(|error| format!("{url}: {error}"))?;
    let secrets = Secrets::new(vec![people::secret()]).ok_or("no secret")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    let opened = store.write(move |tx| {
        let opened: Result<Vault, VaultError> =
            identity::deployment::open_vault(tx, &secrets, &mut random::secure());
        opened
    });
    runtime.block_on(opened).map_err(|error| format!("{url}: {error}"))
}

fn tables(vault: &Vault) -> Vec<Table<'_>> {
    let rng = &mut random::secure();
    // One hash for everybody: a million of them would take hours, and checking one costs the same.
    let hash = passwords::hash(people::PASSWORD, &mut passwords::Workspace::new(), rng);
    vec![
        Table {
            name: "users",
            columns: &[
                "id",
                "name",
                "email",
                "email_verified",
                "two_factor_enabled",
                "is_anonymous",
                "role",
                "banned",
                "created_at",
                "updated_at",
            ],
            row: Box::new(|person: Person| {
                vec![
                    person.user_id.into(),
                    person.name.into(),
                    person.email.into(),
                    Value::Boolean(false),
                    Value::Boolean(false),
                    Value::Boolean(false),
                    "user".into(),
                    Value::Boolean(false),
                    person.created_at.into(),
                    person.created_at.into(),
                ]
            }),
        },
        Table {
            name: "sessions",
            columns: &[
                "id",
                "user_id",
                "token_hash",
                "token_sealed",
                "expires_at",
                "created_at",
                "updated_at",
                "ip_address",
                "user_agent",
            ],
            row: Box::new(|person: Person| {
                vec![
                    person.session_id.into(),
                    person.user_id.into(),
                    vault.hash(sessions::TOKEN_HASH, &person.token).into(),
                    vault.seal(sessions::TOKEN_SEAL, &person.token, &mut random::secure()).into(),
                    person.expires_at.into(),
                    person.created_at.into(),
                    person.created_at.into(),
                    person.ip_address.into(),
                    USER_AGENT.into(),
                ]
            }),
        },
        Table {
            name: "accounts",
            columns: &[
                "id",
                "user_id",
                "provider_id",
                "account_id",
                "password_hash",
                "created_at",
                "updated_at",
            ],
            row: Box::new(move |person: Person| {
                vec![
                    person.account_id.into(),
                    person.user_id.clone().into(),
                    accounts::CREDENTIAL.into(),
                    person.user_id.into(),
                    hash.clone().into(),
                    person.created_at.into(),
                    person.created_at.into(),
                ]
            }),
        },
    ]
}

/// What differs between servers.
struct Configured<'a> {
    database_url: &'a str,
    settings: &'a str,
    methods: Methods,
}

/// Which parts of the Better Auth door are switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Methods {
    /// Bare sessions and passwords: what the peer has as well, and no more.
    AsThePeers,
    All,
}

fn start(
    cache: &Cache,
    program: &Path,
    key: &str,
    title: &str,
    configured: Configured<'_>,
    contents: Contents,
) -> Result<Server, String> {
    let address = free_address()?;
    let file = cache.run_file(&format!("{key}.toml"));
    write_private(&file, &configuration(address, &configured))?;
    let mut command = Command::new(program);
    command.arg("--config").arg(&file).arg("serve");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TOLLGATE_") {
            command.env_remove(name);
        }
    }
    Server::start(title, &mut command, address, contents, &cache.run_file(&format!("{key}.log")))
}

fn configuration(address: std::net::SocketAddr, configured: &Configured<'_>) -> String {
    let Configured { database_url, settings, methods } = configured;
    let is_on = *methods == Methods::All;
    let switches = ::server::settings::Switch::ALL.iter();
    let methods: String =
        switches.map(|(_, name)| format!("{} = {is_on}\n", name.trim_start_matches("methods."))).collect();
    format!(
        r#"base_url = "http://{address}"
listen = "{address}"
secrets = ["{}"]
database_url = "{database_url}"

[methods]
{methods}
[rate_limit]
enabled = false

[mail]
smtp_url = "none"

[telemetry]
log = "warn"

{settings}"#,
        people::secret()
    )
}

fn write_private(file: &Path, text: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", file.display());
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    std::io::Write::write_all(&mut options.open(file).map_err(failed)?, text.as_bytes()).map_err(failed)
}
