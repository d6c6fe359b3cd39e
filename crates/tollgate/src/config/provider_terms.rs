//! `[providers.NAME]`: where else people may sign in. What stands here is judged by the names of the well-known kinds, so
//! that a provider that cannot work is told of at start and not at the first sign-in.

use super::Builder;
use super::nearest::nearest;
use super::value::{Checked, Misfit, misfit, shown};
use kernel::Secret;
use oidc::apple::SigningKey;
use oidc::provider::RESERVED;
use oidc::wire::address;
use oidc::{Kind, Settings};
use std::path::Path;
use toml::{Table, Value as Toml};

const MEMBERS: [&str; 24] = [
    "kind",
    "client_id",
    "client_secret",
    "client_secret_file",
    "audiences",
    "issuer",
    "tenant",
    "authorization_url",
    "token_url",
    "user_info_url",
    "end_session_url",
    "scopes",
    "prompt",
    "hosted_domain",
    "parameters",
    "trusted",
    "sign_up",
    "implicit_sign_up",
    "sign_out_there",
    "team_id",
    "key_id",
    "private_key",
    "private_key_file",
    "enabled",
];
/// What an account may be of besides a provider's.
const TAKEN: [&str; 6] = ["credential", "email", "email-otp", "magic-link", "passkey", "anonymous"];
const PATH: &str = "providers";

impl Builder {
    pub(super) fn provider_terms(&mut self) -> Vec<Settings> {
        let folder = self.folder.clone();
        let found = self.priced(PATH, |name, value| provider(name, value, &folder));
        found.into_values().flatten().collect()
    }
}

/// One provider's members, with what to call it in a message. Values are never repeated: secrets stand among them.
struct Members<'a> {
    table: &'a Table,
    name: &'a str,
    folder: &'a Path,
}

