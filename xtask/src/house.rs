//! The house rules that neither the compiler nor clippy checks: who may depend on whom, which SQL is portable, and what
//! must not stand in the repository.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::rust_source::RustSource;

pub const USAGE: &str = "house                             check the house rules (a part of `test`)";

pub fn run(arguments: &[String]) -> Outcome {
    if !arguments.is_empty() {
        return Err(format!("Usage: cargo xtask {USAGE}"));
    }
    check()
}

/// Checks everything; warnings are printed, broken rules are the error.
pub fn check() -> Outcome {
    let files = Files::read(Path::new("."))?;
    let mut broken = Vec::new();
    broken.extend(dependencies(&files)?);
    broken.extend(rust_rules(&files));
    broken.extend(forbidden_words(&files));
    broken.extend(lock_files(&files));
    for warning in large_files(&files) {
        println!("warning: {warning}");
    }
    if broken.is_empty() {
        println!("{} files follow the house rules", files.all.len());
        return Ok(());
    }
    let list: Vec<String> = broken.iter().map(Broken::to_string).collect();
    Err(format!("{}\n{} broken house rules", list.join("\n"), list.len()))
}

struct Broken {
    file: PathBuf,
    line: usize,
    rule: String,
    advice: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}: {}", self.file.display(), self.line, self.rule, self.advice)
    }
}

/// The text files of the repository, by their paths from its root.
struct Files {
    all: Vec<(PathBuf, String)>,
}

/// What is built, installed or kept by tools and not ours to judge.
const NOT_OURS: &[&str] = &[
    ".git",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".venv",
    "__pycache__",
    "dist",
    "fuzz/artifacts",
    "fuzz/corpus",
    "node_modules",
    "target",
    "tollgate-data",
];

impl Files {
    fn read(root: &Path) -> Result<Files, String> {
        let mut files = Files { all: Vec::new() };
        files.read_folder(root, root)?;
        files.all.sort();
        Ok(files)
    }

    fn read_folder(&mut self, root: &Path, folder: &Path) -> Outcome {
        let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let inside = path.strip_prefix(root).unwrap_or(&path);
            let not_ours = NOT_OURS
                .iter()
                .any(|name| inside == Path::new(name) || entry.file_name() == *OsStr::new(name));
            let kind = entry.file_type().map_err(failed)?;
            if not_ours || kind.is_symlink() {
                continue;
            }
            if kind.is_dir() {
                self.read_folder(root, &path)?;
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                // What is not UTF-8 is a picture or a database: nothing to check.
                self.all.push((inside.to_path_buf(), text));
            }
        }
        Ok(())
    }

    fn rust(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.all
            .iter()
            .filter(|(path, _)| path.extension() == Some(OsStr::new("rs")))
            .map(|(path, text)| (path.as_path(), text.as_str()))
    }

    /// The Rust files of the product: `crates/*/src`, without files that are tests as a whole.
    fn product(&self) -> Vec<(&Path, RustSource)> {
        let sources: Vec<(&Path, RustSource)> = self
            .rust()
            .filter(|(path, _)| path.starts_with("crates") && path.iter().nth(2) == Some(OsStr::new("src")))
            .map(|(path, text)| (path, RustSource::read(text)))
            .collect();
        let mut tests = BTreeSet::new();
        for (path, source) in &sources {
            for name in source.test_files() {
                let folder = match path.file_stem().and_then(OsStr::to_str) {
                    Some("lib" | "main" | "mod") => path.with_file_name(""),
                    _ => path.with_extension(""),
                };
                tests.insert(folder.join(format!("{name}.rs")));
                // With all that lies in its folder.
                tests.insert(folder.join(name));
            }
        }
        let is_test = |path: &Path| path.ancestors().any(|above| tests.contains(above));
        sources.into_iter().filter(|(path, _)| !is_test(path)).collect()
    }
}

// ---- Who may depend on whom ----

