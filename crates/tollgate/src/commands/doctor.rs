//! `tollgate doctor`: everything that stands between this configuration and a healthy server, in one list.

mod hooks;
mod providers;
mod selling;

use crate::config::{Config, DatabaseUrl, Loaded, Place, Transport};
use crate::data_folder::rights_of_others;
use crate::deployment::{self, open_store, secrets_of, single_threaded};
use crate::problem::Problem;
use crate::terminal::{Failure, Outcome, Terminal};
use crate::unsafe_settings::unsafe_settings;
use kernel::Secret;
use serde_json::{Value, json};
use std::path::Path;
use std::time::UNIX_EPOCH;
use store::Store;
use url::Url;

/// What was looked at. Problems have to be solved before `serve` runs well; advice is worth a look.
#[derive(Default)]
struct Findings {
    good: Vec<String>,
    advice: Vec<Problem>,
    problems: Vec<Problem>,
}

pub fn run(loaded: Loaded, terminal: &Terminal) -> Outcome {
    let mut findings = Findings { problems: loaded.problems, ..Findings::default() };
    match &loaded.file {
        Some(file) => {
            findings.good.push(format!("configuration read from {} and the environment", file.display()))
        }
        None => findings.good.push("no configuration file; defaults and the environment apply".to_owned()),
    }
    let config = &loaded.config;
    if !loaded.unreadable {
        let seeded = check_database(config, &mut findings);
        let known: Vec<String> = findings.problems.iter().map(|problem| problem.setting.clone()).collect();
        let unsafe_ones =
            unsafe_settings(config, seeded).into_iter().filter(|problem| !known.contains(&problem.setting));
        findings.problems.extend(unsafe_ones);
        check_rights(&loaded.file, config, &mut findings);
        check_addresses(config, &mut findings);
        check_mail(config, &mut findings);
        selling::check(config, &mut findings);
        providers::check(config, &mut findings);
    }
    check_clock(config, &mut findings);
    report(&findings, terminal)
}

fn report(findings: &Findings, terminal: &Terminal) -> Outcome {
    let ok = findings.problems.is_empty();
    let to_json = |problems: &[Problem]| problems.iter().map(Problem::to_json).collect::<Vec<Value>>();
    let json = json!({
        "ok": ok, "good": findings.good, "advice": to_json(&findings.advice), "problems": to_json(&findings.problems),
    });
    let mut text = String::new();
    for line in &findings.good {
        text.push_str(&format!("ok       {line}\n"));
    }
    for problem in &findings.advice {
        text.push_str(&format!("advice   {problem}\n"));
    }
    for problem in &findings.problems {
        text.push_str(&format!("problem  {problem}\n"));
    }
    text.push_str(if ok { "\nReady for `tollgate serve`." } else { "" });
    terminal.result(&text, &json);
    match ok {
        true => Ok(()),
        // The list has been printed; with --json it stands alone on standard output.
        false if terminal.json => Err(Failure::silent()),
        false => {
            let count = findings.problems.len();
            let what = if count == 1 {
                "There is 1 problem.".to_owned()
            } else {
                format!("There are {count} problems.")
            };
            Err(Failure::new(what, "Change what is named above and run `tollgate doctor` again."))
        }
    }
}

/// Whether the database can be used; gives whether `dev` seeded it.
fn check_database(config: &Config, findings: &mut Findings) -> bool {
    if let DatabaseUrl::Sqlite(path) = &config.database
        && !path.exists()
    {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if folder.is_dir() {
            findings.good.push(format!("{} is not there yet; the first start makes it", path.display()));
        } else {
            let what = format!("The folder {} is not there.", folder.display());
            findings.problems.push(Problem::new(
                "database_url",
                what,
                "Make it for the user that runs Tollgate.",
            ));
        }
        return false;
    }
    let store = match open_store(config) {
        Ok(store) => store,
        Err(failure) => {
            findings.problems.push(Problem::new("database_url", failure.what, failure.next));
            return false;
        }
    };
    // Opening sets the pragmas, reads them back and refuses when one was not taken.
    if check_schema(&store, findings) { check_contents(&store, config, findings) } else { false }
}

fn check_schema(store: &Store, findings: &mut Findings) -> bool {
    let newest = store::newest_version();
    match store.schema_version() {
        Ok(found) if found == newest => {
            findings
                .good
                .push(format!("database answers, schema version {found}, durable settings in force"));
            true
        }
        Ok(found) if found < newest => {
            findings.good.push(format!(
                "database answers, schema version {found}; `serve` or `migrate` brings it to {newest}"
            ));
            false
        }
        Ok(found) => {
            let what = format!("The database has schema version {found}, this program knows up to {newest}.");
            findings.problems.push(Problem::new("database_url", what, "Use the newer program that made it."));
            false
        }
        Err(error) => {
            let fix = "Start the database, or correct host, user and password.";
            findings.problems.push(Problem::new(
                "database_url",
                format!("The database does not answer: {error}."),
                fix,
            ));
            false
        }
    }
}

fn check_contents(store: &Store, config: &Config, findings: &mut Findings) -> bool {
    let Ok(runtime) = single_threaded() else { return false };
    if let Ok(secrets) = secrets_of(config) {
        let looked = store
            .scan(move |tx| identity::deployment::look_at_vault(tx, &secrets).map(|vault| vault.is_some()));
        match runtime.block_on(looked) {
            Ok(true) => findings.good.push("the secrets open the database's key".to_owned()),
            Ok(false) => {
                findings.good.push("the database has no key yet; the first start makes it".to_owned())
            }
            Err(error) => {
                let fix = "Put the former secret after the new one.";
                findings.problems.push(Problem::new("secrets", format!("{error}."), fix));
            }
        }
    }
    hooks::check(store, findings);
    runtime.block_on(store.scan(identity::deployment::has_dev_seed)).unwrap_or(false)
}

