//! From the configuration to what the server is told.

use crate::config::authjs_terms;
use crate::config::{self, Config, Transport};
use crate::deployment::secrets_of;
use crate::process::Mode;
use crate::terminal::Failure;
use gate::guest_cookie;
use identity::authjs::token::Verifier;
use kernel::{GuestId, OrganizationId, Secret, Secrets, TrustedOrigins, UserId};
use server::settings::{
    AccountSettings, AuthJsSettings, CookieSettings, EmailPasswordSettings, GuestSettings, Limits,
    PasskeySettings, RateLimitSettings, SameSite, SessionSettings, Settings, Strategy,
};
use std::sync::Arc;
use url::Url;

pub fn settings(config: &Config, mode: Mode) -> Result<Settings, Failure> {
    let unset = || Failure::new("base_url is not set.", "Write base_url = \"https://auth.example.com\".");
    let base_url = config.base_url.clone().ok_or_else(unset)?;
    let origins = TrustedOrigins::new(&base_url, &config.trusted_origins);
    let secure = config.cookies.secure.unwrap_or_else(|| base_url.starts_with("https://"));
    Ok(Settings {
        app_name: config.app_name.clone(),
        secrets: secrets_of(config)?,
        trusted_origins: origins
            .map_err(|reason| Failure::new(format!("{reason}."), "Correct trusted_origins."))?,
        trusted_proxies: config.trusted_proxies.clone(),
        cookies: CookieSettings {
            prefix: config.cookies.prefix.clone(),
            secure,
            domain: config.cookies.domain.clone(),
            same_site: match config.cookies.same_site {
                config::SameSite::Lax => SameSite::Lax,
                config::SameSite::Strict => SameSite::Strict,
                config::SameSite::None => SameSite::None,
            },
        },
        session: SessionSettings {
            expires_in: config.session.expires_in,
            update_age: config.session.update_age,
            fresh_age: config.session.fresh_age,
            defer_refresh: config.session.defer_refresh,
            strategy: strategy(config)?,
        },
        authjs: AuthJsSettings {
            sign_in_url: config.authjs.sign_in_url.clone(),
            adapter_secrets: shared_secrets(&config.authjs.adapter_secrets),
            cookie_name: config.authjs.cookie_name.clone(),
        },
        email_password: email_password(config),
        accounts: AccountSettings {
            change_email: config.accounts.change_email,
            delete_user: config.accounts.delete_user,
            delete_needs_mail: config.accounts.delete_needs_mail,
        },
        methods: config.methods,
        api_keys: config.api_keys.clone(),
        device: config.device.clone(),
        jwt: config.jwt.clone(),
        organizations: config.organizations.clone(),
        passkey: passkey(config, &base_url)?,
        sends_mail: match config.mail.transport {
            Transport::Smtp(_) => true,
            Transport::Unset => mode == Mode::Dev,
            Transport::Nothing => false,
        },
        guest: GuestSettings {
            enabled: config.guest.enabled,
            secrets: guest_secrets(config)?,
            ttl: config.guest.ttl,
            allowances: config.guest.allowances.clone(),
        },
        rate_limit: RateLimitSettings {
            enabled: config.rate_limit.enabled.unwrap_or(mode == Mode::Serve),
            rules: config.rate_limit.rules.clone(),
        },
        gate: config.gate.clone(),
        limits: Limits::default(),
        dev: mode == Mode::Dev,
        base_url,
    })
}

fn strategy(config: &Config) -> Result<Strategy, Failure> {
    let authjs = &config.authjs;
    match authjs.strategy {
        authjs_terms::Strategy::Session => Ok(Strategy::Own),
        authjs_terms::Strategy::AuthJsDatabase => Ok(Strategy::AuthJsDatabase),
        authjs_terms::Strategy::AuthJsJwt => {
            let unset =
                || Failure::new("authjs.jwt_secrets is not set.", "Set TOLLGATE_AUTHJS__JWT_SECRETS.");
            let secrets = shared_secrets(&authjs.jwt_secrets).ok_or_else(unset)?;
            Ok(Strategy::AuthJsToken(Verifier::new(authjs.format, &secrets, &authjs.cookie_name)))
        }
    }
}

