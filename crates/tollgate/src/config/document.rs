//! The reference page and the commented file of `init`, written from the table of settings.

use super::keys::{Default_, KEYS, Key, Kind, SECTIONS};
use std::fmt::Write as _;

/// `docs/reference/configuration.md`.
pub fn reference_page() -> String {
    let mut out = String::from(
        "# Configuration\n\n\
         <!-- Written by `tollgate reference configuration`; a test compares. Change crates/tollgate/src/config/keys.rs instead. -->\n\n\
         Settings are read from `tollgate.toml` in the current folder (or `--config FILE`, or `TOLLGATE_CONFIG`), then from\n\
         the environment, which wins: `TOLLGATE_`, the path in capitals, `__` between section and name. An empty variable\n\
         counts as not set. Lists in variables are separated by commas.\n\n\
         A setting marked *secret* can also be kept in a file of its own: `secrets_file = \"…\"` in the configuration or\n\
         `TOLLGATE_SECRETS_FILE` in the environment name it. For one secret there is `TOLLGATE_SECRET`; when nothing else\n\
         gives one, `BETTER_AUTH_SECRET` and then `AUTH_SECRET` are read.\n\n\
         Durations are a whole number and a unit: `500ms`, `300s`, `15m`, `24h`, `7d`. Anything unknown is an error that\n\
         names the nearest setting; all errors are reported at once. `tollgate doctor` checks a configuration.\n",
    );
    section(&mut out, None, "Top level", "");
    for (name, doc) in SECTIONS {
        section(&mut out, Some(name), &format!("`[{name}]`"), doc);
    }
    out
}

fn section(out: &mut String, name: Option<&str>, title: &str, doc: &str) {
    let _ = write!(out, "\n## {title}\n\n");
    if !doc.is_empty() {
        let _ = write!(out, "{doc}\n\n");
    }
    out.push_str("| Setting | Type | Default | Meaning |\n|---|---|---|---|\n");
    for key in KEYS.iter().filter(|key| key.section() == name) {
        let default = match key.default {
            Default_::Is(_) => format!("`{}`", default_as_toml(key)),
            Default_::Unset(note) => format!("unset: {note}"),
        };
        let secret = if key.is_secret() { ", *secret*" } else { "" };
        let doc = key.doc.replace('|', "\\|");
        let _ = writeln!(out, "| `{}` | {}{secret} | {default} | {doc} |", key.name(), type_name(key.kind));
    }
}

fn type_name(kind: Kind) -> String {
    match kind {
        Kind::Flag => "true or false".to_owned(),
        Kind::Text | Kind::SecretText => "text".to_owned(),
        Kind::SecretList | Kind::List => "list of texts".to_owned(),
        Kind::Choice(choices) => choices.iter().map(|c| format!("`\"{c}\"`")).collect::<Vec<_>>().join(", "),
        Kind::BaseUrl => "URL".to_owned(),
        Kind::Address => "address and port".to_owned(),
        Kind::Count { min, max } => format!("number, {min} to {max}"),
        Kind::Duration { .. } => "duration".to_owned(),
        Kind::Rules => "table".to_owned(),
        Kind::Toml { form, .. } => form.to_owned(),
    }
}

/// The default as one would write it in the file.
fn default_as_toml(key: &Key) -> String {
    let text = match key.default {
        Default_::Is(text) => text,
        Default_::Unset(_) => "",
    };
    match key.kind {
        Kind::Flag if text.is_empty() => "true".to_owned(),
        Kind::Count { min, .. } if text.is_empty() => min.to_string(),
        Kind::Flag | Kind::Count { .. } | Kind::Rules | Kind::Toml { .. } => text.to_owned(),
        Kind::List | Kind::SecretList if text.is_empty() => "[]".to_owned(),
        Kind::List | Kind::SecretList => {
            let texts: Vec<String> = text.split(',').map(|text| format!("\"{text}\"")).collect();
            format!("[{}]", texts.join(", "))
        }
        _ => format!("\"{text}\""),
    }
}

/// What `init` knows about the deployment; everything else stays a comment with its default.
#[derive(Debug, Default)]
pub struct Answers {
    /// `(path, value as TOML)`
    pub set: Vec<(&'static str, String)>,
    /// The secrets file, relative to the configuration.
    pub secrets_file: String,
}

/// A `tollgate.toml` with every setting: those answered are set, the others are comments showing their default.
pub fn commented_file(answers: &Answers) -> String {
    let mut out = String::from(
        "# Tollgate's configuration. Lines that begin with `#` show the default.\n\
         # Every setting can also come from the environment: [mail] from is TOLLGATE_MAIL__FROM.\n\
         # Check with `tollgate doctor`, start with `tollgate serve`.\n",
    );
    commented_section(&mut out, None, answers);
    for (name, doc) in SECTIONS {
        let _ = write!(out, "\n# {doc}\n[{name}]\n");
        commented_section(&mut out, Some(name), answers);
    }
    out
}

fn commented_section(out: &mut String, section: Option<&str>, answers: &Answers) {
    for key in KEYS.iter().filter(|key| key.section() == section) {
        let _ = write!(out, "\n# {}\n", key.doc);
        let answer = answers.set.iter().find(|(path, _)| *path == key.path);
        match (answer, key.default) {
            (Some((_, value)), _) => {
                let _ = writeln!(out, "{} = {value}", key.name());
            }
            (None, _) if key.path == "secrets" && !answers.secrets_file.is_empty() => {
                let _ = writeln!(out, "# They stand in a file of their own, one a line, the newest first.");
                let _ = writeln!(out, "secrets_file = \"{}\"", answers.secrets_file);
            }
            (None, Default_::Is(_)) => {
                let _ = writeln!(out, "# {} = {}", key.name(), default_as_toml(key));
            }
            (None, Default_::Unset(note)) => {
                let _ = writeln!(out, "# Unset: {note}.\n# {} = {}", key.name(), default_as_toml(key));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::{Gathered, read_file};
    use super::*;
    use std::path::Path;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/configuration.md");

    #[test]
    fn the_reference_page_is_what_the_table_says() {
        let found = std::fs::read_to_string(PAGE).unwrap_or_default();
        assert_eq!(
            found,
            reference_page(),
            "run: cargo run -- reference configuration > docs/reference/configuration.md"
        );
    }

    #[test]
    fn the_commented_file_is_read_back_with_nothing_set_but_the_answers() {
        let answers = Answers { set: vec![("listen", "\"0.0.0.0:80\"".into())], ..Answers::default() };
        let mut gathered = Gathered::default();
        read_file(&mut gathered, Path::new("tollgate.toml"), &commented_file(&answers));
        assert_eq!(gathered.problems, []);
        assert_eq!(gathered.values.keys().copied().collect::<Vec<_>>(), ["listen"]);
    }

    #[test]
    fn every_comment_line_is_a_valid_setting_when_uncommented() {
        let file = commented_file(&Answers::default());
        let looks_like_setting = |line: &str| {
            let name = line.strip_prefix("# ").and_then(|line| line.split_once(" = "));
            name.is_some_and(|(name, _)| !name.contains(' '))
        };
        let uncommented: String = file
            .lines()
            .map(|line| if looks_like_setting(line) { &line[2..] } else { line })
            .filter(|line| !line.ends_with("= \"\""))
            .map(|line| format!("{line}\n"))
            .collect();
        let mut gathered = Gathered::default();
        read_file(&mut gathered, Path::new("tollgate.toml"), &uncommented);
        assert_eq!(gathered.problems, []);
        assert!(gathered.values.len() > 30, "{}", gathered.values.len());
    }
}
