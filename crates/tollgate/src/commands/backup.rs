//! `tollgate backup`: copies of an SQLite database that were checked before anybody relies on them.

use crate::config::{DatabaseUrl, Loaded};
use crate::deployment::{Deployment, accept, store_failure, store_url};
use crate::terminal::{Failure, Outcome, Progress, Terminal};
use serde_json::json;
use std::path::Path;
use store::Store;

pub fn create(loaded: Loaded, file: &Path, terminal: &Terminal) -> Outcome {
    refuse_postgres(&loaded)?;
    let deployment = Deployment::open(loaded)?;
    let mut progress = Progress::new(terminal, "Copying", "pages");
    let copied = deployment.store.back_up(file, |done, all| progress.show(done, all));
    drop(progress);
    let checked = copied.map_err(|error| store_failure(&error))?;
    let text = format!(
        "Wrote {}: {} bytes, {} users, {} sessions, integrity checked.\nKeep the secrets too: without them the copy cannot be used.",
        file.display(),
        checked.bytes,
        checked.users,
        checked.sessions
    );
    let json = json!({"file": file, "bytes": checked.bytes, "users": checked.users, "sessions": checked.sessions, "schema_version": checked.schema_version});
    terminal.result(&text, &json);
    Ok(())
}

pub fn restore(loaded: Loaded, file: &Path, terminal: &Terminal) -> Outcome {
    refuse_postgres(&loaded)?;
    let config = accept(loaded)?;
    let checked =
        Store::restore(file, &store_url(&config.database)).map_err(|error| store_failure(&error))?;
    let text = format!(
        "Restored {}: {} users, {} sessions, integrity checked. Start with `tollgate serve`.",
        file.display(),
        checked.users,
        checked.sessions
    );
    let json = json!({"file": file, "bytes": checked.bytes, "users": checked.users, "sessions": checked.sessions, "schema_version": checked.schema_version});
    terminal.result(&text, &json);
    Ok(())
}

fn refuse_postgres(loaded: &Loaded) -> Outcome {
    match loaded.config.database {
        DatabaseUrl::Sqlite(_) => Ok(()),
        DatabaseUrl::Postgres(_) => Err(Failure::new(
            "PostgreSQL is copied with its own tools.",
            "Use pg_dump and pg_restore, or a base backup.",
        )),
    }
}