/// Those that an app has, too.
fn shared_secrets(secrets: &[Secret<String>]) -> Option<Secrets> {
    Secrets::new(secrets.iter().map(|secret| secret.expose().clone()).collect())
}

/// Browsers take an id only on hosts that it names or that are below it.
fn passkey(config: &Config, base_url: &str) -> Result<PasskeySettings, Failure> {
    let host =
        Url::parse(base_url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let rp_id = config.passkey.rp_id.clone().unwrap_or_else(|| host.clone());
    let fits = host.strip_suffix(&rp_id).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if rp_id.is_empty() || !fits {
        return Err(Failure::new(
            format!("passkey.rp_id is `{rp_id}`, and base_url is on another host: no browser would take it."),
            format!("Write passkey.rp_id = \"{host}\", or a domain above it."),
        ));
    }
    let rp_name = config.passkey.rp_name.clone().unwrap_or_else(|| config.app_name.clone());
    Ok(PasskeySettings { rp_id, rp_name })
}

fn email_password(config: &Config) -> EmailPasswordSettings {
    let from = &config.email_password;
    EmailPasswordSettings {
        enabled: from.enabled,
        sign_up: from.sign_up,
        require_verification: from.require_verification,
        auto_sign_in: from.auto_sign_in,
        auto_sign_in_after_verification: from.auto_sign_in_after_verification,
        min_length: from.min_length,
        max_length: from.max_length,
        revoke_sessions_on_reset: from.revoke_sessions_on_reset,
        refuse_common: from.refuse_common,
        notify_taken: from.notify_taken,
    }
}

/// Those of the configuration, else one derived from each of the deployment's, in their order: whoever rotates those
/// rotates these.
pub fn guest_secrets(config: &Config) -> Result<Secrets, Failure> {
    let own = config.guest.secrets.iter().map(|secret| secret.expose().clone()).collect();
    match Secrets::new(own) {
        Some(own) => Ok(own),
        None => Ok(secrets_of(config)?.derived(guest_cookie::PURPOSE)),
    }
}

/// Whom the ledger takes for an owner.
pub fn owner_exists() -> credits::OwnerExists {
    Arc::new(|tx, owner| match owner {
        credits::Owner::User(id) => identity::users::exists(tx, &UserId::from_text(id)),
        credits::Owner::Guest(id) => gate::guests::exists(tx, &GuestId::from_text(id)),
        credits::Owner::Organization(id) => {
            identity::organizations::exists(tx, &OrganizationId::from_text(id.as_str()))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, load};

    fn of(variables: &[(&str, &str)], mode: Mode) -> Settings {
        settings(&load(None, &Environment::from(variables)).config, mode).unwrap()
    }

    #[test]
    fn what_is_automatic_follows_the_address_and_the_mode() {
        let variables = [("TOLLGATE_BASE_URL", "https://auth.example.com"), ("TOLLGATE_SECRET", "x")];
        let serve = of(&variables, Mode::Serve);
        assert!(serve.cookies.secure && serve.rate_limit.enabled && !serve.dev);
        let dev = of(&[("TOLLGATE_BASE_URL", "http://localhost:1"), ("TOLLGATE_SECRET", "x")], Mode::Dev);
        assert!(!dev.cookies.secure && !dev.rate_limit.enabled && dev.dev);
    }

    #[test]
    fn what_is_configured_wins() {
        let variables = [
            ("TOLLGATE_BASE_URL", "https://auth.example.com"),
            ("TOLLGATE_SECRET", "x"),
            ("TOLLGATE_COOKIES__SECURE", "false"),
            ("TOLLGATE_RATE_LIMIT__ENABLED", "false"),
            ("TOLLGATE_EMAIL_PASSWORD__REQUIRE_VERIFICATION", "true"),
        ];
        let found = of(&variables, Mode::Serve);
        assert!(
            !found.cookies.secure && !found.rate_limit.enabled && found.email_password.require_verification
        );
    }
}