/// The rooms from the street to the cellar: each may use those below it, and not those beside it.
const FLOORS: &[&[&str]] = &[
    &["tollgate"],
    &["server"],
    &["gate"],
    &["billing"],
    &["identity", "credits"],
    &["mail", "hooks", "oidc"],
    &["store"],
    &["kernel"],
];

/// Crates that know Tollgate by HTTP only.
const APART: &[&str] = &["client"];

/// What stands in for the world outside in tests and in `tollgate dev`, and knows nothing of Tollgate.
const STAND_INS: &[&str] = &["till"];

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn dependencies(files: &Files) -> Result<Vec<Broken>, String> {
    let mut broken = Vec::new();
    for (path, text) in &files.all {
        let Some(room) = room_of_manifest(path) else { continue };
        let manifest: toml::Table =
            toml::from_str(text).map_err(|error| format!("{}: {}", path.display(), error.message()))?;
        for (used, for_tests) in rooms_used(&manifest) {
            if let Some(advice) = refuse_dependency(room, &used, for_tests) {
                let line = line_with(text, &used);
                broken.push(Broken {
                    file: path.clone(),
                    line,
                    rule: format!("{room} depends on {used}"),
                    advice,
                });
            }
        }
    }
    Ok(broken)
}

fn room_of_manifest(path: &Path) -> Option<&str> {
    let parts: Vec<&str> = path.iter().filter_map(OsStr::to_str).collect();
    match parts[..] {
        ["crates", room, "Cargo.toml"] => Some(room),
        _ => None,
    }
}

/// The rooms among all kinds of dependencies, also those for one platform, and whether only tests use them.
fn rooms_used(manifest: &toml::Table) -> BTreeSet<(String, bool)> {
    let mut used = BTreeSet::new();
    let mut tables = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table));
    }
    for table in tables {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in table.get(kind).and_then(toml::Value::as_table).into_iter().flatten() {
                let package = value.get("package").and_then(toml::Value::as_str).unwrap_or(name);
                let room = package.strip_prefix("tollgate-").unwrap_or(package);
                let ours = value.get("path").is_some() || value.get("workspace").is_some() || package != room;
                let known = floor_of(room).is_some() || APART.contains(&room) || STAND_INS.contains(&room);
                if ours && known {
                    used.insert((room.to_owned(), kind == "dev-dependencies"));
                }
            }
        }
    }
    used
}

fn refuse_dependency(room: &str, used: &str, for_tests: bool) -> Option<String> {
    if STAND_INS.contains(&room) {
        return (used != "kernel")
            .then(|| format!("{room} stands in for the world outside: it may use kernel"));
    }
    if STAND_INS.contains(&used) {
        return (room != "tollgate" && !for_tests)
            .then(|| format!("{used} is for `tollgate dev` and for tests: make it a dev-dependency"));
    }
    if APART.contains(&room) {
        return Some(format!("{room} stands apart and knows Tollgate by HTTP only"));
    }
    if APART.contains(&used) {
        // The black-box tests drive the binary with what apps use.
        let allowed = room == "tollgate" && for_tests;
        return (!allowed).then(|| format!("{used} is for apps; no room of the server uses it"));
    }
    let order =
        "tollgate → server → gate → billing → {identity, credits} → {mail, hooks, oidc} → store → kernel";
    match (floor_of(room), floor_of(used)) {
        (None, _) => Some(format!("a new room: give {room} its place in xtask/src/house.rs")),
        (Some(above), Some(below)) if above >= below => {
            Some(format!("move what is shared to the right in {order}"))
        }
        _ => None,
    }
}

fn line_with(text: &str, word: &str) -> usize {
    text.lines().position(|line| line.trim_start().starts_with(word)).map_or(1, |index| index + 1)
}

// ---- Rules for Rust files ----

fn rust_rules(files: &Files) -> Vec<Broken> {
    let mut broken: Vec<Broken> = files.rust().filter_map(|(path, _)| refuse_name(path)).collect();
    for (path, source) in files.product() {
        if !path.starts_with("crates/store") {
            broken.extend(unportable_sql(path, &source));
        }
        broken.extend(plain_unwraps(path, &source));
        broken.extend(till_outside_dev(path, &source));
    }
    broken
}

