//! The configuration: what `tollgate.toml` and the environment say, with defaults, as typed fields.
//!
//! Loading never stops at the first mistake. A value that does not fit is reported and replaced by its default, so that
//! `serve` and `doctor` can list it together with everything else that is wrong.

pub mod authjs_terms;
mod credit_terms;
pub mod document;
pub mod duration;
mod gate_rules;
pub mod guest_terms;
pub mod keys;
mod nearest;
mod provider_terms;
pub mod source;
mod stripe_terms;
mod value;

pub use source::{Environment, Place};

use crate::data_folder::SECRETS;
use crate::problem::Problem;
use authjs_terms::AuthJs;
use guest_terms::Guest;
use kernel::{Secret, TrustedOrigins, TrustedProxies};
use keys::{Default_, Key};
use mail::{Sender, Smtp};
use server::settings::{
    ApiKeySettings, DeviceSettings, JwtSettings, MethodSettings, OrganizationSettings, Switch,
};
use source::Gathered;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use stripe_terms::Stripe;
use value::Value;

pub const DEFAULT_FILE: &str = "tollgate.toml";

#[derive(Debug, Clone)]
pub struct Config {
    /// `None`: not configured.
    pub base_url: Option<String>,
    pub listen: SocketAddr,
    pub app_name: String,
    pub secrets: Vec<Secret<String>>,
    pub database: DatabaseUrl,
    pub redis_url: Option<Secret<String>>,
    pub trusted_origins: Vec<String>,
    pub trusted_proxies: TrustedProxies,
    pub cookies: Cookies,
    pub session: Session,
    pub authjs: AuthJs,
    pub email_password: EmailPassword,
    pub accounts: Accounts,
    pub methods: MethodSettings,
    pub api_keys: ApiKeySettings,
    pub device: DeviceSettings,
    pub jwt: JwtSettings,
    pub organizations: OrganizationSettings,
    pub passkey: Passkey,
    pub credits: credits::Settings,
    pub gate: gate::rules::Rules,
    pub guest: Guest,
    pub stripe: Stripe,
    pub providers: Vec<oidc::Settings>,
    pub mail: Mail,
    pub hooks: Hooks,
    pub rate_limit: RateLimit,
    pub retention: Retention,
    pub pool_size: Option<usize>,
    pub operations_listen: Option<SocketAddr>,
    pub log: String,
    pub log_as_json: bool,
    /// Where settings were read that were not left at their default.
    places: Vec<(&'static str, Place)>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum DatabaseUrl {
    Sqlite(PathBuf),
    Postgres(Secret<String>),
}

/// `None`: as base_url and app_name say.
#[derive(Debug, Clone)]
pub struct Passkey {
    pub rp_id: Option<String>,
    pub rp_name: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Cookies {
    pub domain: Option<String>,
    /// `None`: as base_url's scheme says.
    pub secure: Option<bool>,
    pub same_site: SameSite,
    pub prefix: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    Lax,
    Strict,
    None,
}

/// Milliseconds.
#[derive(Debug, Clone)]
pub struct Session {
    pub expires_in: i64,
    pub update_age: i64,
    pub fresh_age: i64,
    pub defer_refresh: bool,
}

#[derive(Debug, Clone)]
pub struct EmailPassword {
    pub enabled: bool,
    pub sign_up: bool,
    pub require_verification: bool,
    pub auto_sign_in: bool,
    pub auto_sign_in_after_verification: bool,
    pub min_length: usize,
    pub max_length: usize,
    pub revoke_sessions_on_reset: bool,
    pub refuse_common: bool,
    pub notify_taken: bool,
}

#[derive(Debug, Clone)]
pub struct Accounts {
    pub change_email: bool,
    pub delete_user: bool,
    pub delete_needs_mail: bool,
}

#[derive(Debug, Clone)]
pub struct Mail {
    pub transport: Transport,
    pub from: Option<String>,
    pub templates: Option<PathBuf>,
    pub credit_notices: bool,
}

#[derive(Debug, Clone)]
pub struct Hooks {
    /// Events may go to addresses that are not on the public Internet.
    pub allow_private: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Transport {
    Unset,
    /// `smtp_url = "none"`: nothing is sent, on purpose.
    Nothing,
    Smtp(Secret<String>),
}

#[derive(Debug, Clone)]
pub struct RateLimit {
    /// `None`: on in `serve`, off in `dev`.
    pub enabled: Option<bool>,
    /// Path, window in milliseconds, requests allowed in it.
    pub rules: Vec<(String, i64, i64)>,
}

/// Milliseconds.
#[derive(Debug, Clone)]
pub struct Retention {
    pub ended_sessions: i64,
    pub one_time_values: i64,
    pub sent_mails: i64,
    pub billing_events: i64,
    pub hook_events: i64,
}

#[derive(Debug)]
pub struct Loaded {
    /// Sound where no problem is reported.
    pub config: Config,
    pub problems: Vec<Problem>,
    /// The file could not be read as TOML, so what seems to be missing may stand in it.
    pub unreadable: bool,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
}

/// Reads the file named on the command line or by `TOLLGATE_CONFIG`, else `tollgate.toml` if it is there; then the
/// environment.
pub fn load(named: Option<&Path>, environment: &Environment) -> Loaded {
    let mut gathered = Gathered::default();
    let named = named.map(Path::to_owned).or_else(|| environment.get("TOLLGATE_CONFIG").map(PathBuf::from));
    let file = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let mut read = None;
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            source::read_file(&mut gathered, &file, &text);
            read = Some(file.clone());
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {}
        Err(error) => {
            let what = format!("The configuration file {} cannot be read: {}.", file.display(), error.kind());
            let fix = "Name the right file with --config, or write one with `tollgate init`.";
            gathered.problems.push(Problem::new("--config", what, fix));
            gathered.unreadable = true;
        }
    }
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    source::read_environment(&mut gathered, environment, Path::new(""));
    let unreadable = gathered.unreadable;
    let mut builder = Builder { gathered, folder };
    let mut config = builder.build();
    builder.find_secrets_beside_database(&mut config);
    Loaded { config, problems: builder.gathered.problems, unreadable, file: read }
}

impl Config {
    /// Where a setting was read; `None` when it has its default.
    pub fn place(&self, path: &str) -> Option<&Place> {
        self.places.iter().find(|(known, _)| *known == path).map(|(_, place)| place)
    }

