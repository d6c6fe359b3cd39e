//! `[authjs]` and `session.strategy`: apps whose front end is Auth.js.

use super::Builder;
use super::value::Value;
use identity::authjs::token::Format;
use kernel::Secret;
use std::net::SocketAddr;
use url::Url;

#[derive(Debug, Clone)]
pub struct AuthJs {
    pub strategy: Strategy,
    pub sign_in_url: Option<String>,
    pub adapter_secrets: Vec<Secret<String>>,
    pub jwt_secrets: Vec<Secret<String>>,
    pub format: Format,
    pub cookie_name: String,
    /// The adapter's own listener.
    pub listen: Option<SocketAddr>,
}

/// Who opens sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    Session,
    AuthJsJwt,
    AuthJsDatabase,
}

impl Builder {
    pub(super) fn authjs_terms(&mut self) -> AuthJs {
        let strategy = match self.text("session.strategy").as_str() {
            "authjs-jwt" => Strategy::AuthJsJwt,
            "authjs-database" => Strategy::AuthJsDatabase,
            _ => Strategy::Session,
        };
        let sign_in_url = self.sign_in_url();
        let terms = AuthJs {
            strategy,
            cookie_name: self.cookie_name(sign_in_url.as_deref()),
            sign_in_url,
            adapter_secrets: self.secret_list("authjs.adapter_secrets"),
            jwt_secrets: self.secret_list("authjs.jwt_secrets"),
            format: match self.text("authjs.format").as_str() {
                "hs256" => Format::Signed,
                _ => Format::Encrypted,
            },
            listen: self.address("authjs.listen"),
        };
        self.check_strategy(&terms);
        terms
    }

    fn secret_list(&self, path: &str) -> Vec<Secret<String>> {
        match self.value(path) {
            Some(Value::SecretList(secrets)) => secrets,
            _ => Vec::new(),
        }
    }

    /// An address that a target can be added to as a parameter.
    fn sign_in_url(&mut self) -> Option<String> {
        let text = self.optional_text("authjs.sign_in_url")?;
        let good = Url::parse(&text).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.host_str().is_some_and(|host| !host.is_empty())
                && url.username().is_empty()
                && url.password().is_none()
                && url.fragment().is_none()
        });
        if !good || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let fix = "Write sign_in_url = \"https://app.example.com/login\".";
            self.report("authjs.sign_in_url", "This is no address of a page.", fix);
            return None;
        }
        Some(text)
    }

    /// As Auth.js 5 calls it at the app's address, unless it is said.
    fn cookie_name(&mut self, sign_in_url: Option<&str>) -> String {
        let secure = sign_in_url.is_some_and(|url| url.starts_with("https:"));
        let usual = if secure { "__Secure-authjs.session-token" } else { "authjs.session-token" };
        let Some(name) = self.optional_text("authjs.cookie_name") else { return usual.to_owned() };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.len() > 128 || !name.bytes().all(fits) {
            let fix =
                "Write cookie_name = \"__Secure-next-auth.session-token\", or the name that the app gave it.";
            self.report("authjs.cookie_name", "This is no name of a cookie.", fix);
            return usual.to_owned();
        }
        name
    }

    fn check_strategy(&mut self, terms: &AuthJs) {
        if terms.strategy == Strategy::Session {
            return;
        }
        if terms.sign_in_url.is_none() && !self.has_problem("authjs.sign_in_url") {
            let fix = "Write sign_in_url = \"https://app.example.com/login\" in [authjs].";
            self.report("authjs.sign_in_url", "The app signs people in, and it is not said where.", fix);
        }
        if terms.strategy == Strategy::AuthJsJwt && terms.jwt_secrets.is_empty() {
            let fix = "Set TOLLGATE_AUTHJS__JWT_SECRETS to the app's AUTH_SECRET (or NEXTAUTH_SECRET).";
            self.report("authjs.jwt_secrets", "The app's tokens cannot be read without its secret.", fix);
        }
        if terms.strategy == Strategy::AuthJsDatabase && terms.adapter_secrets.is_empty() {
            let fix = "Set TOLLGATE_AUTHJS__ADAPTER_SECRETS, here and where the app runs.";
            self.report("authjs.adapter_secrets", "The app cannot keep its sessions here without one.", fix);
        }
    }

    fn has_problem(&self, path: &str) -> bool {
        self.gathered.problems.iter().any(|problem| problem.setting == path)
    }
}

#[cfg(test)]
mod tests {
    use super::super::load;
    use super::super::source::Environment;

    fn with(variables: &[(&str, &str)]) -> super::super::Loaded {
        load(None, &Environment::from(variables))
    }

    const PAGE: (&str, &str) = ("TOLLGATE_AUTHJS__SIGN_IN_URL", "https://app.example.com/login");
    const JWT: (&str, &str) = ("TOLLGATE_SESSION__STRATEGY", "authjs-jwt");
    const DATABASE: (&str, &str) = ("TOLLGATE_SESSION__STRATEGY", "authjs-database");

    #[test]
    fn the_cookie_is_called_as_auth_js_calls_it_unless_it_is_said() {
        assert_eq!(with(&[]).config.authjs.cookie_name, "authjs.session-token");
        assert_eq!(with(&[PAGE]).config.authjs.cookie_name, "__Secure-authjs.session-token");
        let named = [PAGE, ("TOLLGATE_AUTHJS__COOKIE_NAME", "my.sid")];
        assert_eq!(with(&named).config.authjs.cookie_name, "my.sid");
    }

    #[test]
    fn a_strategy_without_what_it_needs_is_told_with_what_to_write() {
        for (variables, setting) in [
            (&[JWT, ("TOLLGATE_AUTHJS__JWT_SECRETS", "s")][..], "authjs.sign_in_url"),
            (&[JWT, PAGE], "authjs.jwt_secrets"),
            (&[DATABASE, PAGE], "authjs.adapter_secrets"),
            (&[("TOLLGATE_AUTHJS__SIGN_IN_URL", "/login")], "authjs.sign_in_url"),
            (&[("TOLLGATE_AUTHJS__SIGN_IN_URL", "javascript:alert(1)")], "authjs.sign_in_url"),
            (&[("TOLLGATE_AUTHJS__SIGN_IN_URL", "https://a:b@example.com/")], "authjs.sign_in_url"),
            (&[("TOLLGATE_AUTHJS__COOKIE_NAME", "a b")], "authjs.cookie_name"),
            (&[("TOLLGATE_AUTHJS__FORMAT", "jws")], "authjs.format"),
            (&[("TOLLGATE_SESSION__STRATEGY", "jwt")], "session.strategy"),
        ] {
            let problems = with(variables).problems;
            let found: Vec<&str> = problems.iter().map(|problem| problem.setting.as_str()).collect();
            assert_eq!(found, [setting], "{variables:?}");
            assert!(!problems[0].fix.is_empty());
        }
        let loaded = with(&[JWT, PAGE, ("TOLLGATE_AUTHJS__JWT_SECRETS", "new,old")]);
        assert_eq!(loaded.problems, []);
        assert_eq!(loaded.config.authjs.jwt_secrets.len(), 2);
        assert!(!format!("{:?}", loaded.config).contains("new"), "secrets are not printed");
    }
}