/// `serve` must have no way to what stands in for Stripe: only `dev` names it.
fn till_outside_dev(path: &Path, source: &RustSource) -> Vec<Broken> {
    let allowed =
        ["crates/till", "crates/tollgate/src/commands/dev"].iter().any(|place| path.starts_with(place));
    if allowed || !path.starts_with("crates") {
        return Vec::new();
    }
    source
        .product_lines()
        .filter(|(_, line)| line.contains("till::"))
        .map(|(line, _)| Broken {
            file: path.to_path_buf(),
            line,
            rule: "the till outside `dev`".into(),
            advice: "only crates/tollgate/src/commands/dev and tests may open a till".into(),
        })
        .collect()
}

fn refuse_name(path: &Path) -> Option<Broken> {
    let kinds = ["utils", "util", "helpers", "helper", "types", "models", "common"];
    let named_by_kind = |name: &OsStr| kinds.iter().any(|kind| name == *kind);
    let by_file = path.file_stem().is_some_and(named_by_kind);
    let by_folder = path.parent().is_some_and(|folder| folder.iter().any(named_by_kind));
    (by_file || by_folder).then(|| Broken {
        file: path.to_path_buf(),
        line: 1,
        rule: "a file named after a kind".into(),
        advice: "split by subject: name it after what it is about".into(),
    })
}

fn unportable_sql(path: &Path, source: &RustSource) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (first_line, text) in source.product_strings() {
        for (offset, line) in text.lines().enumerate() {
            if let Some((found, advice)) = unportable(line) {
                broken.push(Broken {
                    file: path.to_path_buf(),
                    line: first_line + offset,
                    rule: format!("`{found}` in SQL outside crates/store"),
                    advice: advice.into(),
                });
            }
        }
    }
    broken
}

fn unportable(line: &str) -> Option<(&'static str, &'static str)> {
    let upper = line.to_uppercase();
    let calls_now = upper.match_indices("NOW()").any(|(at, _)| {
        // `Date.now()` in a script is not SQL.
        !upper[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == '.')
    });
    if calls_now {
        return Some(("now()", "pass `now: Millis` in as a parameter"));
    }
    [
        ("FOR UPDATE", "use a guarded statement, or `tx.lock(…)`"),
        ("= ANY", "use IN with a placeholder for each value"),
        ("->>", "give the member a column of its own"),
    ]
    .into_iter()
    .find(|(word, _)| upper.contains(word))
}

fn plain_unwraps(path: &Path, source: &RustSource) -> Vec<Broken> {
    source
        .product_lines()
        .filter(|(_, line)| line.contains(".unwrap()"))
        .map(|(line, _)| Broken {
            file: path.to_path_buf(),
            line,
            rule: "`.unwrap()` outside tests".into(),
            advice: "return an error, or say why it cannot fail: `.expect(\"…\")`".into(),
        })
        .collect()
}

/// The line count from which a file is probably more than one subject.
const LARGE: usize = 500;

fn large_files(files: &Files) -> Vec<String> {
    files
        .rust()
        .map(|(path, text)| (path, RustSource::read(text).lines_before_tests()))
        .filter(|(_, lines)| *lines > LARGE)
        .map(|(path, lines)| {
            format!("{}: {lines} lines before its tests: is it still one subject?", path.display())
        })
        .collect()
}

// ---- What must not stand in the repository ----

/// Written in halves, so that this file passes its own check.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of somebody's machine: name files from the repository's root"),
    (concat!("/far", "m/"), "a path of somebody's machine: name files from the repository's root"),
    (concat!("../sha", "red"), "lies outside the repository: say it here in our own words"),
    (concat!("artifac", "tory"), "a package registry of somebody's own: leave it to their settings"),
    (concat!("artifact-", "registry"), "a package registry of somebody's own: leave it to their settings"),
];