fn check_rights(file: &Option<std::path::PathBuf>, config: &Config, findings: &mut Findings) {
    let mut private = Vec::new();
    if let DatabaseUrl::Sqlite(path) = &config.database {
        private.push(("database_url", path.clone()));
        private.extend(
            path.parent()
                .filter(|folder| !folder.as_os_str().is_empty())
                .map(|folder| ("database_url", folder.to_owned())),
        );
    }
    let secret = [
        ("secrets", true),
        ("database_url", matches!(config.database, DatabaseUrl::Postgres(_))),
        ("redis_url", true),
        ("mail.smtp_url", matches!(config.mail.transport, Transport::Smtp(_))),
        ("stripe.secret_key", config.stripe.secret_key.is_some()),
        ("stripe.webhook_secrets", !config.stripe.webhook_secrets.is_empty()),
        ("providers", config.providers.iter().any(|provider| provider.client_secret.is_some())),
    ];
    for (key, _) in secret.into_iter().filter(|(_, worth_hiding)| *worth_hiding) {
        match config.place(key) {
            Some(Place::SecretFile { file, .. }) => private.push((key, file.clone())),
            Some(Place::Line { .. }) => private.extend(file.iter().map(|file| (key, file.clone()))),
            _ => {}
        }
    }
    let mut seen = Vec::new();
    for (setting, path) in private {
        if seen.contains(&path) {
            continue;
        }
        if let Some(mode) = rights_of_others(&path) {
            let wanted = if path.is_dir() { "700" } else { "600" };
            let what = format!("{} is open to others (mode {mode:o}).", path.display());
            findings.advice.push(Problem::new(
                setting,
                what,
                format!("Run: chmod {wanted} {}", path.display()),
            ));
        }
        seen.push(path);
    }
}

/// Whether the address that browsers use can lead here.
fn check_addresses(config: &Config, findings: &mut Findings) {
    let Some(url) = config.base_url.as_deref().and_then(|base| Url::parse(base).ok()) else { return };
    let port = url.port_or_known_default().unwrap_or_default();
    if url.scheme() == "http" && port != config.listen.port() {
        let what = format!("base_url says port {port}, but the server listens on {}.", config.listen);
        findings.advice.push(Problem::new(
            "listen",
            what,
            "Make them agree, unless a proxy stands in between.",
        ));
    }
    if url.scheme() == "https"
        && !config.listen.ip().is_loopback()
        && config.place("trusted_proxies").is_none()
    {
        let what = "A proxy speaks https in front, but none is trusted: everybody seems to come from its address, also to rate limits.";
        findings.advice.push(Problem::new(
            "trusted_proxies",
            what,
            "Write the proxy's network, such as [\"10.0.0.0/8\"].",
        ));
    }
    if url.scheme() == "https"
        && config.listen.ip().is_loopback()
        && config.place("trusted_proxies").is_none()
    {
        let what = "A proxy on this machine speaks https in front, but it is not trusted: everybody seems to come from 127.0.0.1.";
        findings.advice.push(Problem::new("trusted_proxies", what, "Write [\"127.0.0.1\", \"::1\"]."));
    }
}

fn check_mail(config: &Config, findings: &mut Findings) {
    match &config.mail.transport {
        Transport::Unset => {}
        Transport::Nothing => findings.good.push("no mail is sent (smtp_url = \"none\")".to_owned()),
        Transport::Smtp(url) => check_mail_server(config, url, findings),
    }
    if let Err(wrong) = mail::Templates::load(&config.app_name, config.mail.templates.as_deref()) {
        let problem = |wrong: mail::TemplateProblem| {
            Problem::new("mail.templates", format!("{wrong}."), "Correct the file or remove it.")
        };
        findings.problems.extend(wrong.into_iter().map(problem));
    }
}

fn check_mail_server(config: &Config, url: &Secret<String>, findings: &mut Findings) {
    // What is wrong with the settings themselves was reported when they were read.
    let (Ok(smtp), Ok(runtime)) = (deployment::smtp(config, url), single_threaded()) else { return };
    match runtime.block_on(smtp.check()) {
        Ok(mail::Checked { encrypted, authenticated }) => {
            let how = if encrypted { "encrypted" } else { "not encrypted" };
            let login = if authenticated { "login accepted" } else { "no login" };
            findings.good.push(format!("the mail server answers ({how}, {login})"));
        }
        Err(reason) => {
            let fix = "Check host, port, user and password, and that this machine may reach it.";
            let what = format!("The mail server does not take mails: {reason}.");
            findings.problems.push(Problem::new("mail.smtp_url", what, fix));
        }
    }
}

/// 2025-01-01: no machine that runs this can be earlier.
const EARLIEST: i64 = 1_735_689_600_000;

/// A clock that is behind what was already written makes sessions and links live too long.
fn check_clock(config: &Config, findings: &mut Findings) {
    let now = crate::deployment::now().0;
    let newest = match &config.database {
        DatabaseUrl::Sqlite(path) => modified(path),
        DatabaseUrl::Postgres(_) => None,
    };
    let fix = "Set the clock by NTP.";
    if now < EARLIEST {
        findings.problems.push(Problem::new("clock", "This machine's clock is years behind.", fix));
    } else if newest.is_some_and(|newest| newest > now + 60_000) {
        findings.problems.push(Problem::new(
            "clock",
            "The database was written later than this machine's clock says.",
            fix,
        ));
    } else {
        findings.good.push("the clock is plausible".to_owned());
    }
}

fn modified(path: &Path) -> Option<i64> {
    let since = std::fs::metadata(path).ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok()
}
