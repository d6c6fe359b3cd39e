//! Where settings are read: the file, then the environment, which wins. Everything that is wrong is collected, with
//! the line or the variable it stands in.

use super::keys::{KEYS, Key, is_section};
use super::nearest::{nearest, nearest_path};
use super::value::{self, Misfit, Value, shown};
use crate::problem::Problem;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// The process's variables, taken once; tests make their own.
#[derive(Clone, Default)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    /// The one place that reads the environment.
    pub fn of_process() -> Environment {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        };
        Environment(std::env::vars_os().filter_map(text).collect())
    }

    /// An empty variable counts as not set: compose files pass those on for everything they know.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }
}

impl From<&[(&str, &str)]> for Environment {
    fn from(pairs: &[(&str, &str)]) -> Environment {
        Environment(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Environment {
        Environment::from(pairs.as_slice())
    }
}

/// Variables beginning with `TOLLGATE_` that are not settings: those of the app, of the command line, and what
/// Kubernetes sets for a service named tollgate.
fn is_foreign(name: &str) -> bool {
    matches!(name, "TOLLGATE_URL" | "TOLLGATE_KEY" | "TOLLGATE_CONFIG" | "TOLLGATE_PORT")
        || name.starts_with("TOLLGATE_SERVICE_")
        || name
            .strip_prefix("TOLLGATE_PORT_")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// Read when nothing else gives a secret, so that an app's own variable is enough.
const BORROWED_SECRETS: [&str; 2] = ["BETTER_AUTH_SECRET", "AUTH_SECRET"];

/// Where a value was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Line {
        file: PathBuf,
        line: usize,
    },
    Variable(String),
    /// A file with nothing but the secret, and the setting or variable that names it.
    SecretFile {
        file: PathBuf,
        named_by: String,
    },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Place::Variable(name) => f.write_str(name),
            Place::SecretFile { file, .. } => write!(f, "{}", file.display()),
        }
    }
}

/// What was found, before defaults.
#[derive(Default)]
pub struct Gathered {
    pub values: BTreeMap<&'static str, (Value, Place)>,
    pub problems: Vec<Problem>,
    /// The file is not TOML: what it lacks says nothing.
    pub unreadable: bool,
}

impl Gathered {
    fn keep(&mut self, key: &'static Key, place: Place, value: Result<Value, Misfit>) {
        match value {
            Ok(value) => {
                self.values.insert(key.path, (value, place));
            }
            Err(misfit) => {
                self.problems.push(Problem::new(key.path, misfit.what, misfit.fix).at(place.to_string()));
            }
        }
    }

    /// Reads a secret that is kept in a file of its own. A relative name is seen from `folder`.
    pub fn keep_file(&mut self, key: &'static Key, folder: &Path, name: impl AsRef<Path>, named_by: &str) {
        let file = folder.join(name);
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                let place = Place::SecretFile { file, named_by: named_by.to_owned() };
                self.values.insert(key.path, (value::from_secret_file(key, &text), place));
            }
            Err(error) => {
                let what = format!("The file {} cannot be read: {}.", file.display(), error.kind());
                let fix = "Make it readable for the user that runs Tollgate, or correct the name.";
                self.problems.push(Problem::new(key.path, what, fix).at(named_by));
            }
        }
    }
}

/// Adds what the configuration file says. `file` is only its name, for messages and relative paths.
pub fn read_file(gathered: &mut Gathered, file: &Path, text: &str) {
    let (table, errors) = DeTable::parse_recoverable(text);
    // One a line: what follows the first is mostly its echo.
    let mut broken: BTreeMap<usize, &toml::de::Error> = BTreeMap::new();
    for error in errors.iter().rev() {
        broken.insert(error.span().map_or(1, |span| line_of(text, span.start)), error);
    }
    for (line, error) in &broken {
        let what = format!("This is not TOML: {}.", error.message().trim_end_matches('.'));
        let problem = Problem::new("syntax", what, "Correct this line; texts stand in quotes.");
        gathered.problems.push(problem.at(format!("{}:{line}", file.display())));
        gathered.unreadable = true;
    }
    let broken = broken.into_keys().collect();
    let mut reader = FileReader { gathered, file, text, broken };
    reader.read_table(table.get_ref(), "");
}