fn forbidden_words(files: &Files) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (path, text) in &files.all {
        for (index, line) in text.lines().enumerate() {
            for (word, advice) in FORBIDDEN.iter().filter(|(word, _)| stands_alone(line, word)) {
                broken.push(Broken {
                    file: path.clone(),
                    line: index + 1,
                    rule: format!("`{word}` in the repository"),
                    advice: (*advice).into(),
                });
            }
        }
    }
    broken
}

/// Whether an absolute path stands in the line as such, and not as the end of another (`docs/work/`); other words
/// count wherever they stand.
fn stands_alone(line: &str, word: &str) -> bool {
    let inside_a_path =
        |before: char| before.is_alphanumeric() || matches!(before, '.' | '_' | '-' | '}' | '$');
    line.match_indices(word).any(|(at, _)| !word.starts_with('/') || !line[..at].ends_with(inside_a_path))
}

/// A lock file that names a mirror works on one machine only.
fn lock_files(files: &Files) -> Vec<Broken> {
    let mut broken = Vec::new();
    for (path, text) in &files.all {
        let (marker, allowed) = match path.file_name().and_then(OsStr::to_str) {
            Some("package-lock.json") => {
                ("\"resolved\": \"http", "\"resolved\": \"https://registry.npmjs.org/")
            }
            Some("Cargo.lock") => {
                ("source = \"", "source = \"registry+https://github.com/rust-lang/crates.io-index\"")
            }
            _ => continue,
        };
        for (index, line) in text.lines().enumerate() {
            if line.contains(marker) && !line.contains(allowed) {
                broken.push(Broken {
                    file: path.clone(),
                    line: index + 1,
                    rule: "a package from elsewhere".into(),
                    advice: "take packages from the public registry".into(),
                });
            }
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        Files { all: list.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect() }
    }

    fn places(broken: &[Broken]) -> Vec<String> {
        broken.iter().map(|broken| format!("{}:{}", broken.file.display(), broken.line)).collect()
    }

    #[test]
    fn rooms_use_only_rooms_below_them() {
        let files = files(&[
            (
                "crates/identity/Cargo.toml",
                "[dependencies]\nstore.workspace = true\ncredits.workspace = true\n",
            ),
            (
                "crates/store/Cargo.toml",
                "[dev-dependencies]\nmail = { path = \"../mail\", package = \"tollgate-mail\" }\n",
            ),
            ("crates/client/Cargo.toml", "[dependencies]\nkernel.workspace = true\n"),
            (
                "crates/server/Cargo.toml",
                "[dependencies]\nidentity.workspace = true\nserde.workspace = true\n",
            ),
        ]);
        let broken = dependencies(&files).expect("the manifests are TOML");
        assert_eq!(
            places(&broken),
            ["crates/identity/Cargo.toml:3", "crates/store/Cargo.toml:2", "crates/client/Cargo.toml:2"]
        );
    }

    #[test]
    fn a_stand_in_is_for_tollgate_and_for_tests() {
        let files = files(&[
            ("crates/billing/Cargo.toml", "[dev-dependencies]\ntill.workspace = true\n"),
            ("crates/server/Cargo.toml", "[dependencies]\ntill.workspace = true\n"),
            ("crates/till/Cargo.toml", "[dependencies]\nkernel.workspace = true\nstore.workspace = true\n"),
            ("crates/tollgate/Cargo.toml", "[dependencies]\ntill.workspace = true\n"),
        ]);
        let broken = dependencies(&files).expect("the manifests are TOML");
        assert_eq!(places(&broken), ["crates/server/Cargo.toml:2", "crates/till/Cargo.toml:3"]);
    }

    #[test]
    fn only_the_tests_of_the_binary_use_what_apps_use() {
        let uses = |kind: &str| format!("[{kind}]\ntollgate-client = {{ path = \"../client\" }}\n");
        for (room, kind, broken) in [
            ("tollgate", "dev-dependencies", 0),
            ("tollgate", "dependencies", 1),
            ("server", "dev-dependencies", 1),
        ] {
            let manifest = uses(kind);
            let found = dependencies(&files(&[(&format!("crates/{room}/Cargo.toml"), &manifest)]));
            assert_eq!(found.expect("the manifest is TOML").len(), broken, "{room} {kind}");
        }
    }

    #[test]
    fn a_new_room_needs_a_place() {
        let files = files(&[("crates/attic/Cargo.toml", "[dependencies]\nstore.workspace = true\n")]);
        let broken = dependencies(&files).expect("the manifest is TOML");
        assert!(broken[0].advice.contains("give attic its place"), "{}", broken[0]);
    }

    #[test]
    fn unportable_sql_is_found_in_strings_outside_the_store_and_tests() {
        let sql = "const A: &str = \"SELECT 1\n  WHERE x < now()\";\nfn f() { Clock::now() }\n// FOR UPDATE\n\
                   const B: &str = \"Date.now()\";\n#[cfg(test)]\nconst C: &str = \"a ->> b\";\n";
        let files = files(&[("crates/mail/src/outbox.rs", sql), ("crates/store/src/tx.rs", sql)]);
        assert_eq!(places(&rust_rules(&files)), ["crates/mail/src/outbox.rs:2"]);
    }

    #[test]
    fn plain_unwraps_are_for_tests() {
        let files = files(&[
            (
                "crates/mail/src/lib.rs",
                "#[cfg(test)]\nmod storms;\nfn f() {\n    x.unwrap();\n    \"y.unwrap()\";\n}\n",
            ),
            ("crates/mail/src/storms.rs", "fn f() { x.unwrap() }\n"),
            ("crates/mail/tests/door.rs", "fn f() { x.unwrap() }\n"),
        ]);
        assert_eq!(places(&rust_rules(&files)), ["crates/mail/src/lib.rs:4"]);
    }

    #[test]
    fn only_dev_has_a_way_to_the_till() {
        let source = "use till::Till;\n#[cfg(test)]\nmod tests {\n    use till::Till;\n}\n";
        let files = files(&[
            ("crates/tollgate/src/commands/dev/stand_in.rs", source),
            ("crates/tollgate/src/commands/serve.rs", source),
            ("crates/tollgate/src/process.rs", "fn f() { let x = ::till::Till::start; }\n"),
            ("crates/tollgate/tests/blackbox/shop.rs", source),
        ]);
        assert_eq!(
            places(&rust_rules(&files)),
            ["crates/tollgate/src/commands/serve.rs:1", "crates/tollgate/src/process.rs:1"]
        );
    }

    #[test]
    fn files_are_named_after_subjects() {
        assert!(refuse_name(Path::new("crates/mail/src/utils.rs")).is_some());
        assert!(refuse_name(Path::new("crates/mail/src/common/mod.rs")).is_some());
        assert!(refuse_name(Path::new("crates/mail/src/outbox.rs")).is_none());
    }

    #[test]
    fn paths_of_a_machine_do_not_pass() {
        let (path, outside) = (FORBIDDEN[0].0, FORBIDDEN[2].0);
        let text = format!("see {path}main\ndocs{path}plan\nand {outside}/facts\n");
        assert_eq!(places(&forbidden_words(&files(&[("README.md", &text)]))), ["README.md:1", "README.md:3"]);
    }

    #[test]
    fn lock_files_name_the_public_registry() {
        let lock = "\"resolved\": \"https://registry.npmjs.org/a.tgz\"\n\"resolved\": \"https://mirror.example/b.tgz\"\n";
        assert_eq!(
            places(&lock_files(&files(&[("sdk/package-lock.json", lock)]))),
            ["sdk/package-lock.json:2"]
        );
    }

    #[test]
    fn large_files_are_counted_without_their_tests() {
        let code = "fn f() {}\n".repeat(LARGE);
        let tests = "#[cfg(test)]\nmod tests {\n\n\n\n}\n";
        let files =
            files(&[("a.rs", &format!("{code}{tests}")), ("b.rs", &format!("{code}fn g() {{}}\n{tests}"))]);
        let warnings = large_files(&files);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("b.rs: 501 lines"), "{warnings:?}");
    }
}
