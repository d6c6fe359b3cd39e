//! `tollgate serve`: the server in production. Lists every unsafe setting and refuses to start with one.

use crate::config::{Config, DatabaseUrl, Loaded};
use crate::deployment::{open_store, single_threaded};
use crate::problem::Problem;
use crate::process::{self, Mode, Prepared};
use crate::terminal::{Failure, Outcome, Terminal};
use crate::unsafe_settings::unsafe_settings;
use serde_json::json;

pub fn run(loaded: Loaded, terminal: &Terminal) -> Outcome {
    let problems = everything_wrong(&loaded);
    if !problems.is_empty() {
        let what = match problems.len() {
            1 => "`serve` refuses to start: a setting is wrong or unsafe.".to_owned(),
            count => format!("`serve` refuses to start: {count} settings are wrong or unsafe."),
        };
        let next = "Change what is named above; to try Tollgate on this machine use `tollgate dev`.";
        return Err(Failure::with_problems(what, next, problems));
    }
    let listener = process::bind(loaded.config.listen, "TOLLGATE_LISTEN=127.0.0.1:8656")?;
    let prepared = Prepared::open(loaded.config, Mode::Serve, terminal)?;
    let address = listener.local_addr().unwrap_or(prepared.config.listen);
    process::run(prepared, listener, terminal, move |terminal| {
        terminal.result(
            &format!("listening on http://{address}"),
            &json!({"listening": format!("http://{address}")}),
        );
    })
}

/// Mistakes and dangers in one list; a setting that is wrong is not called unsafe as well.
fn everything_wrong(loaded: &Loaded) -> Vec<Problem> {
    let mut problems = loaded.problems.clone();
    if loaded.unreadable {
        return problems;
    }
    let wrong: Vec<String> = problems.iter().map(|problem| problem.setting.clone()).collect();
    let seeded = !wrong.iter().any(|setting| setting == "database_url") && holds_dev_seed(&loaded.config);
    let dangers = unsafe_settings(&loaded.config, seeded);
    problems.extend(dangers.into_iter().filter(|problem| !wrong.contains(&problem.setting)));
    problems
}

/// Looks without making or changing anything. A database that does not answer is reported when it is opened.
fn holds_dev_seed(config: &Config) -> bool {
    if matches!(&config.database, DatabaseUrl::Sqlite(path) if !path.exists()) {
        return false;
    }
    let (Ok(store), Ok(runtime)) = (open_store(config), single_threaded()) else { return false };
    store.schema_version().is_ok_and(|version| version > 0)
        && runtime.block_on(store.read(identity::deployment::has_dev_seed)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load};

    #[test]
    fn mistakes_and_dangers_are_one_list_without_repetition() {
        let environment = [
            ("TOLLGATE_BASE_URL", "auth.example.com"),
            ("TOLLGATE_SECRET", "short"),
            ("TOLLGATE_LISTN", "x"),
        ];
        let mut config = load(None, &Environment::from(environment));
        config.config.database = DatabaseUrl::Sqlite("/nowhere/tollgate.db".into());
        let settings: Vec<String> =
            everything_wrong(&config).into_iter().map(|problem| problem.setting).collect();
        assert_eq!(settings, ["base_url", "TOLLGATE_LISTN", "secrets", "mail.smtp_url"]);
    }
}