struct FileReader<'a> {
    gathered: &'a mut Gathered,
    file: &'a Path,
    text: &'a str,
    /// Lines that are no TOML; nothing else is said about them.
    broken: Vec<usize>,
}

impl FileReader<'_> {
    fn read_table(&mut self, table: &DeTable<'_>, section: &str) {
        for (name, found) in table {
            let line = line_of(self.text, name.span().start);
            if self.broken.contains(&line) {
                continue;
            }
            let path = match section {
                "" => name.get_ref().to_string(),
                section => format!("{section}.{}", name.get_ref()),
            };
            self.read_member(&path, line, found.get_ref());
        }
    }

    fn read_member(&mut self, path: &str, line: usize, found: &DeValue<'_>) {
        let place = Place::Line { file: self.file.to_owned(), line };
        if let Some(key) = Key::find(path) {
            return self.gathered.keep(key, place, value::from_toml(key, found));
        }
        if let Some(key) = path.strip_suffix("_file").and_then(Key::find).filter(|key| key.is_secret()) {
            let Some(name) = found.as_str() else {
                let problem =
                    Problem::new(path, "This is not a file's name.", value::example(super::keys::Kind::Text));
                return self.gathered.problems.push(problem.at(place.to_string()));
            };
            let folder = self.file.parent().unwrap_or(Path::new(""));
            return self.gathered.keep_file(key, folder, name, &place.to_string());
        }
        if !is_section(path) {
            return self.gathered.problems.push(unknown(path, found).at(place.to_string()));
        }
        match found.as_table() {
            Some(table) => self.read_table(table, path),
            None => {
                let problem = Problem::new(
                    path,
                    "This is a section, not a setting.",
                    format!("Write [{path}] on a line of its own."),
                );
                self.gathered.problems.push(problem.at(place.to_string()));
            }
        }
    }
}

fn unknown(path: &str, found: &DeValue<'_>) -> Problem {
    let what = if found.is_table() { "There is no such section." } else { "There is no such setting." };
    let fix = match nearest_path(path) {
        Some(meant) => format!("Did you mean `{meant}`?"),
        None => "Remove it; docs/reference/configuration.md lists all settings.".to_owned(),
    };
    Problem::new(shown(path), what, fix)
}

/// Adds what the environment says; it wins over the file.
pub fn read_environment(gathered: &mut Gathered, environment: &Environment, folder: &Path) {
    for key in KEYS {
        let names = match key.path {
            "secrets" => vec![key.variable(), "TOLLGATE_SECRET".to_owned()],
            _ => vec![key.variable()],
        };
        let files = names.iter().map(|name| format!("{name}_FILE"));
        let all = names.iter().cloned().chain(files.filter(|_| key.is_secret()));
        let set: Vec<String> = all.filter(|name| environment.get(name).is_some()).collect();
        if let [first, second, ..] = set.as_slice() {
            let what = format!("{first} and {second} are both set.");
            gathered.problems.push(Problem::new(key.path, what, "Keep one of them.").at(second));
        }
        for name in set.iter().take(1) {
            let text = environment.get(name).unwrap_or_default();
            if name.ends_with("_FILE") {
                gathered.keep_file(key, folder, text, name);
            } else {
                gathered.keep(key, Place::Variable(name.clone()), from_variable(key, name, text));
            }
        }
    }
    add_providers(gathered, environment);
    borrow_secret(gathered, environment);
    report_unknown_variables(gathered, environment);
}

/// `TOLLGATE_PROVIDERS__GOOGLE__CLIENT_SECRET`: the member of a provider, in lower case.
fn provider_member(name: &str) -> Option<(String, String)> {
    let (provider, member) = name.strip_prefix("TOLLGATE_PROVIDERS__")?.split_once("__")?;
    let both = !provider.is_empty() && !member.is_empty();
    both.then(|| (provider.to_ascii_lowercase(), member.to_ascii_lowercase()))
}

