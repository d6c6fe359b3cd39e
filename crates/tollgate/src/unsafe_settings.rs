//! Settings that are fine on a desk and dangerous on the internet: `serve` lists them all and refuses to start.

use crate::config::authjs_terms::Strategy;
use crate::config::{Config, DatabaseUrl, SameSite, Transport};
use crate::problem::Problem;
use kernel::{Secret, TrustedOrigins};
use url::{Host, Url};

/// Secrets in every tutorial; also what they are commonly padded or extended from.
const KNOWN_EXAMPLES: [&str; 16] = [
    "better-auth-secret",
    "better-auth-secret-123456789",
    "changeme",
    "change-me",
    "change_me",
    "your-secret",
    "your_secret",
    "yoursecret",
    "my-secret",
    "mysecret",
    "supersecret",
    "super-secret",
    "super_secret",
    "secret-key",
    "at least 32 characters",
    "replace-this",
];

/// Hosts where strangers get names of their own: browsers refuse cookies for the whole domain.
const SHARED_DOMAINS: [&str; 45] = [
    "amplifyapp.com",
    "appspot.com",
    "azurecontainerapps.io",
    "azurestaticapps.net",
    "azurewebsites.net",
    "cloudapp.azure.com",
    "cloudfront.net",
    "cloudfunctions.net",
    "co.in",
    "co.jp",
    "co.kr",
    "co.nz",
    "co.uk",
    "co.za",
    "com.au",
    "com.br",
    "com.cn",
    "com.mx",
    "com.tr",
    "deno.dev",
    "deno.net",
    "edgecompute.app",
    "elasticbeanstalk.com",
    "firebaseapp.com",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "herokuapp.com",
    "koyeb.app",
    "lovable.app",
    "netlify.app",
    "ngrok-free.app",
    "ngrok.app",
    "ngrok.io",
    "northflank.app",
    "onrender.com",
    "org.uk",
    "pages.dev",
    "railway.app",
    "replit.app",
    "run.app",
    "up.railway.app",
    "vercel.app",
    "web.app",
    "workers.dev",
];

pub const SHORTEST_SECRET: usize = 32;

/// Everything that makes this deployment unsafe. `seeded` tells that the database holds the accounts of `tollgate dev`,
/// whose passwords everybody knows.
pub fn unsafe_settings(config: &Config, seeded: bool) -> Vec<Problem> {
    let mut found = Vec::new();
    found.extend(weak_secrets(config));
    found.extend(guest_secrets(config));
    found.extend(authjs(config));
    found.extend(public_address(config));
    found.extend(open_origins(config));
    found.extend(missing_mail(config));
    found.extend(cookies(config));
    found.extend(selling(config));
    if seeded {
        found.push(seeded_database(config));
    }
    let place = |problem: Problem| match config.place(&problem.setting) {
        Some(place) if problem.place.is_none() => problem.at(place.to_string()),
        _ => problem,
    };
    found.into_iter().map(place).collect()
}

fn weak_secrets(config: &Config) -> Vec<Problem> {
    let fix =
        "Make one with `openssl rand -base64 32` and set secrets, TOLLGATE_SECRET or TOLLGATE_SECRETS_FILE.";
    if config.secrets.is_empty() {
        return vec![Problem::new("secrets", "There is no secret to sign sessions with.", fix)];
    }
    weak("secrets", &config.secrets, fix)
}

/// Whoever reads guests has these, and must not be able to sign sessions with them.
fn guest_secrets(config: &Config) -> Vec<Problem> {
    let fix = "Make one with `openssl rand -base64 32`, or remove guest.secrets: then they are derived.";
    let own = &config.guest.secrets;
    let mut found = weak("guest.secrets", own, fix);
    if own.iter().any(|secret| config.secrets.contains(secret)) {
        let what = "One of them is one of `secrets`, so whoever reads guests could sign sessions.";
        found.push(Problem::new("guest.secrets", what, fix));
    }
    found
}

