//! The small Node backend (`bench/better-auth/backend.mjs`), which asks who its caller is and what may be done: Better
//! Auth and then a database of its own, or Tollgate's one call.

use crate::better_auth::folder;
use crate::cache::Cache;
use crate::credits::raw::RawSqlite;
use crate::gate::crowd::Crowd;
use crate::gate::requests::{Asked, Authorize};
use crate::load::Exchange as _;
use crate::server::{Server, free_address};
use std::net::SocketAddr;
use std::process::Command;

/// What its figures stand for.
pub const FACTS: &str = "one process, keep-alive connections to whom it asks; with Better Auth (one process too) it debits in a database of its own: WAL, synchronous=FULL, a commit for each debit";

/// Whom it asks.
pub enum Asks<'a> {
    /// Better Auth for the session; the credits are its own.
    BetterAuth,
    /// Tollgate for both, with this key.
    Tollgate(&'a str),
}

pub fn start(cache: &Cache, crowd: &Crowd, auth: SocketAddr, asks: &Asks<'_>) -> Result<Server, String> {
    let address = free_address()?;
    let mut command = Command::new("node");
    command.arg("backend.mjs").current_dir(folder()).env("NODE_ENV", "production");
    command.env("PORT", address.port().to_string()).env("AUTH_URL", format!("http://{auth}"));
    let name = match asks {
        Asks::BetterAuth => {
            let file = cache.run_file("backend.db");
            // The tables of the bare statements that the ledger is compared with.
            drop(RawSqlite::open(&file, crowd.owners())?);
            command.env("DB_PATH", file).env_remove("SERVICE_KEY");
            "backend-better-auth"
        }
        Asks::Tollgate(service_key) => {
            command.env("SERVICE_KEY", service_key).env_remove("DB_PATH");
            "backend-tollgate"
        }
    };
    let log = cache.run_file(&format!("{name}.log"));
    let mut request = Vec::new();
    Authorize::new(crowd, Asked::Session, address, None, 0).write_request(&mut request);
    Server::start_asking("the Node backend", &mut command, address, &request, b"{\"subject\"", &log)
}