/// Adds single members of providers to what the file says of them.
fn add_providers(gathered: &mut Gathered, environment: &Environment) {
    let set = environment.0.iter().filter(|(_, text)| !text.is_empty());
    for (name, text) in set {
        let Some((provider, member)) = provider_member(name) else { continue };
        let place = Place::Variable(name.clone());
        let empty = || (Value::Toml(toml::Value::Table(toml::Table::new())), place);
        let (value, _) = gathered.values.entry("providers").or_insert_with(empty);
        // What is no table is reported where providers are read.
        let Value::Toml(toml::Value::Table(table)) = value else { continue };
        let of_provider = table.entry(provider).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let Some(members) = of_provider.as_table_mut() else { continue };
        // A file that a variable names is seen from the current folder.
        let text = match std::path::absolute(text) {
            Ok(file) if member.ends_with("_file") => file.display().to_string(),
            _ => text.clone(),
        };
        members.insert(member, toml::Value::String(text));
    }
}

/// `TOLLGATE_SECRET` is one secret, commas and all.
fn from_variable(key: &Key, name: &str, text: &str) -> Result<Value, Misfit> {
    match name {
        "TOLLGATE_SECRET" => Ok(Value::SecretList(vec![text.to_owned().into()])),
        _ => value::from_text(key, text),
    }
}

fn borrow_secret(gathered: &mut Gathered, environment: &Environment) {
    if gathered.values.contains_key("secrets") {
        return;
    }
    let mut found = BORROWED_SECRETS.iter().filter_map(|name| Some((*name, environment.get(name)?)));
    if let Some((name, text)) = found.next() {
        let value = Value::SecretList(vec![text.to_owned().into()]);
        gathered.values.insert("secrets", (value, Place::Variable(name.to_owned())));
    }
}

fn report_unknown_variables(gathered: &mut Gathered, environment: &Environment) {
    let mut known: Vec<String> = KEYS.iter().map(Key::variable).collect();
    known.extend(KEYS.iter().filter(|key| key.is_secret()).map(|key| format!("{}_FILE", key.variable())));
    known.extend(["TOLLGATE_SECRET".to_owned(), "TOLLGATE_SECRET_FILE".to_owned()]);
    let ours = environment.0.iter().map(|(name, _)| name).filter(|name| name.starts_with("TOLLGATE_"));
    let ours = ours.filter(|name| provider_member(name).is_none());
    for name in ours.filter(|name| !is_foreign(name) && !known.contains(name)) {
        let fix = match nearest_variable(name, &known) {
            Some(meant) => format!("Did you mean {meant}?"),
            None => "Unset it; docs/reference/configuration.md lists all variables.".to_owned(),
        };
        gathered.problems.push(Problem::new(shown(name), "There is no such variable.", fix));
    }
}