fn weak(setting: &'static str, secrets: &[Secret<String>], fix: &str) -> Vec<Problem> {
    let weak = |(index, secret): (usize, &Secret<String>)| {
        let secret = secret.expose();
        let which =
            if secrets.len() == 1 { "The secret".to_owned() } else { format!("Secret {}", index + 1) };
        if secret.len() < SHORTEST_SECRET {
            let what = format!("{which} has {} characters, fewer than {SHORTEST_SECRET}.", secret.len());
            return Some(Problem::new(setting, what, fix));
        }
        is_guessable(secret).then(|| {
            Problem::new(setting, format!("{which} is a well-known example or a simple pattern."), fix)
        })
    };
    secrets.iter().enumerate().filter_map(weak).collect()
}

/// A text from a tutorial, or one with so few different characters that it was typed and not drawn.
pub fn is_guessable(secret: &str) -> bool {
    let lower = secret.to_ascii_lowercase();
    let different: std::collections::BTreeSet<char> = lower.chars().collect();
    let repeats = (1..=lower.len() / 2).any(|length| {
        lower.is_char_boundary(length)
            && lower.as_bytes().chunks(length).all(|part| lower.as_bytes().starts_with(part))
    });
    different.len() < 8 || repeats || KNOWN_EXAMPLES.iter().any(|example| lower.contains(example))
}

/// What an app shares opens nothing of ours, and people are not sent to a page that anybody on the way can change.
fn authjs(config: &Config) -> Vec<Problem> {
    let (terms, own) = (&config.authjs, &config.secrets);
    let mut found = Vec::new();
    for (setting, secrets) in
        [("authjs.adapter_secrets", &terms.adapter_secrets), ("authjs.jwt_secrets", &terms.jwt_secrets)]
    {
        let fix = "Make one with `openssl rand -base64 32`, and set it here and where the app runs.";
        found.extend(weak(setting, secrets, fix));
        if secrets.iter().any(|secret| own.contains(secret)) {
            let what = "One of them is one of `secrets`, so the app, or whoever reads its secrets, could sign what this program signs.";
            let fix =
                "Give this program secrets of its own: set TOLLGATE_SECRET, which counts before AUTH_SECRET.";
            found.push(Problem::new(setting, what, fix));
        }
    }
    if terms.adapter_secrets.iter().any(|secret| terms.jwt_secrets.contains(secret)) {
        let what = "One of them is one of authjs.jwt_secrets.";
        let fix = "Make another one with `openssl rand -base64 32`: one secret, one purpose.";
        found.push(Problem::new("authjs.adapter_secrets", what, fix));
    }
    let page = terms.sign_in_url.as_deref().and_then(|url| Url::parse(url).ok());
    if page.is_some_and(|url| url.scheme() == "http" && !is_loopback(&url)) {
        let what = "The page where people sign in is not encrypted.";
        found.push(Problem::new("authjs.sign_in_url", what, "Write https://."));
    }
    found
}

