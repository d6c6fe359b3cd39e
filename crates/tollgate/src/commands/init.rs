//! `tollgate init`: a configuration with every setting explained, and a secret beside it.

use crate::config::document::{Answers, commented_file};
use crate::config::{DEFAULT_FILE, Environment, load};
use crate::data_folder::{DataFolder, SECRETS, rights_of_others, write_private};
use crate::terminal::{Failure, Outcome, Terminal};
use serde_json::json;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Ask nothing: answer with what the options say, else with what runs on this machine
    #[arg(long)]
    yes: bool,
    /// Public address, such as https://auth.example.com
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Origin of your app, such as https://app.example.com
    #[arg(long, value_name = "ORIGIN")]
    app: Option<String>,
}

const DATA: &str = "tollgate-data";

pub fn run(config: Option<&Path>, options: &Options, terminal: &Terminal) -> Outcome {
    let file = config.map_or_else(|| PathBuf::from(DEFAULT_FILE), Path::to_owned);
    if file.exists() {
        let what = format!("{} exists already and was left as it is.", file.display());
        return Err(Failure::new(what, "Edit it, or name another file with --config."));
    }
    let asked = !options.yes && !terminal.json;
    if asked && !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            "There is nobody to ask.",
            "Use `tollgate init --yes`, with --base-url if you know it.",
        ));
    }
    let answers = if asked { ask(options)? } else { assume(options) };
    let folder_of_file = file.parent().unwrap_or(Path::new(""));
    let folder = folder_of_file.join(DATA);
    write(&file, &folder, &answers)?;
    let seen = load(Some(&file), &Environment::default());
    if !seen.problems.is_empty() {
        let _ = std::fs::remove_file(&file);
        let next = "Run `tollgate init` again; nothing was kept but the data folder.";
        return Err(Failure::with_problems("The answers do not fit.", next, seen.problems));
    }
    let name = file.display();
    let text = format!(
        "Created   {name}   every setting, explained\n\
         Created   {}   one secret, readable by you only\n\n\
         Next: read {name}, check it with `tollgate doctor`, start with `tollgate serve`.",
        folder.join(SECRETS).display()
    );
    terminal.result(&text, &json!({"config": file, "secrets_file": folder.join(SECRETS)}));
    Ok(())
}

fn write(file: &Path, folder: &Path, answers: &Answers) -> Outcome {
    let failed = |what: &Path, error: std::io::Error| {
        Failure::new(
            format!("{} cannot be written: {error}.", what.display()),
            "Choose a folder that you may write to.",
        )
    };
    let (data, _) = DataFolder::open(folder).map_err(|error| failed(folder, error))?;
    data.ensure_secrets().map_err(|error| failed(&data.file(SECRETS), error))?;
    if let Some(mode) = rights_of_others(&data.file(SECRETS)) {
        let what = format!("{} can be read by others (mode {mode:o}).", data.file(SECRETS).display());
        return Err(Failure::new(what, format!("Run: chmod 600 {}", data.file(SECRETS).display())));
    }
    write_private(file, &commented_file(answers)).map_err(|error| failed(file, error))
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Without questions: what the options say, and no mail, so that `serve` starts on this machine at once.
fn assume(options: &Options) -> Answers {
    let base_url = options.base_url.as_deref().unwrap_or("http://localhost:8655");
    let mut set = vec![("base_url", quoted(base_url)), ("mail.smtp_url", quoted("none"))];
    set.extend(options.app.as_deref().map(|app| ("trusted_origins", format!("[{}]", quoted(app)))));
    Answers { set, secrets_file: format!("{DATA}/{SECRETS}") }
}

fn ask(options: &Options) -> Result<Answers, Failure> {
    let base_url = match &options.base_url {
        Some(url) => url.clone(),
        None => question("Public address of Tollgate", "http://localhost:8655")?,
    };
    let app = match &options.app {
        Some(app) => app.clone(),
        None => question("Origin of your app (empty: the same)", "")?,
    };
    let database = question("Database", "sqlite://tollgate-data/tollgate.db")?;
    let smtp_url = question("Mail server, such as smtps://user:password@mail.example.com:465", "none")?;
    let mut set = vec![
        ("base_url", quoted(&base_url)),
        ("database_url", quoted(&database)),
        ("mail.smtp_url", quoted(&smtp_url)),
    ];
    if !app.is_empty() {
        set.push(("trusted_origins", format!("[{}]", quoted(&app))));
    }
    if smtp_url != "none" {
        set.push(("mail.from", quoted(&question("Sender of mails", "My app <no-reply@example.com>")?)));
    }
    Ok(Answers { set, secrets_file: format!("{DATA}/{SECRETS}") })
}

fn question(text: &str, default: &str) -> Result<String, Failure> {
    let mut err = std::io::stderr().lock();
    let _ = if default.is_empty() { write!(err, "{text}: ") } else { write!(err, "{text} [{default}]: ") };
    let _ = err.flush();
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    read.map_err(|error| {
        Failure::new(format!("The answer cannot be read: {error}."), "Use `tollgate init --yes`.")
    })?;
    let line = line.trim();
    Ok(if line.is_empty() { default.to_owned() } else { line.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unsafe_settings::unsafe_settings;

    #[test]
    fn what_init_writes_is_accepted_by_serve() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tollgate.toml");
        let options = Options { yes: true, base_url: None, app: Some("http://localhost:3000".into()) };
        write(&file, &folder.path().join(DATA), &assume(&options)).unwrap();
        let loaded = load(Some(&file), &Environment::default());
        assert_eq!(loaded.problems, []);
        assert_eq!(unsafe_settings(&loaded.config, false), []);
        assert_eq!(loaded.config.trusted_origins, ["http://localhost:3000"]);
        let quiet = Terminal::new(true, true);
        assert!(run(Some(&file), &options, &quiet).is_err());
    }
}