    /// Whether the secrets were configured, not merely found beside the database.
    pub fn names_secrets(&self) -> bool {
        match self.place("secrets") {
            Some(Place::SecretFile { named_by, .. }) => named_by != BESIDE_DATABASE,
            place => place.is_some(),
        }
    }
}

/// What names the secrets file that lies beside the database.
const BESIDE_DATABASE: &str = "database_url";

struct Builder {
    gathered: Gathered,
    folder: PathBuf,
}

impl Builder {
    fn build(&mut self) -> Config {
        let credits = self.credit_terms();
        let stripe = self.stripe_terms(&credits.units);
        let guest = self.guest_terms();
        let config = Config {
            base_url: self.optional_text("base_url"),
            listen: self.address("listen").unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8655))),
            app_name: self.text("app_name"),
            secrets: self.secrets(),
            database: self.database(),
            redis_url: self.redis_url(),
            trusted_origins: self.origins(),
            trusted_proxies: self.proxies(),
            cookies: self.cookies(),
            session: Session {
                expires_in: self.duration("session.expires_in"),
                update_age: self.duration("session.update_age"),
                fresh_age: self.duration("session.fresh_age"),
                defer_refresh: self.flag("session.defer_refresh"),
            },
            authjs: self.authjs_terms(),
            email_password: self.email_password(),
            accounts: Accounts {
                change_email: self.flag("accounts.change_email"),
                delete_user: self.flag("accounts.delete_user"),
                delete_needs_mail: self.flag("accounts.delete_needs_mail"),
            },
            methods: self.methods(),
            api_keys: ApiKeySettings {
                rate_limit: (
                    self.count("api_keys.rate_limit_max") as i64,
                    self.duration("api_keys.rate_limit_window"),
                ),
            },
            passkey: Passkey {
                rp_id: self.optional_text("passkey.rp_id"),
                rp_name: self.optional_text("passkey.rp_name"),
            },
            organizations: self.organizations(),
            device: DeviceSettings { interval: self.duration("device.interval") },
            jwt: JwtSettings {
                expires_in: self.duration("jwt.expires_in"),
                rotate_every: self.duration("jwt.rotate_every"),
            },
            gate: self.gate_rules(&credits.features, &guest.allowances.actions, &stripe.catalogue),
            stripe,
            providers: self.provider_terms(),
            credits,
            guest,
            mail: self.mail(),
            hooks: Hooks { allow_private: self.flag("hooks.allow_private") },
            rate_limit: RateLimit { enabled: self.optional_flag("rate_limit.enabled"), rules: self.rules() },
            retention: Retention {
                ended_sessions: self.duration("retention.ended_sessions"),
                one_time_values: self.duration("retention.one_time_values"),
                sent_mails: self.duration("retention.sent_mails"),
                billing_events: self.duration("retention.billing_events"),
                hook_events: self.duration("retention.hook_events"),
            },
            pool_size: self.optional_count("database.pool_size"),
            operations_listen: self.address("operations.listen"),
            log: self.log(),
            log_as_json: self.text("telemetry.format") == "json",
            places: self.gathered.values.iter().map(|(path, (_, place))| (*path, place.clone())).collect(),
        };
        self.compare(&config);
        config
    }

    /// The value that was found, else the default.
    fn value(&self, path: &str) -> Option<Value> {
        if let Some((value, _)) = self.gathered.values.get(path) {
            return Some(value.clone());
        }
        let key = Key::find(path).expect("only paths of the table are asked for, as a test proves");
        match key.default {
            Default_::Is(text) => {
                Some(value::from_text(key, text).expect("defaults are valid, as a test proves"))
            }
            Default_::Unset(_) => None,
        }
    }

    fn optional_text(&self, path: &str) -> Option<String> {
        match self.value(path) {
            Some(Value::Text(text)) => Some(text).filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    fn text(&self, path: &str) -> String {
        self.optional_text(path).unwrap_or_default()
    }

    fn secret_text(&self, path: &str) -> Option<Secret<String>> {
        match self.value(path) {
            Some(Value::SecretText(text)) => Some(text).filter(|text| !text.expose().is_empty()),
            _ => None,
        }
    }

    fn secrets(&self) -> Vec<Secret<String>> {
        match self.value("secrets") {
            Some(Value::SecretList(secrets)) => secrets,
            _ => Vec::new(),
        }
    }

    fn list(&self, path: &str) -> Vec<String> {
        match self.value(path) {
            Some(Value::List(texts)) => texts,
            _ => Vec::new(),
        }
    }

    fn rules(&self) -> Vec<(String, i64, i64)> {
        match self.value("rate_limit.rules") {
            Some(Value::Rules(rules)) => rules,
            _ => Vec::new(),
        }
    }

    fn optional_flag(&self, path: &str) -> Option<bool> {
        match self.value(path) {
            Some(Value::Flag(flag)) => Some(flag),
            _ => None,
        }
    }

    fn flag(&self, path: &str) -> bool {
        self.optional_flag(path).unwrap_or_default()
    }

    fn optional_count(&self, path: &str) -> Option<usize> {
        match self.value(path) {
            Some(Value::Count(number)) => usize::try_from(number).ok(),
            _ => None,
        }
    }

    fn count(&self, path: &str) -> usize {
        self.optional_count(path).unwrap_or_default()
    }

    fn duration(&self, path: &str) -> i64 {
        match self.value(path) {
            Some(Value::Duration(milliseconds)) => milliseconds,
            _ => 0,
        }
    }

    fn address(&self, path: &str) -> Option<SocketAddr> {
        match self.value(path) {
            Some(Value::Address(address)) => Some(address),
            _ => None,
        }
    }

    fn report(&mut self, path: &str, what: impl Into<String>, fix: &str) {
        let problem = Problem::new(path, what, fix);
        let place = self.gathered.values.get(path).map(|(_, place)| place.to_string());
        self.gathered.problems.push(match place {
            Some(place) => problem.at(place),
            None => problem,
        });
    }

    fn cookies(&mut self) -> Cookies {
        let prefix = self.text("cookies.prefix");
        let named = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.chars().all(named) {
            let fix = "Write letters, digits, `-`, `_` and `.`, such as \"better-auth\".";
            self.report("cookies.prefix", "This cannot begin a cookie's name.", fix);
        }
        let domain = self.optional_text("cookies.domain");
        Cookies {
            domain: domain.map(|domain| domain.trim_start_matches('.').to_ascii_lowercase()),
            secure: self.text("cookies.secure").parse().ok(),
            same_site: match self.text("cookies.same_site").as_str() {
                "strict" => SameSite::Strict,
                "none" => SameSite::None,
                _ => SameSite::Lax,
            },
            prefix,
        }
    }

    fn methods(&self) -> MethodSettings {
        let on = Switch::ALL.into_iter().filter(|(_, name)| self.flag(name));
        on.fold(MethodSettings::default(), |settings, (switch, _)| settings.with(switch))
    }

    fn organizations(&mut self) -> OrganizationSettings {
        let invitation_url = self.optional_text("organizations.invitation_url");
        let page = invitation_url.as_deref().map(|url| (url.contains("{id}"), url.replace("{id}", "id")));
        if page.is_some_and(|(names_id, url)| !names_id || mail::Link::parse(&url).is_err()) {
            let fix = "Write an address such as \"https://app.example.com/invitations/{id}\".";
            self.report("organizations.invitation_url", "It names no page for an invitation.", fix);
        }
        OrganizationSettings {
            limits: identity::organizations::Limits {
                members: self.count("organizations.members") as i64,
                invitations: self.count("organizations.invitations") as i64,
                teams: self.count("organizations.teams") as i64,
                organizations: self.count("organizations.organizations") as i64,
                invitation_life: self.duration("organizations.invitation_expires_in"),
            },
            invitation_url,
            require_verified_email: self.flag("organizations.require_verified_email"),
        }
    }

    fn email_password(&self) -> EmailPassword {
        EmailPassword {
            enabled: self.flag("email_password.enabled"),
            sign_up: self.flag("email_password.sign_up"),
            require_verification: self.flag("email_password.require_verification"),
            auto_sign_in: self.flag("email_password.auto_sign_in"),
            auto_sign_in_after_verification: self.flag("email_password.auto_sign_in_after_verification"),
            min_length: self.count("email_password.min_length"),
            max_length: self.count("email_password.max_length"),
            revoke_sessions_on_reset: self.flag("email_password.revoke_sessions_on_reset"),
            refuse_common: self.flag("email_password.refuse_common"),
            notify_taken: self.flag("email_password.notify_taken"),
        }
    }

    fn database(&mut self) -> DatabaseUrl {
        let url = self.secret_text("database_url");
        let text = url.as_ref().map(|url| url.expose().as_str()).unwrap_or_default();
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return DatabaseUrl::Postgres(Secret::new(text.to_owned()));
        }
        let path = text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite:"));
        let good = path.filter(|path| !path.is_empty() && !path.contains('?') && !path.starts_with(':'));
        if let Some(path) = good {
            return DatabaseUrl::Sqlite(self.seen_from_folder("database_url", path));
        }
        let fix = "Write \"sqlite://tollgate-data/tollgate.db\" or \"postgres://user:password@host/name\".";
        self.report("database_url", "This is neither an SQLite file nor a PostgreSQL database.", fix);
        DatabaseUrl::Sqlite(self.folder.join("tollgate-data/tollgate.db"))
    }

    fn redis_url(&mut self) -> Option<Secret<String>> {
        let url = self.secret_text("redis_url")?;
        if url.expose().starts_with("redis://") {
            return Some(url);
        }
        self.report("redis_url", "This is not a Redis server.", "Write \"redis://127.0.0.1:6379\".");
        None
    }

    /// Relative names in the file are seen from the file's folder, those in variables from the current one.
    fn seen_from_folder(&self, path: &str, name: &str) -> PathBuf {
        match self.gathered.values.get(path) {
            Some((_, Place::Variable(_))) => PathBuf::from(name),
            _ => self.folder.join(name),
        }
    }

    fn mail(&mut self) -> Mail {
        let transport = match self.secret_text("mail.smtp_url") {
            None => Transport::Unset,
            Some(url) if url.expose() == "none" => Transport::Nothing,
            Some(url) => {
                let somebody = Sender::parse("a@example.com").expect("this is a sender, as a test proves");
                if let Err(error) = Smtp::new(&url, somebody) {
                    let fix = "Write \"smtps://user:password@mail.example.com:465\" or \"none\".";
                    self.report("mail.smtp_url", format!("It does not fit: {error}."), fix);
                }
                Transport::Smtp(url)
            }
        };
        let from = self.optional_text("mail.from");
        if let Some(Err(error)) = from.as_deref().map(Sender::parse) {
            let what = format!("This is not a sender: {error}.");
            self.report("mail.from", what, "Write \"My app <no-reply@example.com>\".");
        }
        let templates =
            self.optional_text("mail.templates").map(|name| self.seen_from_folder("mail.templates", &name));
        if let Some(folder) = templates.as_deref().filter(|folder| !folder.is_dir()) {
            let what = format!("There is no folder {}.", folder.display());
            self.report(
                "mail.templates",
                what,
                "Make it, or remove the setting to use the built-in templates.",
            );
        }
        Mail { transport, from, templates, credit_notices: self.flag("mail.credit_notices") }
    }

    /// Patterns are judged by the type that will use them; those that would trust everybody are `unsafe_settings`'.
    fn origins(&mut self) -> Vec<String> {
        let origins = self.list("trusted_origins");
        let base = self.optional_text("base_url").unwrap_or_else(|| "http://localhost".to_owned());
        for pattern in &origins {
            if let Err(reason) = TrustedOrigins::new(&base, std::slice::from_ref(pattern)) {
                let fix = "Write scheme and host, such as \"https://app.example.com\".";
                self.report("trusted_origins", format!("{reason}."), fix);
            }
        }
        origins
    }

    fn proxies(&mut self) -> TrustedProxies {
        let networks = self.list("trusted_proxies");
        TrustedProxies::parse(&networks).unwrap_or_else(|reason| {
            let fix = "Write networks such as \"10.0.0.0/8\" or addresses such as \"127.0.0.1\".";
            self.report("trusted_proxies", format!("{reason}."), fix);
            TrustedProxies::default()
        })
    }

    fn log(&mut self) -> String {
        let text = self.text("telemetry.log");
        if tracing_subscriber::EnvFilter::try_new(&text).is_ok() {
            return text;
        }
        let fix = "Write error, warn, info, debug or trace, or per room \"info,store=debug\".";
        self.report("telemetry.log", "This is not a log level.", fix);
        "info".to_owned()
    }

    /// `dev` keeps its secrets in the folder of its database; whoever works on that database means those.
    fn find_secrets_beside_database(&mut self, config: &mut Config) {
        let DatabaseUrl::Sqlite(path) = &config.database else { return };
        let file = path.with_file_name(SECRETS);
        if self.gathered.values.contains_key("secrets") || !file.is_file() {
            return;
        }
        let key = Key::find("secrets").expect("the table has it, as a test proves");
        self.gathered.keep_file(key, Path::new(""), &file, BESIDE_DATABASE);
        if let Some((Value::SecretList(secrets), place)) = self.gathered.values.get("secrets") {
            config.secrets = secrets.clone();
            config.places.push(("secrets", place.clone()));
        }
    }

    /// What no single setting can tell.
    fn compare(&mut self, config: &Config) {
        if config.email_password.min_length > config.email_password.max_length {
            let fix = "Make it no greater than email_password.max_length.";
            self.report("email_password.min_length", "It is greater than max_length.", fix);
        }
        let rotate_every = config.jwt.rotate_every;
        if rotate_every != 0 && rotate_every < 2 * identity::signing_keys::LEAD {
            let fix = "Write rotate_every = \"2h\" or more, or \"0s\" for a key that signs for good.";
            self.report("jwt.rotate_every", "Keys are replaced faster than services hear of them.", fix);
        }
        if config.session.update_age > config.session.expires_in {
            let fix = "Make it shorter than session.expires_in, or sessions in use are never extended.";
            self.report("session.update_age", "It is longer than a session lives.", fix);
        }
        if matches!(config.mail.transport, Transport::Smtp(_)) && config.mail.from.is_none() {
            self.report(
                "mail.from",
                "Mails need a sender.",
                "Write from = \"My app <no-reply@example.com>\".",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load_text(text: &str, environment: Environment) -> Loaded {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tollgate.toml");
        std::fs::write(&path, text).unwrap();
        load(Some(&path), &environment)
    }

    #[test]
    fn without_any_setting_every_default_applies() {
        let loaded = load_text("", Environment::default());
        assert_eq!(loaded.problems, []);
        let config = loaded.config;
        assert_eq!(config.base_url, None);
        assert_eq!(config.listen.to_string(), "127.0.0.1:8655");
        assert_eq!(config.session.expires_in, 7 * 86_400_000);
        assert!(config.email_password.enabled && config.email_password.revoke_sessions_on_reset);
        assert!(!config.email_password.require_verification && !config.accounts.delete_user);
        assert_eq!((config.email_password.min_length, config.email_password.max_length), (8, 128));
        assert_eq!(config.rate_limit.enabled, None);
        assert_eq!(config.mail.transport, Transport::Unset);
        assert!(
            matches!(config.database, DatabaseUrl::Sqlite(path) if path.ends_with("tollgate-data/tollgate.db"))
        );
    }

    #[test]
    fn every_kind_of_setting_is_read() {
        let text = r#"
            base_url = "https://auth.example.com/"
            secrets = ["first", "second"]
            trusted_origins = ["https://app.example.com"]
            trusted_proxies = ["10.0.0.0/8"]
            [cookies]
            domain = ".Example.com"
            secure = true
            same_site = "none"
            [session]
            expires_in = "12h"
            update_age = "0s"
            [email_password]
            min_length = 12
            [mail]
            smtp_url = "none"
            [rate_limit]
            enabled = false
            rules = { "/sign-in/email" = { window = "10s", max = 3 } }
            [operations]
            listen = "127.0.0.1:9000"
        "#;
        let loaded = load_text(text, [("TOLLGATE_SESSION__EXPIRES_IN", "1h")].into());
        assert_eq!(loaded.problems, []);
        let config = loaded.config;
        assert_eq!(config.base_url.as_deref(), Some("https://auth.example.com"));
        assert_eq!(config.secrets.len(), 2);
        assert_eq!(config.cookies.domain.as_deref(), Some("example.com"));
        assert_eq!((config.cookies.secure, config.cookies.same_site), (Some(true), SameSite::None));
        assert_eq!(config.session.expires_in, 3_600_000);
        assert_eq!(config.email_password.min_length, 12);
        assert_eq!(config.mail.transport, Transport::Nothing);
        assert_eq!(config.rate_limit.rules, [("/sign-in/email".to_owned(), 10_000, 3)]);
        assert_eq!(config.operations_listen.unwrap().port(), 9000);
        assert_eq!(config.place("session.expires_in").unwrap().to_string(), "TOLLGATE_SESSION__EXPIRES_IN");
    }

    #[test]
    fn a_named_file_that_is_missing_is_a_problem_and_the_default_one_is_not() {
        let loaded = load(Some(Path::new("/nowhere/tollgate.toml")), &Environment::default());
        assert!(loaded.problems[0].to_string().contains("/nowhere/tollgate.toml cannot be read"));
    }

    #[test]
    fn settings_that_contradict_each_other_are_reported() {
        let text = "[email_password]\nmin_length = 100\nmax_length = 50\n[mail]\nsmtp_url = \"smtp://mail.example\"\n[session]\nexpires_in = \"1h\"\n";
        let found: Vec<String> =
            load_text(text, Environment::default()).problems.into_iter().map(|p| p.setting).collect();
        assert_eq!(found, ["email_password.min_length", "session.update_age", "mail.from"]);
    }

    proptest! {
        #[test]
        fn any_text_and_any_variable_is_read_without_a_panic_or_a_leak(
            text in "(secrets|smtp_url|database_url|listen|\\[mail\\]|\\[|\\]|=|\"|'|hunter2-secret|\n|[a-z_.{}#, ]){0,30}",
            secret in "hunter2-[\"'\\[\\]{}a-z,\\n=]{0,20}",
        ) {
            let environment = Environment::from([("TOLLGATE_SECRETS", secret.as_str()), ("TOLLGATE_DATABASE_URL", &secret), ("TOLLGATE_MAIL__SMTP_URL", &secret)]);
            let loaded = load_text("", environment);
            let debug = format!("{loaded:?}");
            prop_assert!(!debug.contains("hunter2"));
            load_text(&text, Environment::default());
            let loaded = load_text(&format!("secrets = [\"{secret}\"]\ndatabase_url = \"{secret}\"\n"), Environment::default());
            let debug = format!("{:?}", loaded.problems);
            prop_assert!(!debug.contains("hunter2"), "{}", debug);
        }
    }
}
