//! What a deployment tells about a provider, and what is known about the well-known ones beforehand.

use crate::apple::SigningKey;
use kernel::Secret;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Google,
    Github,
    Apple,
    Microsoft,
    Gitlab,
    Discord,
    /// OpenID Connect by discovery.
    Oidc,
    /// OAuth 2.0 with an address that describes the person.
    Oauth2,
}

impl Kind {
    pub const ALL: [(Kind, &'static str); 8] = [
        (Kind::Google, "google"),
        (Kind::Github, "github"),
        (Kind::Apple, "apple"),
        (Kind::Microsoft, "microsoft"),
        (Kind::Gitlab, "gitlab"),
        (Kind::Discord, "discord"),
        (Kind::Oidc, "oidc"),
        (Kind::Oauth2, "oauth2"),
    ];

    pub fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|(_, known)| *known == name).map(|(kind, _)| kind)
    }

    /// Describes itself under its issuer and signs who the person is.
    pub fn is_discovered(self) -> bool {
        matches!(self, Kind::Google | Kind::Apple | Kind::Microsoft | Kind::Oidc)
    }

    /// Asked for before those of the configuration; a discovered provider of one's own has none.
    pub(crate) fn scopes(self) -> &'static [&'static str] {
        match self {
            Kind::Google => &["email", "profile", "openid"],
            Kind::Github => &["read:user", "user:email"],
            Kind::Apple => &["email", "name"],
            Kind::Microsoft => &["openid", "profile", "email", "User.Read", "offline_access"],
            Kind::Gitlab => &["read_user"],
            Kind::Discord => &["identify", "email"],
            Kind::Oidc | Kind::Oauth2 => &[],
        }
    }
}

#[derive(Debug, Clone)]
pub struct Settings {
    /// As clients name it and as it stands in accounts and in the callback's path. Made once at start, and then as long
    /// as the program.
    pub id: &'static str,
    pub kind: Kind,
    pub client_id: String,
    /// Without one the client is public and proves itself by PKCE alone.
    pub client_secret: Option<Secret<String>>,
    /// Instead of a secret, at Apple.
    pub apple: Option<SigningKey>,
    /// Other clients of the same app, such as a phone's, whose id tokens open a session, too.
    pub audiences: Vec<String>,
    /// Of a discovered provider; at GitHub and GitLab the address of an installation of one's own.
    pub issuer: Option<String>,
    /// `common`, `organizations`, `consumers` or an id, at Microsoft.
    pub tenant: Option<String>,
    pub authorization_url: Option<String>,
    pub token_url: Option<String>,
    pub user_info_url: Option<String>,
    pub end_session_url: Option<String>,
    pub scopes: Vec<String>,
    pub prompt: Option<String>,
    /// At Google: only people of this domain.
    pub hosted_domain: Option<String>,
    /// Further parameters of the address that people are sent to.
    pub parameters: Vec<(String, String)>,
    /// Its word about an address counts although it does not call it verified.
    pub trusted: bool,
    /// New people may come this way.
    pub sign_up: bool,
    /// They may without the app's saying so (`requestSignUp`).
    pub implicit_sign_up: bool,
    /// Whoever signs out is told where to sign out at the provider, too.
    pub sign_out_there: bool,
}

impl Settings {
    /// What is left is what most need.
    pub fn new(id: &'static str, kind: Kind, client_id: impl Into<String>) -> Settings {
        Settings {
            id,
            kind,
            client_id: client_id.into(),
            client_secret: None,
            apple: None,
            audiences: Vec::new(),
            issuer: None,
            tenant: None,
            authorization_url: None,
            token_url: None,
            user_info_url: None,
            end_session_url: None,
            scopes: Vec::new(),
            prompt: None,
            hosted_domain: None,
            parameters: Vec::new(),
            trusted: false,
            sign_up: true,
            implicit_sign_up: true,
            sign_out_there: kind == Kind::Oidc,
        }
    }

    /// Where a discovered provider describes itself, without a slash at the end.
    pub fn issuer(&self) -> Option<String> {
        let own = self.issuer.as_deref();
        match self.kind {
            Kind::Google => Some(own.unwrap_or("https://accounts.google.com").to_owned()),
            Kind::Apple => Some(own.unwrap_or("https://appleid.apple.com").to_owned()),
            Kind::Microsoft => {
                let authority = own.unwrap_or("https://login.microsoftonline.com");
                Some(format!("{authority}/{}/v2.0", self.tenant()))
            }
            Kind::Oidc => own.map(str::to_owned),
            Kind::Github | Kind::Gitlab | Kind::Discord | Kind::Oauth2 => None,
        }
    }

    pub fn tenant(&self) -> &str {
        self.tenant.as_deref().unwrap_or("common")
    }
}
