//! `tollgate openapi`: the document that the running server shows at `/openapi.json`.

use crate::config::Loaded;
use crate::deployment::accept;
use crate::doors::document;
use crate::process::Mode;
use crate::settings::settings;
use crate::terminal::{Outcome, Terminal};
use kernel::Secret;

/// Needs no secret and no database; without base_url it describes a server on this machine.
pub fn run(loaded: Loaded, terminal: &Terminal) -> Outcome {
    let mut config = accept(loaded)?;
    config.base_url.get_or_insert_with(|| format!("http://localhost:{}", config.listen.port()));
    if config.secrets.is_empty() {
        config.secrets.push(Secret::new("unused".to_owned()));
    }
    let text = document(&settings(&config, Mode::Serve)?);
    // It is JSON in both forms of output.
    terminal.result(&text, &serde_json::from_str(&text).unwrap_or_default());
    Ok(())
}
