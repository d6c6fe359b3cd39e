//! Logs: one line for each event on standard error, as text or as JSON.

use crate::config::Config;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Installs the process's subscriber. Call once; a second call changes nothing.
pub fn start(config: &Config, no_color: bool) {
    let filter = EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Somebody else's subscriber may be there already, in tests.
    let _ = if config.log_as_json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(!no_color && std::io::stderr().is_terminal()).try_init()
    };
}
