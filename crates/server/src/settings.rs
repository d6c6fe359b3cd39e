//! What the server is told, already checked: the binary turns `tollgate.toml` and the environment into this.

use gate::allowances::Allowances;
use identity::authjs::token::Verifier;
use kernel::signed::encode_uri_component;
use kernel::{Secrets, TrustedOrigins, TrustedProxies};

/// Everything a door needs to know. Times are milliseconds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Scheme, host and port of the public address, without a trailing slash: `https://auth.example.com`.
    pub base_url: String,
    pub app_name: String,
    pub secrets: Secrets,
    pub trusted_origins: TrustedOrigins,
    pub trusted_proxies: TrustedProxies,
    pub cookies: CookieSettings,
    pub session: SessionSettings,
    pub authjs: AuthJsSettings,
    pub email_password: EmailPasswordSettings,
    pub accounts: AccountSettings,
    pub methods: MethodSettings,
    pub api_keys: ApiKeySettings,
    pub device: DeviceSettings,
    pub organizations: OrganizationSettings,
    pub passkey: PasskeySettings,
    /// Mails reach people, or the inbox of `dev`: what is mailed may be asked for.
    pub sends_mail: bool,
    pub jwt: JwtSettings,
    pub guest: GuestSettings,
    pub rate_limit: RateLimitSettings,
    /// What proxies' requests ask for, by path and method.
    pub gate: gate::rules::Rules,
    pub limits: Limits,
    /// `dev` mode: the inbox and start pages are mounted.
    pub dev: bool,
}

impl Settings {
    /// Where people sign in who want to go to `target`.
    pub fn sign_in_url(&self, target: &str) -> String {
        let target = encode_uri_component(target);
        match &self.authjs.sign_in_url {
            // The parameter is Auth.js' own, as its pages pass it on.
            Some(url) if !self.session.strategy.is_own() => {
                let join = if url.contains('?') { '&' } else { '?' };
                format!("{url}{join}callbackUrl={target}")
            }
            _ => format!("{}/sign-in?callbackURL={target}", self.base_url),
        }
    }
}

#[derive(Debug, Clone)]
pub struct CookieSettings {
    /// `better-auth` unless configured.
    pub prefix: String,
    /// `Secure` and the `__Secure-` prefix; follows the scheme of `base_url` unless configured.
    pub secure: bool,
    /// Set for sessions shared by several subdomains.
    pub domain: Option<String>,
    pub same_site: SameSite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    Lax,
    Strict,
    None,
}

impl SameSite {
    /// As it stands in a cookie.
    pub fn name(self) -> &'static str {
        match self {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None",
        }
    }
}

#[derive(Debug, Clone)]
pub struct SessionSettings {
    pub expires_in: i64,
    pub update_age: i64,
    pub fresh_age: i64,
    /// GET /get-session never writes; POST extends.
    pub defer_refresh: bool,
    pub strategy: Strategy,
}

/// Who opens sessions. A deployment has one judge: two of them send people back and forth.
#[derive(Debug, Clone)]
pub enum Strategy {
    /// This program.
    Own,
    /// An app with Auth.js, by tokens that it encrypts or signs.
    AuthJsToken(Verifier),
    /// An app with Auth.js, by sessions that it keeps here.
    AuthJsDatabase,
}

impl Strategy {
    pub fn is_own(&self) -> bool {
        matches!(self, Strategy::Own)
    }
}

/// What is agreed with an app that has Auth.js.
#[derive(Debug, Clone, Default)]
pub struct AuthJsSettings {
    /// Where the app signs people in; there is one wherever sessions are the app's.
    pub sign_in_url: Option<String>,
    /// Open the door for its adapter; none: it is shut.
    pub adapter_secrets: Option<Secrets>,
    /// Of its session cookie.
    pub cookie_name: String,
}

#[derive(Debug, Clone)]
pub struct EmailPasswordSettings {
    pub enabled: bool,
    pub sign_up: bool,
    pub require_verification: bool,
    pub auto_sign_in: bool,
    pub auto_sign_in_after_verification: bool,
    /// In UTF-16 code units, as JavaScript counts.
    pub min_length: usize,
    pub max_length: usize,
    pub revoke_sessions_on_reset: bool,
    /// Refuses the most common passwords.
    pub refuse_common: bool,
    /// Where a sign-up with a taken address is answered like any other, its owner gets a mail.
    pub notify_taken: bool,
}

#[derive(Debug, Clone)]
pub struct AccountSettings {
    pub change_email: bool,
    pub delete_user: bool,
    /// A deletion has to be confirmed by a mailed link.
    pub delete_needs_mail: bool,
}