impl Members<'_> {
    fn wrong(&self, what: &str, fix: impl Into<String>) -> Misfit {
        misfit(format!("The provider `{}` {what}.", shown(self.name)), fix)
    }

    fn text(&self, member: &str) -> Checked<Option<String>> {
        match self.table.get(member) {
            None => Ok(None),
            Some(Toml::String(text)) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Some(_) => {
                Err(self
                    .wrong(&format!("has a {member} that is no text"), format!("Write {member} = \"…\".")))
            }
        }
    }

    /// In a variable every value is a text.
    fn flag(&self, member: &str, default: bool) -> Checked<bool> {
        let read = match self.table.get(member) {
            None => Some(default),
            Some(Toml::Boolean(flag)) => Some(*flag),
            Some(Toml::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        let fix = format!("Write {member} = true or {member} = false.");
        read.ok_or_else(|| self.wrong(&format!("has a {member} that is neither true nor false"), fix))
    }

    fn list(&self, member: &str) -> Checked<Vec<String>> {
        let texts = match self.table.get(member) {
            None => Some(Vec::new()),
            Some(Toml::String(text)) => Some(text.split(',').map(|part| part.trim().to_owned()).collect()),
            Some(Toml::Array(items)) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            Some(_) => None,
        };
        let plain = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let texts: Option<Vec<String>> = texts.filter(|texts| texts.iter().all(plain));
        let fix = format!("Write {member} = [\"first\", \"second\"].");
        texts.ok_or_else(|| self.wrong(&format!("has {member} that are no list of words"), fix))
    }

    /// A secret that stands here or in a file of its own.
    fn secret(&self, member: &str) -> Checked<Option<Secret<String>>> {
        let in_file = format!("{member}_file");
        match (self.text(member)?, self.text(&in_file)?) {
            (None, None) => Ok(None),
            (Some(text), None) => Ok(Some(Secret::new(text))),
            (None, Some(name)) => {
                let file = self.folder.join(name);
                let unread = |error: std::io::Error| {
                    let what =
                        format!("names the file {}, which cannot be read: {}", file.display(), error.kind());
                    self.wrong(
                        &what,
                        "Make it readable for the user that runs Tollgate, or correct the name.",
                    )
                };
                let text = std::fs::read_to_string(&file).map_err(unread)?;
                Ok(Some(Secret::new(text.trim().to_owned())))
            }
            (Some(_), Some(_)) => {
                Err(self.wrong(&format!("has both {member} and {in_file}"), "Keep one of them."))
            }
        }
    }

    fn url(&self, member: &str) -> Checked<Option<String>> {
        let Some(text) = self.text(member)? else { return Ok(None) };
        let fix = "Write https://HOST/PATH; http only for an address of this machine.";
        match address(&text) {
            Some(url) if url.fragment().is_none() => Ok(Some(text)),
            _ => Err(self.wrong(&format!("has a {member} that secrets may not be sent to"), fix)),
        }
    }

    fn kind(&self) -> Checked<Kind> {
        let named = self.text("kind")?;
        let name = named.as_deref().unwrap_or(self.name);
        let kinds = Kind::ALL.map(|(_, name)| name);
        Kind::parse(name).ok_or_else(|| match (&named, nearest(name, kinds.into_iter())) {
            (Some(_), Some(meant)) => self.wrong("has an unknown kind", format!("Did you mean \"{meant}\"?")),
            _ => self.wrong("has no known kind", format!("Write kind = one of {}.", kinds.join(", "))),
        })
    }

    fn parameters(&self) -> Checked<Vec<(String, String)>> {
        let wrong = || {
            self.wrong(
                "has parameters that are no texts by name",
                "Write parameters = { access_type = \"offline\" }.",
            )
        };
        let Some(value) = self.table.get("parameters") else { return Ok(Vec::new()) };
        let mut read = Vec::new();
        for (name, value) in value.as_table().ok_or_else(wrong)? {
            if RESERVED.contains(&name.as_str()) {
                let what = format!("has the parameter `{name}`, which binds a sign-in");
                return Err(self.wrong(&what, "Leave it out: it is set for each sign-in."));
            }
            read.push((name.clone(), value.as_str().ok_or_else(wrong)?.to_owned()));
        }
        Ok(read)
    }

    /// What Apple gives out in place of a secret.
    fn signing_key(&self) -> Checked<Option<SigningKey>> {
        let parts = (self.text("team_id")?, self.text("key_id")?, self.secret("private_key")?);
        let fix = "Write team_id, key_id and private_key_file = \"AuthKey_….p8\", as Apple gave them out.";
        match parts {
            (None, None, None) => Ok(None),
            (Some(team), Some(id), Some(pem)) => {
                let key = SigningKey::read(&team, &id, &pem);
                key.map(Some).ok_or_else(|| self.wrong("has a private_key that is no key of Apple's", fix))
            }
            _ => Err(self.wrong("lacks one of team_id, key_id and private_key", fix)),
        }
    }
}

/// `None` for one that is switched off.
fn provider(name: &str, value: &Toml, folder: &Path) -> Checked<Option<Settings>> {
    let good = (1..=32).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    if !good || TAKEN.contains(&name) {
        let fix =
            "Write a name of its own of 1 to 32 of a to z, 0 to 9, `-` and `_`, such as [providers.company].";
        return Err(misfit(format!("`{}` cannot name a provider.", shown(name)), fix));
    }
    let form = "Write [providers.google] and below it client_id and client_secret.";
    let table = value.as_table();
    let table = table.ok_or_else(|| misfit(format!("The provider `{name}` is no table."), form))?;
    let members = Members { table, name, folder };
    if let Some(stranger) = table.keys().find(|member| !MEMBERS.contains(&member.as_str())) {
        let what = format!("has an unknown member `{}`", shown(stranger));
        let fix = match nearest(stranger, MEMBERS.into_iter()) {
            Some(meant) => format!("Did you mean `{meant}`?"),
            None => "docs/reference/providers.md lists what it may have.".to_owned(),
        };
        return Err(members.wrong(&what, fix));
    }
    if !members.flag("enabled", true)? {
        return Ok(None);
    }
    read(&members).map(Some)
}

fn read(members: &Members<'_>) -> Checked<Settings> {
    let kind = members.kind()?;
    let missing = || members.wrong("has no client_id", "Write the id that the provider gave the app.");
    let client_id = members.text("client_id")?.ok_or_else(missing)?;
    // A name is as long-lived as the program, which reads its configuration once.
    let id: &'static str = members.name.to_owned().leak();
    let issuer = members.url("issuer")?.map(|url| url.trim_end_matches('/').to_owned());
    let settings = Settings {
        client_secret: members.secret("client_secret")?,
        apple: members.signing_key()?,
        audiences: members.list("audiences")?,
        issuer,
        tenant: members.text("tenant")?,
        authorization_url: members.url("authorization_url")?,
        token_url: members.url("token_url")?,
        user_info_url: members.url("user_info_url")?,
        end_session_url: members.url("end_session_url")?,
        scopes: members.list("scopes")?,
        prompt: members.text("prompt")?,
        hosted_domain: members.text("hosted_domain")?,
        parameters: members.parameters()?,
        trusted: members.flag("trusted", false)?,
        sign_up: members.flag("sign_up", true)?,
        implicit_sign_up: members.flag("implicit_sign_up", true)?,
        sign_out_there: members.flag("sign_out_there", kind == Kind::Oidc)?,
        ..Settings::new(id, kind, client_id)
    };
    complete(members, &settings)?;
    Ok(settings)
}

/// What a kind cannot do without, and what means nothing to it.
fn complete(members: &Members<'_>, settings: &Settings) -> Checked<()> {
    let kind = settings.kind;
    let has_secret = settings.client_secret.is_some() || settings.apple.is_some();
    if !has_secret && !matches!(kind, Kind::Oidc | Kind::Oauth2 | Kind::Microsoft) {
        let fix = match kind {
            Kind::Apple => "Write team_id, key_id and private_key_file, as Apple gave them out.",
            _ => "Write client_secret, or client_secret_file for a file that holds nothing else.",
        };
        return Err(members.wrong("has no client_secret", fix));
    }
    if kind == Kind::Oidc && settings.issuer.is_none() {
        let fix =
            "Write issuer = \"https://id.example.com\": below it lies /.well-known/openid-configuration.";
        return Err(members.wrong("has no issuer", fix));
    }
    if !kind.is_discovered() && oidc::discovery::fixed(settings).is_none() {
        let fix = "Write authorization_url, token_url and user_info_url.";
        return Err(members.wrong("lacks one of its three addresses", fix));
    }
    let plain = |tenant: &String| {
        tenant.len() <= 253 && tenant.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
    };
    if settings.tenant.as_ref().is_some_and(|tenant| kind != Kind::Microsoft || !plain(tenant)) {
        let fix = "At Microsoft it is \"common\", \"organizations\", \"consumers\" or a directory's id; others have none.";
        return Err(members.wrong("has a tenant that is none", fix));
    }
    for (member, given, of) in [
        ("hosted_domain", settings.hosted_domain.is_some(), Kind::Google),
        ("team_id", settings.apple.is_some(), Kind::Apple),
    ] {
        if given && kind != of {
            return Err(members.wrong(&format!("has a {member}, which means nothing to it"), "Leave it out."));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::source::Environment;
    use super::super::{Loaded, load};
    use super::*;

    fn with_terms(text: &str, environment: &[(&str, &str)]) -> Loaded {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tollgate.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("secret"), "from-a-file\n").unwrap();
        load(Some(&path), &Environment::from(environment))
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        let problems = with_terms(text, &[]).problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        let told = format!("{}: {} {}", problems[0].setting, problems[0].what, problems[0].fix);
        assert!(!told.contains("hunter2"), "{told}");
        told
    }

    const GOOGLE: &str = "[providers.google]\nclient_id = \"id\"\nclient_secret = \"hunter2\"\n";

    #[test]
    fn a_well_known_provider_needs_its_id_and_secret() {
        let loaded = with_terms(GOOGLE, &[]);
        assert_eq!(loaded.problems, []);
        let google = &loaded.config.providers[0];
        assert_eq!((google.id, google.kind, google.sign_up), ("google", Kind::Google, true));
        assert!(!google.trusted && google.client_secret.as_ref().unwrap().expose() == "hunter2");
        assert!(!format!("{:?}", loaded.config).contains("hunter2"));
        let off = with_terms(&format!("{GOOGLE}enabled = false\n"), &[]);
        assert!(off.problems.is_empty() && off.config.providers.is_empty());
    }

    #[test]
    fn a_provider_of_ones_own_is_named_and_described() {
        let text = "[providers.company]\nkind = \"oidc\"\nissuer = \"https://id.example.com/\"\nclient_id = \"id\"\n\
            client_secret_file = \"secret\"\nscopes = [\"openid\", \"email\"]\nimplicit_sign_up = false\ntrusted = true\n\
            parameters = { access_type = \"offline\" }\n";
        let loaded = with_terms(text, &[]);
        assert_eq!(loaded.problems, []);
        let own = &loaded.config.providers[0];
        assert_eq!(own.issuer.as_deref(), Some("https://id.example.com"));
        assert_eq!(own.client_secret.as_ref().unwrap().expose(), "from-a-file");
        assert!(own.trusted && own.sign_up && !own.implicit_sign_up && own.sign_out_there);
        assert_eq!(own.parameters, [("access_type".to_owned(), "offline".to_owned())]);
    }

    #[test]
    fn variables_add_to_the_file_and_win() {
        let environment = [
            ("TOLLGATE_PROVIDERS__GOOGLE__CLIENT_SECRET", "from the environment"),
            ("TOLLGATE_PROVIDERS__GITHUB__CLIENT_ID", "id"),
            ("TOLLGATE_PROVIDERS__GITHUB__CLIENT_SECRET", "s"),
            ("TOLLGATE_PROVIDERS__GITHUB__SIGN_UP", "false"),
            ("TOLLGATE_PROVIDERS__GITHUB__SCOPES", "repo, gist"),
        ];
        let loaded = with_terms(GOOGLE, &environment);
        assert_eq!(loaded.problems, []);
        let [github, google] = &loaded.config.providers[..] else { panic!("two providers") };
        assert_eq!(google.client_secret.as_ref().unwrap().expose(), "from the environment");
        assert!(!github.sign_up && github.scopes == ["repo", "gist"]);
    }

    #[test]
    fn mistakes_are_told_with_what_to_write() {
        assert!(refused("[providers.google]\nclient_id = \"id\"\n").contains("no client_secret"));
        assert!(refused("[providers.google]\nclient_secret = \"hunter2\"\n").contains("no client_id"));
        assert!(refused(&GOOGLE.replace("google", "gogle")).contains("no known kind"));
        assert!(refused(&format!("{GOOGLE}kind = \"gogle\"\n")).contains("Did you mean \"google\"?"));
        assert!(
            refused(&format!("{GOOGLE}client_sceret = \"x\"\n")).contains("Did you mean `client_secret`?")
        );
        assert!(refused(&format!("{GOOGLE}tenant = \"x\"\n")).contains("tenant that is none"));
        assert!(refused(&format!("{GOOGLE}client_secret_file = \"secret\"\n")).contains("both"));
        assert!(refused(&format!("{GOOGLE}parameters = {{ state = \"x\" }}\n")).contains("binds a sign-in"));
        assert!(refused(&GOOGLE.replace("google", "credential")).contains("cannot name a provider"));
        assert!(refused("[providers.x]\nkind = \"oidc\"\nclient_id = \"id\"\n").contains("no issuer"));
        assert!(
            refused("[providers.x]\nkind = \"oauth2\"\nclient_id = \"id\"\n").contains("three addresses")
        );
        let plain =
            "[providers.x]\nkind = \"oidc\"\nclient_id = \"id\"\nissuer = \"http://id.example.com\"\n";
        assert!(refused(plain).contains("secrets may not be sent to"));
        let apple = "[providers.apple]\nclient_id = \"id\"\nteam_id = \"T\"\nkey_id = \"K\"\nprivate_key = \"hunter2\"\n";
        assert!(refused(apple).contains("no key of Apple's"));
    }
}