/// A single underscore between section and name is the usual slip.
fn nearest_variable(name: &str, known: &[String]) -> Option<String> {
    let flat = |name: &str| name.replace("__", "_").to_ascii_lowercase();
    let flattened: Vec<String> = known.iter().map(|name| flat(name)).collect();
    let meant = nearest(&flat(name), flattened.iter().map(String::as_str))?;
    let index = flattened.iter().position(|candidate| candidate == meant)?;
    Some(known[index].clone())
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, environment: Environment) -> Vec<String> {
        let mut gathered = Gathered::default();
        read_file(&mut gathered, Path::new("tollgate.toml"), text);
        read_environment(&mut gathered, &environment, Path::new(""));
        gathered.problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_its_line() {
        let text = "base_ulr = \"x\"\nlisten = 8655\n[sesion]\nexpires_in = \"7d\"\n[session]\nupdate_age = \"1 day\"\n";
        let found =
            problems(text, [("TOLLGATE_MAIL_FROM", "x"), ("TOLLGATE_DATABASE__POOL_SIZE", "many")].into());
        assert_eq!(
            found,
            [
                "tollgate.toml:1: base_ulr: There is no such setting. Did you mean `base_url`?",
                "tollgate.toml:2: listen: This is a number. Write both, such as \"127.0.0.1:8655\" or \"[::]:8655\".",
                "tollgate.toml:3: sesion: There is no such section. Did you mean `session`?",
                "tollgate.toml:6: session.update_age: `1 day` is not a duration. Write a number and ms, s, m, h or d in quotes, such as \"300s\" or \"7d\".",
                "TOLLGATE_DATABASE__POOL_SIZE: database.pool_size: `many` is not a whole number. Write a whole number without quotes.",
                "TOLLGATE_MAIL_FROM: There is no such variable. Did you mean TOLLGATE_MAIL__FROM?",
            ]
        );
    }

    #[test]
    fn sections_of_features_that_are_not_there_are_refused() {
        for section in ["provider.google", "admin"] {
            assert_eq!(problems(&format!("[{section}]\n"), Environment::default()).len(), 1, "{section}");
        }
    }

    #[test]
    fn broken_toml_names_the_line_and_not_the_text() {
        let found = problems(
            "listen = \"127.0.0.1:1\"\nsecrets = [\"hunter2-hunter2\nx = 1\n",
            Environment::default(),
        );
        assert!(found[0].starts_with("tollgate.toml:2: syntax: This is not TOML"), "{found:?}");
        assert!(found.iter().all(|line| !line.contains("hunter2")), "{found:?}");
    }

    #[test]
    fn variables_of_the_app_and_of_kubernetes_are_left_alone() {
        let environment = [
            ("TOLLGATE_URL", "http://localhost:8655"),
            ("TOLLGATE_KEY", "tg_sk_x"),
            ("TOLLGATE_SERVICE_KEY", "tg_sk_x"),
            ("TOLLGATE_PORT", "tcp://10.0.0.1:8655"),
            ("TOLLGATE_PORT_8655_TCP_ADDR", "10.0.0.1"),
            ("TOLLGATE_SERVICE_HOST", "10.0.0.1"),
        ];
        assert_eq!(problems("", environment.into()), Vec::<String>::new());
    }

    fn secrets(text: &str, environment: Environment) -> Vec<String> {
        let mut gathered = Gathered::default();
        read_file(&mut gathered, Path::new("tollgate.toml"), text);
        read_environment(&mut gathered, &environment, Path::new(""));
        assert_eq!(gathered.problems, []);
        let Some((Value::SecretList(found), _)) = gathered.values.get("secrets") else { return vec![] };
        found.iter().map(|secret| secret.expose().clone()).collect()
    }

    #[test]
    fn the_environment_wins_and_borrowed_secrets_come_last() {
        let file = "secrets = [\"file\"]";
        assert_eq!(secrets(file, [("AUTH_SECRET", "app")].into()), ["file"]);
        assert_eq!(
            secrets("", [("AUTH_SECRET", "app"), ("BETTER_AUTH_SECRET", "better")].into()),
            ["better"]
        );
        assert_eq!(secrets(file, [("TOLLGATE_SECRET", "a,b")].into()), ["a,b"]);
        assert_eq!(secrets(file, [("TOLLGATE_SECRETS", "a, b")].into()), ["a", "b"]);
        assert_eq!(secrets(file, [("TOLLGATE_SECRET", "")].into()), ["file"]);
    }

    #[test]
    fn a_secret_comes_from_a_file_with_one_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets");
        std::fs::write(&path, "# made yesterday\nnew,one\n\nold\n").unwrap();
        let path = path.to_str().unwrap();
        assert_eq!(secrets("", [("TOLLGATE_SECRETS_FILE", path)].into()), ["new,one", "old"]);
        assert_eq!(secrets(&format!("secrets_file = '{path}'"), Environment::default()), ["new,one", "old"]);
        let found = problems("", [("TOLLGATE_SECRET_FILE", "/nowhere/secret")].into());
        assert!(found[0].contains("/nowhere/secret cannot be read"), "{found:?}");
        let both = [("TOLLGATE_SECRET_FILE", path), ("TOLLGATE_SECRET", "x")];
        assert!(problems("", both.into())[0].contains("are both set"));
    }
}