/// A part of the Better Auth door that a deployment switches on or off under `[methods]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    Bearer,
    MultiSession,
    LastLoginMethod,
    Username,
    MagicLink,
    /// The mailed link leads to a page with a button, and not to the door.
    MagicLinkConfirm,
    EmailCode,
    /// Accounts move to another address by code, too.
    ChangeEmailByCode,
    Anonymous,
    OneTimeToken,
    Jwt,
    TwoFactor,
    Passkey,
    DeviceAuthorization,
    Admin,
    Organizations,
    ApiKeys,
    /// A key of a user opens a session wherever a cookie would.
    ApiKeySessions,
}

impl Switch {
    /// With the names of the settings.
    pub const ALL: [(Switch, &'static str); 18] = [
        (Switch::Bearer, "methods.bearer"),
        (Switch::MultiSession, "methods.multi_session"),
        (Switch::LastLoginMethod, "methods.last_login_method"),
        (Switch::Username, "methods.username"),
        (Switch::MagicLink, "methods.magic_link"),
        (Switch::MagicLinkConfirm, "methods.magic_link_confirm"),
        (Switch::EmailCode, "methods.email_code"),
        (Switch::ChangeEmailByCode, "methods.change_email_by_code"),
        (Switch::Anonymous, "methods.anonymous"),
        (Switch::OneTimeToken, "methods.one_time_token"),
        (Switch::Jwt, "methods.jwt"),
        (Switch::TwoFactor, "methods.two_factor"),
        (Switch::Passkey, "methods.passkey"),
        (Switch::DeviceAuthorization, "methods.device_authorization"),
        (Switch::Admin, "methods.admin"),
        (Switch::Organizations, "methods.organizations"),
        (Switch::ApiKeys, "methods.api_keys"),
        (Switch::ApiKeySessions, "methods.api_key_sessions"),
    ];
}

/// What is switched on.
#[derive(Debug, Clone, Copy, Default)]
pub struct MethodSettings(u32);

impl MethodSettings {
    pub fn with(self, switch: Switch) -> MethodSettings {
        MethodSettings(self.0 | 1 << switch as u32)
    }

    pub fn has(self, switch: Switch) -> bool {
        self.0 & 1 << switch as u32 != 0
    }
}

/// Keys that users make.
#[derive(Debug, Clone)]
pub struct ApiKeySettings {
    /// What a new key may: so many uses in a window of so many milliseconds; 0 uses: any number.
    pub rate_limit: (i64, i64),
}

/// The site that passkeys are made for.
#[derive(Debug, Clone)]
pub struct PasskeySettings {
    /// The host of the base URL, or a domain above it: keys work on all hosts below.
    pub rp_id: String,
    /// As authenticators show it.
    pub rp_name: String,
}

/// What users share.
#[derive(Debug, Clone, Default)]
pub struct OrganizationSettings {
    pub limits: identity::organizations::Limits,
    /// The app's page for invitations, with `{id}` where the invitation's id belongs; `None`: below the base URL.
    pub invitation_url: Option<String>,
    /// An invitation is shown and answered only where the caller's address is verified.
    pub require_verified_email: bool,
}

/// Sign-in of devices without a keyboard.
#[derive(Debug, Clone)]
pub struct DeviceSettings {
    /// How long a device has to wait before it asks again, in milliseconds.
    pub interval: i64,
}

/// Tokens that services check by themselves. Times are milliseconds.
#[derive(Debug, Clone)]
pub struct JwtSettings {
    pub expires_in: i64,
    /// How long a key signs; 0: for good.
    pub rotate_every: i64,
}

/// Visitors without an account.
#[derive(Debug, Clone)]
pub struct GuestSettings {
    pub enabled: bool,
    /// Sign the cookie; never those that sign sessions.
    pub secrets: Secrets,
    /// Of the cookie, from its signing.
    pub ttl: i64,
    pub allowances: Allowances,
}

#[derive(Debug, Clone)]
pub struct RateLimitSettings {
    pub enabled: bool,
    /// Replaces the built-in rule of a path: `(path, window in milliseconds, max)`; max 0 switches the rule off.
    pub rules: Vec<(String, i64, i64)>,
}

/// Bounds that protect the process (see docs/reference/limits.md).
#[derive(Debug, Clone)]
pub struct Limits {
    pub max_connections: usize,
    pub header_bytes: usize,
    pub header_count: usize,
    pub url_bytes: usize,
    pub body_bytes: usize,
    pub json_depth: usize,
    pub header_read_ms: u64,
    pub body_read_ms: u64,
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 16_384,
            header_bytes: 16 * 1024,
            header_count: 100,
            url_bytes: 8 * 1024,
            body_bytes: 64 * 1024,
            json_depth: 32,
            header_read_ms: 10_000,
            body_read_ms: 30_000,
            drain_ms: 10_000,
        }
    }
}
