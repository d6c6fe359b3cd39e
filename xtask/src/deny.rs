//! Bans, licences and sources of every dependency, checked against `deny.toml` from `cargo metadata`, so that no tool
//! has to be built for it. Where cargo-deny is installed it runs as well and adds the advisories.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Outcome, shell, spdx};

pub const USAGE: &str =
    "deny                              licences, bans and sources of all dependencies, by deny.toml";

pub fn run(arguments: &[String]) -> Outcome {
    if !arguments.is_empty() {
        return Err(format!("Usage: cargo xtask {USAGE}"));
    }
    check()
}

pub fn check() -> Outcome {
    let policy = std::fs::read_to_string("deny.toml").map_err(|error| format!("deny.toml: {error}"))?;
    let policy = Policy::read(&policy)?;
    let packages = packages()?;
    let refused: Vec<String> = packages.iter().flat_map(|package| policy.refuse(package)).collect();
    for line in several_versions(&packages) {
        println!("warning: {line}");
    }
    if !refused.is_empty() {
        return Err(format!("{}\n{} problems with dependencies", refused.join("\n"), refused.len()));
    }
    println!("{} packages agree with deny.toml", packages.len());
    cargo_deny()
}

struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    /// `None` for a crate of this repository.
    source: Option<String>,
}

fn packages() -> Result<Vec<Package>, String> {
    let mut command = shell::cargo();
    command.args(["metadata", "--format-version", "1", "--locked", "--all-features"]);
    let metadata: Value = serde_json::from_str(&shell::output(&mut command)?)
        .map_err(|error| format!("cargo metadata is not JSON: {error}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    packages.iter().map(Package::read).collect()
}

impl Package {
    fn read(value: &Value) -> Result<Package, String> {
        let text = |member: &str| value[member].as_str().map(str::to_owned);
        Ok(Package {
            name: text("name").ok_or("cargo metadata has a package without a name")?,
            version: text("version").unwrap_or_default(),
            licence: text("license"),
            source: text("source"),
        })
    }
}

/// What `deny.toml` says, as far as it is checked here.
struct Policy {
    licences: Vec<String>,
    exceptions: BTreeMap<String, Vec<String>>,
    bans: BTreeMap<String, String>,
    registries: Vec<String>,
}

impl Policy {
    fn read(text: &str) -> Result<Policy, String> {
        let table: toml::Table =
            toml::from_str(text).map_err(|error| format!("deny.toml: {}", error.message()))?;
        let list = |section: &str, key: &str| -> Result<Vec<toml::Value>, String> {
            let value = table.get(section).and_then(|section| section.get(key));
            let list = value.and_then(toml::Value::as_array);
            list.cloned().ok_or_else(|| format!("deny.toml: [{section}] has no list `{key}`"))
        };
        let mut policy = Policy {
            licences: texts(&list("licenses", "allow")?),
            exceptions: BTreeMap::new(),
            bans: BTreeMap::new(),
            registries: texts(&list("sources", "allow-registry")?),
        };
        for entry in list("licenses", "exceptions")? {
            let licences = entry
                .get("allow")
                .and_then(toml::Value::as_array)
                .map(|list| texts(list))
                .unwrap_or_default();
            policy.exceptions.insert(crate_of(&entry)?, licences);
        }
        for entry in list("bans", "deny")? {
            let reason = entry.get("reason").and_then(toml::Value::as_str).unwrap_or("see deny.toml");
            policy.bans.insert(crate_of(&entry)?, reason.to_owned());
        }
        Ok(policy)
    }

    fn refuse(&self, package: &Package) -> Vec<String> {
        let mut refused = Vec::new();
        let name = format!("{} {}", package.name, package.version);
        if let Some(reason) = self.bans.get(&package.name) {
            refused.push(format!(
                "{name} is banned ({reason}); see who brings it: cargo tree -i {}",
                package.name
            ));
        }
        // Our own crates come from here and carry our licence.
        let Some(source) = &package.source else { return refused };
        let known = source
            .strip_prefix("registry+")
            .is_some_and(|url| self.registries.iter().any(|known| known == url));
        if !known {
            refused.push(format!("{name} comes from {source}, which deny.toml does not allow"));
        }
        let allowed = |licence: &str| {
            let excepted = self.exceptions.get(&package.name).into_iter().flatten();
            self.licences.iter().chain(excepted).any(|known| known == licence)
        };
        match &package.licence {
            None => refused.push(format!("{name} names no licence")),
            Some(licence) => match spdx::satisfied(licence, &allowed) {
                Ok(true) => {}
                Ok(false) => refused.push(format!("{name}: {licence} is not allowed by deny.toml")),
                Err(error) => refused.push(format!("{name}: {error}")),
            },
        }
        refused
    }
}

fn texts(list: &[toml::Value]) -> Vec<String> {
    list.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

fn crate_of(entry: &toml::Value) -> Result<String, String> {
    let name = entry.get("crate").and_then(toml::Value::as_str);
    name.map(str::to_owned).ok_or_else(|| format!("deny.toml: an entry names no crate: {entry}"))
}

fn several_versions(packages: &[Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    let several = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    several
        .map(|(name, versions)| {
            format!("{name} is there in {} versions: {}", versions.len(), versions.join(", "))
        })
        .collect()
}

/// The real tool, when it is there. Its advisories come from the network; without that they are left out, and said so.
fn cargo_deny() -> Outcome {
    if shell::find_program("cargo-deny").is_none() {
        println!(
            "cargo-deny is not installed: advisories are not checked (cargo install cargo-deny --locked)"
        );
        return Ok(());
    }
    shell::run(shell::cargo().args(["deny", "check", "bans", "licenses", "sources"]))?;
    match shell::output(shell::cargo().args(["deny", "check", "advisories"])) {
        Ok(_) => Ok(()),
        Err(error) if error.contains("failed to fetch advisory database") => {
            println!("the advisory database is out of reach: advisories are not checked");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"
[licenses]
allow = ["MIT"]
exceptions = [{ crate = "special", allow = ["MPL-2.0"] }]
[bans]
deny = [{ crate = "openssl", reason = "we have rustls" }]
[sources]
allow-registry = ["https://registry.example/index"]
"#;

    fn refused(name: &str, licence: Option<&str>, source: Option<&str>) -> usize {
        let policy = Policy::read(POLICY).expect("the policy is well formed");
        let package = Package {
            name: name.into(),
            version: "1.0.0".into(),
            licence: licence.map(Into::into),
            source: source.map(Into::into),
        };
        policy.refuse(&package).len()
    }

    #[test]
    fn bans_licences_and_sources_are_each_refused() {
        let registry = Some("registry+https://registry.example/index");
        assert_eq!(refused("good", Some("MIT OR GPL-3.0"), registry), 0);
        assert_eq!(refused("openssl", Some("MIT"), registry), 1);
        assert_eq!(refused("copyleft", Some("MPL-2.0"), registry), 1);
        assert_eq!(refused("special", Some("MPL-2.0"), registry), 0);
        assert_eq!(refused("silent", None, registry), 1);
        assert_eq!(refused("stranger", Some("MIT"), Some("git+https://example.com/x")), 1);
        assert_eq!(refused("our-own", None, None), 0);
    }

    #[test]
    fn a_policy_without_its_lists_is_an_error() {
        assert!(Policy::read("[licenses]\nallow = []\n").is_err());
    }

    #[test]
    fn the_policy_of_this_repository_can_be_read() {
        let policy = Policy::read(include_str!("../../deny.toml")).expect("deny.toml is well formed");
        assert!(policy.bans.contains_key("openssl-sys") && !policy.registries.is_empty());
    }
}