fn public_address(config: &Config) -> Vec<Problem> {
    let Some(base) = &config.base_url else {
        let fix = "Write base_url = \"https://auth.example.com\", the address that browsers use.";
        return vec![Problem::new("base_url", "The public address is not set.", fix)];
    };
    let Ok(url) = Url::parse(base) else { return vec![] };
    let mut found = Vec::new();
    if url.scheme() == "http" && !is_loopback(&url) {
        let what = format!("{base} is not encrypted: passwords and sessions can be read on the way.");
        let fix = "Write https:// and let a proxy in front of Tollgate speak TLS.";
        found.push(Problem::new("base_url", what, fix));
    }
    if url.scheme() == "https" && config.cookies.secure == Some(false) && !is_loopback(&url) {
        let what = "Session cookies would also be sent over http.";
        found.push(Problem::new("cookies.secure", what, "Remove it, or write \"auto\"."));
    }
    found
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A pattern is too open when it admits a site that nobody can have meant. The judge is the one that requests meet.
fn open_origins(config: &Config) -> Vec<Problem> {
    let base = config.base_url.as_deref().unwrap_or("http://localhost");
    let endings = ["com", "net", "org", "io", "app", "dev", "co.uk", "invalid"];
    let strangers = endings.iter().flat_map(|ending| {
        ["https", "http"].map(|scheme| format!("{scheme}://tollgate-stranger-4f1b.{ending}"))
    });
    let numbers = ["http://203.0.113.177".to_owned(), "https://203.0.113.177:8443".to_owned()];
    let strangers: Vec<String> = strangers.chain(numbers).collect();
    let fix = "Name the origins, such as \"https://app.example.com\" or \"https://*.example.com\".";
    let open = |pattern: &&String| {
        pattern.trim() == "*"
            || TrustedOrigins::new(base, std::slice::from_ref(pattern))
                .is_ok_and(|trusted| strangers.iter().any(|stranger| trusted.trusts(stranger)))
    };
    let patterns = config.trusted_origins.iter().filter(open);
    patterns
        .map(|pattern| {
            Problem::new("trusted_origins", format!("`{pattern}` trusts sites of strangers."), fix)
        })
        .collect()
}

/// Without a transport the mails that these features promise would never arrive.
fn missing_mail(config: &Config) -> Vec<Problem> {
    let without = match config.mail.transport {
        Transport::Smtp(_) => return vec![],
        Transport::Nothing => false,
        Transport::Unset => true,
    };
    let needs = [
        (config.email_password.require_verification, "email_password.require_verification"),
        (config.accounts.delete_user && config.accounts.delete_needs_mail, "accounts.delete_needs_mail"),
    ];
    let needed: Vec<&str> = needs.iter().filter(|(on, _)| *on).map(|(_, setting)| *setting).collect();
    let fix = "Write smtp_url = \"smtps://user:password@mail.example.com:465\" and from in [mail]";
    if !needed.is_empty() {
        let what = format!("{} cannot work without mail.", needed.join(" and "));
        return vec![Problem::new("mail.smtp_url", what, format!("{fix}, or switch it off."))];
    }
    // Where an app signs people in, nobody has a password here.
    if without && config.email_password.enabled && config.authjs.strategy == Strategy::Session {
        let what = "Users who forget their password need mail.";
        let fix = format!("{fix}, or smtp_url = \"none\" if nothing shall be sent.");
        return vec![Problem::new("mail.smtp_url", what, fix)];
    }
    vec![]
}

fn cookies(config: &Config) -> Vec<Problem> {
    let mut found = Vec::new();
    let base = config.base_url.as_deref().and_then(|base| Url::parse(base).ok());
    let https = base.as_ref().is_some_and(|url| url.scheme() == "https");
    let secure = config.cookies.secure.unwrap_or(https);
    if config.cookies.same_site == SameSite::None && !secure {
        let what = "Browsers drop cookies with same_site \"none\" that are not secure.";
        let fix = "Use https for base_url, or write \"lax\".";
        found.push(Problem::new("cookies.same_site", what, fix));
    }
    let Some(domain) = config.cookies.domain.as_deref() else { return found };
    if is_shared_domain(domain) {
        let what = format!("Browsers refuse cookies for `{domain}`, where strangers have names too.");
        let fix = "Use a domain of your own, or remove it so that the cookie belongs to base_url's host.";
        found.push(Problem::new("cookies.domain", what, fix));
    }
    let host = base.as_ref().and_then(|url| url.host_str()).unwrap_or_default();
    let is_parent = host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    if base.is_some() && !is_parent {
        let what =
            format!("`{domain}` is not a parent of base_url's host `{host}`, so browsers refuse the cookie.");
        found.push(Problem::new(
            "cookies.domain",
            what,
            "Write the host or a parent domain of it, or remove the setting.",
        ));
    }
    found
}

fn is_shared_domain(domain: &str) -> bool {
    !domain.contains('.') || SHARED_DOMAINS.contains(&domain)
}

/// Money must not be taken where nobody hears of it, nor a key that moves money be shown on the way.
fn selling(config: &Config) -> Vec<Problem> {
    let stripe = &config.stripe;
    let catalogue = &stripe.catalogue;
    if stripe.secret_key.is_none() {
        if catalogue.packs.is_empty() && catalogue.plans.is_empty() {
            return vec![];
        }
        let what = "Packs or plans are named, and there is no key to sell them with.";
        let fix = "Set TOLLGATE_STRIPE__SECRET_KEY or TOLLGATE_STRIPE__SECRET_KEY_FILE; only `dev` has a till in Stripe's place.";
        return vec![Problem::new("stripe.secret_key", what, fix)];
    }
    let mut found = Vec::new();
    let usable = |secret: &Secret<String>| secret.expose().trim().starts_with("whsec_");
    if stripe.webhook_secrets.is_empty() {
        let what = "Payments would be taken, and Stripe's word that they were paid could not come in.";
        let fix = "Add an endpoint for base_url + /api/billing/webhook at Stripe and write its signing secret, whsec_….";
        found.push(Problem::new("stripe.webhook_secrets", what, fix));
    } else if !stripe.webhook_secrets.iter().all(usable) {
        let what = "One of them is no signing secret: those begin with whsec_.";
        let fix = "Copy the endpoint's signing secret, not its id and not the secret key.";
        found.push(Problem::new("stripe.webhook_secrets", what, fix));
    }
    if stripe.livemode() && !stripe.api_base.starts_with("https://") {
        let what = "The live key would be sent in the clear, and not to Stripe.";
        found.push(Problem::new("stripe.api_base", what, "Remove it: it is for test keys."));
    }
    let base = config.base_url.as_deref().and_then(|base| Url::parse(base).ok());
    // What is not of this machine is named already.
    if stripe.livemode() && base.is_some_and(|url| url.scheme() == "http" && is_loopback(&url)) {
        let what = "The key takes real money, and with such a key Stripe sends people back to https only.";
        let fix = "Use a test key, sk_test_…, on this machine; or write an https base_url.";
        found.push(Problem::new("stripe.secret_key", what, fix));
    }
    found
}

fn seeded_database(config: &Config) -> Problem {
    let fix = match &config.database {
        DatabaseUrl::Sqlite(_) => "Name another file, such as \"sqlite:///var/lib/tollgate/tollgate.db\".",
        DatabaseUrl::Postgres(_) => "Name another database.",
    };
    Problem::new(
        "database_url",
        "This database was made by `tollgate dev` and holds accounts with known passwords.",
        fix,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load};

    const GOOD: [(&str, &str); 3] = [
        ("TOLLGATE_BASE_URL", "https://auth.example.com"),
        ("TOLLGATE_SECRET", "kq7Zr1VYp0mXJ3sTe9bWcUaL5nHdGf2oRi8"),
        ("TOLLGATE_MAIL__SMTP_URL", "none"),
    ];

    /// The settings found unsafe when these variables are added to a sound configuration; an empty one removes.
    fn found(changes: &[(&str, &str)]) -> Vec<String> {
        let mut all = GOOD.to_vec();
        for (name, value) in changes {
            all.retain(|(known, _)| known != name);
            all.push((name, value));
        }
        let loaded = load(None, &Environment::from(all.as_slice()));
        unsafe_settings(&loaded.config, false).into_iter().map(|problem| problem.setting).collect()
    }

    #[test]
    fn a_sound_configuration_is_accepted() {
        assert_eq!(found(&[]), [""; 0]);
        assert_eq!(found(&[("TOLLGATE_BASE_URL", "http://localhost:8655")]), [""; 0]);
        assert_eq!(found(&[("TOLLGATE_BASE_URL", "http://[::1]:8655")]), [""; 0]);
        assert_eq!(found(&[("TOLLGATE_COOKIES__DOMAIN", "example.com")]), [""; 0]);
        assert_eq!(found(&[("TOLLGATE_TRUSTED_ORIGINS", "https://*.example.com,myapp://")]), [""; 0]);
    }

    #[test]
    fn everything_unsafe_is_listed_at_once() {
        let all = [
            ("TOLLGATE_SECRET", "short"),
            ("TOLLGATE_BASE_URL", "http://auth.example.com"),
            ("TOLLGATE_TRUSTED_ORIGINS", "https://*"),
            ("TOLLGATE_MAIL__SMTP_URL", ""),
            ("TOLLGATE_COOKIES__SAME_SITE", "none"),
            ("TOLLGATE_COOKIES__DOMAIN", "vercel.app"),
        ];
        let expected =
            ["secrets", "base_url", "mail.smtp_url", "cookies.same_site", "cookies.domain", "cookies.domain"];
        let found = found(&all);
        assert!(expected.iter().all(|setting| found.contains(&setting.to_string())), "{found:?}");
    }

    #[test]
    fn weak_and_well_known_secrets_are_refused() {
        for secret in [
            "",
            "0123456789012345678901234567890",
            "better-auth-secret-123456789012345",
            "better-auth-secret-12345678901234567890",
            "changeme-changeme-changeme-changeme",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "01234567890123456789012345678901234567890123456789",
            "your-secret-key-here-please-change-it-now",
        ] {
            assert_eq!(found(&[("TOLLGATE_SECRET", secret)]), ["secrets"], "{secret}");
        }
        for secret in ["8f3b6c1de07a924f5b8c3d6e1f0a7b92", "PDrS0XTrT7g1qv4wN1mWzSwdxvBvR6L+8qM0b0p6V1c="] {
            assert_eq!(found(&[("TOLLGATE_SECRET", secret)]), [""; 0], "{secret}");
        }
    }

    #[test]
    fn secrets_of_guests_are_as_strong_as_others_and_no_others() {
        for (guests, expected) in [
            ("8f3b6c1de07a924f5b8c3d6e1f0a7b92", &[][..]),
            ("short", &["guest.secrets"]),
            ("8f3b6c1de07a924f5b8c3d6e1f0a7b92,changeme-changeme-changeme-changeme", &["guest.secrets"]),
            ("8f3b6c1de07a924f5b8c3d6e1f0a7b92,kq7Zr1VYp0mXJ3sTe9bWcUaL5nHdGf2oRi8", &["guest.secrets"]),
        ] {
            assert_eq!(found(&[("TOLLGATE_GUEST__SECRETS", guests)]), expected, "{guests}");
        }
    }

    #[test]
    fn what_an_app_with_auth_js_shares_is_strong_and_for_one_purpose() {
        let (ours, theirs) = ("kq7Zr1VYp0mXJ3sTe9bWcUaL5nHdGf2oRi8", "8f3b6c1de07a924f5b8c3d6e1f0a7b92");
        let jwt = |secret| ("TOLLGATE_AUTHJS__JWT_SECRETS", secret);
        let adapter = |secret| ("TOLLGATE_AUTHJS__ADAPTER_SECRETS", secret);
        assert_eq!(found(&[jwt(theirs)]), [""; 0]);
        for weak in ["short", "changeme-changeme-changeme-changeme", ours] {
            assert_eq!(found(&[jwt(weak)]), ["authjs.jwt_secrets"], "{weak}");
            assert_eq!(found(&[adapter(weak)]), ["authjs.adapter_secrets"], "{weak}");
        }
        assert_eq!(found(&[jwt(theirs), adapter(theirs)]), ["authjs.adapter_secrets"]);
        let page = |url| [("TOLLGATE_AUTHJS__SIGN_IN_URL", url)];
        assert_eq!(found(&page("http://app.example.com/login")), ["authjs.sign_in_url"]);
        assert_eq!(found(&page("http://localhost:3000/login")), [""; 0]);
        let mail = ("TOLLGATE_MAIL__SMTP_URL", "");
        let database = [
            ("TOLLGATE_SESSION__STRATEGY", "authjs-database"),
            ("TOLLGATE_AUTHJS__SIGN_IN_URL", "https://app.example.com/login"),
            adapter(theirs),
            mail,
        ];
        assert_eq!(found(&database), [""; 0], "nobody has a password here");
    }

    #[test]
    fn origins_that_admit_strangers_are_refused() {
        for pattern in ["*", "*.com", "https://*.co.uk", "*.???", "*.*.*.*", "https://tollgate*"] {
            let loaded = load(None, &Environment::from([("TOLLGATE_TRUSTED_ORIGINS", pattern)]));
            let open = !open_origins(&loaded.config).is_empty();
            assert!(open || !loaded.problems.is_empty(), "{pattern}");
        }
    }

    #[test]
    fn missing_mail_is_named_with_the_feature_that_needs_it() {
        let verification = ("TOLLGATE_EMAIL_PASSWORD__REQUIRE_VERIFICATION", "true");
        assert_eq!(found(&[verification]), ["mail.smtp_url"]);
        assert_eq!(found(&[verification, ("TOLLGATE_MAIL__SMTP_URL", "smtps://mail.example")]), [""; 0]);
        assert_eq!(found(&[("TOLLGATE_MAIL__SMTP_URL", "")]), ["mail.smtp_url"]);
        let no_password = ("TOLLGATE_EMAIL_PASSWORD__ENABLED", "false");
        assert_eq!(found(&[("TOLLGATE_MAIL__SMTP_URL", ""), no_password]), [""; 0]);
    }

    #[test]
    fn cookies_that_browsers_would_refuse_are_named() {
        assert_eq!(found(&[("TOLLGATE_COOKIES__DOMAIN", "other.example")]), ["cookies.domain"]);
        assert_eq!(found(&[("TOLLGATE_COOKIES__DOMAIN", "ample.com")]), ["cookies.domain"]);
        let hosted = ("TOLLGATE_BASE_URL", "https://mine.up.railway.app");
        assert_eq!(found(&[hosted, ("TOLLGATE_COOKIES__DOMAIN", "railway.app")]), ["cookies.domain"]);
        assert_eq!(found(&[hosted, ("TOLLGATE_COOKIES__DOMAIN", "mine.up.railway.app")]), [""; 0]);
        assert_eq!(found(&[("TOLLGATE_COOKIES__SECURE", "false")]), ["cookies.secure"]);
    }

    #[test]
    fn selling_needs_a_key_a_signing_secret_and_safe_ways() {
        let key = ("TOLLGATE_STRIPE__SECRET_KEY", "sk_test_4eC39HqLyjWDarjtT1zdp7dc");
        let live = ("TOLLGATE_STRIPE__SECRET_KEY", "sk_live_4eC39HqLyjWDarjtT1zdp7dc");
        let secret = ("TOLLGATE_STRIPE__WEBHOOK_SECRETS", "whsec_4eC39HqLyjWDarjtT1zdp7dc");
        let here = ("TOLLGATE_BASE_URL", "http://localhost:8655");
        let api = ("TOLLGATE_STRIPE__API_BASE", "http://127.0.0.1:12111");
        assert_eq!(found(&[key, secret]), [""; 0]);
        assert_eq!(found(&[key, secret, here, api]), [""; 0]);
        assert_eq!(found(&[live, secret]), [""; 0]);
        assert_eq!(found(&[key]), ["stripe.webhook_secrets"]);
        for wrong in ["we_1234567890", "whsec_good,sk_test_4eC39"] {
            assert_eq!(
                found(&[key, ("TOLLGATE_STRIPE__WEBHOOK_SECRETS", wrong)]),
                ["stripe.webhook_secrets"],
                "{wrong}"
            );
        }
        assert_eq!(found(&[live, secret, api]), ["stripe.api_base"]);
        assert_eq!(found(&[live, secret, here]), ["stripe.secret_key"]);
        let packs = "{ small = { price = \"price_1\", credits = 5, amount = 5, currency = \"usd\" } }";
        assert_eq!(found(&[("TOLLGATE_STRIPE__PACKS", packs)]), ["stripe.secret_key"]);
    }

    #[test]
    fn the_database_of_dev_is_refused_and_no_secret_is_shown() {
        let environment =
            [("TOLLGATE_SECRET", "hunter2"), ("TOLLGATE_DATABASE_URL", "postgres://u:hunter2@h/n")];
        let loaded = load(None, &Environment::from(environment));
        let problems = unsafe_settings(&loaded.config, true);
        assert!(problems.iter().any(|problem| problem.setting == "database_url"));
        assert!(!format!("{problems:?}").contains("hunter2"));
    }
}
