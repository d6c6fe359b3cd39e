//! Better Auth from npm on SQLite, as its documentation sets it up for Node (`bench/better-auth/server.mjs`).

use crate::cache::{Cache, copy_database};
use crate::people::{self, Person, USER_AGENT};
use crate::seed::{self, Table, Value};
use crate::server::{Contents, Server, Side, free_address};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

pub struct BetterAuth {
    pub cache: Rc<Cache>,
    pub rows: u32,
    /// Processes that answer; one is what its documentation starts.
    pub workers: u32,
}

impl Side for BetterAuth {
    fn key(&self) -> &'static str {
        "better-auth"
    }

    fn title(&self) -> &'static str {
        "Better Auth on SQLite"
    }

    fn prepare(&mut self) -> Result<(), String> {
        let (title, rows) = (self.title(), self.rows);
        let read = |name: &str| {
            let file = folder().join(name);
            std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))
        };
        let fingerprint = seed::fingerprint(&[&read("package-lock.json")?, &read("server.mjs")?]);
        let seed = self.cache.sqlite(self.key(), rows, &fingerprint, |file| {
            output(node(file).arg("make-schema"))?;
            let hash = output(node(file).args(["hash", people::PASSWORD]))?;
            seed::fill_sqlite(title, file, tables(&hash), rows)
        })?;
        copy_database(&seed, &self.cache.run_file("better-auth-seeded.db"))?;
        output(node(&self.cache.run_file("better-auth-empty.db")).arg("make-schema")).map(drop)
    }

    fn start(&mut self, contents: Contents) -> Result<Server, String> {
        let file = self.cache.run_file(match contents {
            Contents::Empty => "better-auth-empty.db",
            Contents::Seeded => "better-auth-seeded.db",
        });
        let address = free_address()?;
        let mut command = node(&file);
        command.arg("serve").env("PORT", address.port().to_string());
        command.env("WORKERS", self.workers.to_string());
        Server::start(self.title(), &mut command, address, contents, &self.cache.run_file("better-auth.log"))
    }

    fn versions(&self) -> String {
        let installed = |name: &str| {
            let file = folder().join("node_modules").join(name).join("package.json");
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let package: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            package["version"].as_str().unwrap_or("?").to_owned()
        };
        let node = output(Command::new("node").arg("--version")).unwrap_or_default();
        format!(
            "better-auth {}, better-sqlite3 {}, Node.js {}, {} process(es)",
            installed("better-auth"),
            installed("better-sqlite3"),
            node.trim(),
            self.workers
        )
    }
}

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("better-auth")
}

fn node(database: &Path) -> Command {
    let mut command = Command::new("node");
    command.arg("server.mjs").current_dir(folder());
    command.env("NODE_ENV", "production").env("SECRET", people::secret()).env("DB_PATH", database);
    command
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?} did not start: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim_end()))
}

/// Better Auth keeps times as ISO text and session tokens in clear text.
fn tables(hash: &str) -> Vec<Table<'_>> {
    vec![
        Table {
            name: "\"user\"",
            columns: &[
                "\"id\"",
                "\"name\"",
                "\"email\"",
                "\"emailVerified\"",
                "\"createdAt\"",
                "\"updatedAt\"",
            ],
            row: Box::new(|person: Person| {
                vec![
                    person.user_id.into(),
                    person.name.into(),
                    person.email.into(),
                    Value::Boolean(false),
                    person.created_at.iso().into(),
                    person.created_at.iso().into(),
                ]
            }),
        },
        Table {
            name: "\"session\"",
            columns: &[
                "\"id\"",
                "\"expiresAt\"",
                "\"token\"",
                "\"createdAt\"",
                "\"updatedAt\"",
                "\"ipAddress\"",
                "\"userAgent\"",
                "\"userId\"",
            ],
            row: Box::new(|person: Person| {
                vec![
                    person.session_id.into(),
                    person.expires_at.iso().into(),
                    person.token.into(),
                    person.created_at.iso().into(),
                    person.created_at.iso().into(),
                    person.ip_address.into(),
                    USER_AGENT.into(),
                    person.user_id.into(),
                ]
            }),
        },
        Table {
            name: "\"account\"",
            columns: &[
                "\"id\"",
                "\"accountId\"",
                "\"providerId\"",
                "\"userId\"",
                "\"password\"",
                "\"createdAt\"",
                "\"updatedAt\"",
            ],
            row: Box::new(|person: Person| {
                vec![
                    person.account_id.into(),
                    person.user_id.clone().into(),
                    "credential".into(),
                    person.user_id.into(),
                    hash.into(),
                    person.created_at.iso().into(),
                    person.created_at.iso().into(),
                ]
            }),
        },
    ]
}
