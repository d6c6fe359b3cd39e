//! How a provider describes itself: where people are sent, where codes are taken, which keys sign.

use crate::id_token::Issuer;
use crate::keys::Algorithm;
use crate::settings::{Kind, Settings};
use crate::wire::{Trouble, address};
use serde::Deserialize;
use serde_json::Value;

/// What a provider is reached by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    pub authorization: String,
    pub token: String,
    pub user_info: Option<String>,
    pub end_session: Option<String>,
    /// As an answer to a sign-in may name it (RFC 9207).
    pub issuer: Option<String>,
    /// The client's secret goes into the header: the provider does not take it in the form.
    pub secret_in_header: bool,
    pub signing: Option<Signing>,
}

/// How id tokens are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signing {
    pub issuer: Issuer,
    pub keys: String,
    pub algorithms: Vec<Algorithm>,
}

/// The members that are read; others may come and go.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    userinfo_endpoint: Option<String>,
    end_session_endpoint: Option<String>,
    jwks_uri: String,
    id_token_signing_alg_values_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

pub fn document_url(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
}

/// Reads the description that was found under `issuer`. Whoever describes another issuer is not believed (OpenID
/// Connect Discovery, section 4.3), and no address may take secrets off TLS.
pub fn read(settings: &Settings, issuer: &str, document: &Value) -> Result<Endpoints, Trouble> {
    let wrong = |what: &str| Trouble::NotUnderstood(format!("the description of {issuer} {what}"));
    let document = Document::deserialize(document).map_err(|_| wrong("lacks what every one has"))?;
    let told = match settings.kind {
        // Its description of many tenants names none of them.
        Kind::Microsoft if document.issuer.contains("{tenantid}") => Issuer::Microsoft {
            authority: issuer
                .strip_suffix(&format!("/{}/v2.0", settings.tenant()))
                .unwrap_or(issuer)
                .to_owned(),
            tenant: settings.tenant().to_owned(),
        },
        // One tenant may be asked for by its domain, and signs by its id.
        Kind::Microsoft => Issuer::Exactly(document.issuer.clone()),
        _ if document.issuer.trim_end_matches('/') != issuer.trim_end_matches('/') => {
            return Err(wrong("names another issuer"));
        }
        Kind::Google => Issuer::Google(document.issuer.clone()),
        _ => Issuer::Exactly(document.issuer.clone()),
    };
    let fixed = matches!(settings.kind, Kind::Google | Kind::Apple | Kind::Microsoft);
    let algorithms: Vec<Algorithm> = match document.id_token_signing_alg_values_supported {
        _ if fixed && settings.issuer.is_none() => vec![Algorithm::Rs256],
        Some(names) => names.iter().filter_map(|name| Algorithm::parse(name)).collect(),
        // What every provider has to offer.
        None => vec![Algorithm::Rs256],
    };
    if algorithms.is_empty() {
        return Err(wrong("offers no way of signing that is taken here"));
    }
    let methods = document.token_endpoint_auth_methods_supported.unwrap_or_default();
    let takes = |name: &str| methods.iter().any(|method| method == name);
    let own = |own: &Option<String>, told: Option<String>| own.clone().or(told);
    let endpoints = Endpoints {
        authorization: own(&settings.authorization_url, None).unwrap_or(document.authorization_endpoint),
        token: own(&settings.token_url, None).unwrap_or(document.token_endpoint),
        user_info: own(&settings.user_info_url, document.userinfo_endpoint),
        end_session: own(&settings.end_session_url, document.end_session_endpoint),
        issuer: Some(document.issuer.clone()).filter(|issuer| !issuer.contains('{')),
        secret_in_header: takes("client_secret_basic") && !takes("client_secret_post"),
        signing: Some(Signing { issuer: told, keys: document.jwks_uri, algorithms }),
    };
    check(endpoints)
}

/// What is known of a provider that does not describe itself; `None` when the configuration has to say more.
pub fn fixed(settings: &Settings) -> Option<Endpoints> {
    let own = settings.issuer.as_deref();
    let (authorization, token, user_info) = match settings.kind {
        Kind::Github => {
            let base = own.unwrap_or("https://github.com");
            let api =
                own.map_or("https://api.github.com/user".to_owned(), |base| format!("{base}/api/v3/user"));
            (format!("{base}/login/oauth/authorize"), format!("{base}/login/oauth/access_token"), api)
        }
        Kind::Gitlab => {
            let base = own.unwrap_or("https://gitlab.com");
            (format!("{base}/oauth/authorize"), format!("{base}/oauth/token"), format!("{base}/api/v4/user"))
        }
        Kind::Discord => {
            let base = own.unwrap_or("https://discord.com");
            let api = format!("{base}/api/users/@me");
            (format!("{base}/api/oauth2/authorize"), format!("{base}/api/oauth2/token"), api)
        }
        _ => (String::new(), String::new(), String::new()),
    };
    let pick =
        |own: &Option<String>, known: String| own.clone().or(Some(known).filter(|known| !known.is_empty()));
    Some(Endpoints {
        authorization: pick(&settings.authorization_url, authorization)?,
        token: pick(&settings.token_url, token)?,
        user_info: Some(pick(&settings.user_info_url, user_info)?),
        end_session: settings.end_session_url.clone(),
        issuer: None,
        secret_in_header: false,
        signing: None,
    })
}

/// The addresses that are used with secrets; people are sent to the others by their browsers.
fn check(endpoints: Endpoints) -> Result<Endpoints, Trouble> {
    let keys = endpoints.signing.as_ref().map(|signing| signing.keys.as_str());
    let all = [
        Some(endpoints.authorization.as_str()),
        Some(&endpoints.token),
        endpoints.user_info.as_deref(),
        keys,
    ];
    let unfit = all.into_iter().flatten().find(|text| address(text).is_none());
    match unfit.map(|text| text.chars().take(120).collect()) {
        Some(text) => Err(Trouble::NotAllowed(text)),
        None => Ok(endpoints),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ISSUER: &str = "https://id.example.com";

    fn document() -> Value {
        json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://id.example.com/auth",
            "token_endpoint": "https://id.example.com/token",
            "jwks_uri": "https://id.example.com/keys",
            "id_token_signing_alg_values_supported": ["HS256", "none", "ES256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        })
    }

    fn read_with(name: &str, value: Value) -> Result<Endpoints, Trouble> {
        let mut document = document();
        document[name] = value;
        read(&Settings::new("x", Kind::Oidc, "id"), ISSUER, &document)
    }

    #[test]
    fn a_description_is_believed_about_its_own_issuer_only() {
        let found = read_with("x", json!(1)).unwrap();
        assert_eq!(found.signing.unwrap().algorithms, [Algorithm::Es256]);
        assert!(found.secret_in_header);
        for (name, value) in [
            ("issuer", json!("https://evil.example.com")),
            ("issuer", json!(null)),
            ("token_endpoint", json!("http://id.example.com/token")),
            ("jwks_uri", json!("file:///etc/passwd")),
            ("jwks_uri", json!(null)),
            ("id_token_signing_alg_values_supported", json!(["none", "HS256"])),
        ] {
            assert!(read_with(name, value.clone()).is_err(), "{name}: {value}");
        }
    }

    #[test]
    fn microsoft_describes_many_tenants_at_once() {
        let settings = Settings::new("microsoft", Kind::Microsoft, "id");
        let issuer = settings.issuer().unwrap();
        let mut document = document();
        document["issuer"] = json!("https://login.microsoftonline.com/{tenantid}/v2.0");
        let found = read(&settings, &issuer, &document).unwrap();
        let authority = "https://login.microsoftonline.com".to_owned();
        let signing = found.signing.unwrap();
        assert_eq!(signing.issuer, Issuer::Microsoft { authority, tenant: "common".into() });
        assert_eq!((found.issuer, signing.algorithms), (None, vec![Algorithm::Rs256]));
    }

    #[test]
    fn a_plain_provider_needs_its_three_addresses() {
        let mut settings = Settings::new("x", Kind::Oauth2, "id");
        assert_eq!(fixed(&settings), None);
        settings.authorization_url = Some("https://a.example/auth".into());
        settings.token_url = Some("https://a.example/token".into());
        settings.user_info_url = Some("https://a.example/me".into());
        assert!(fixed(&settings).is_some());
        for kind in [Kind::Github, Kind::Gitlab, Kind::Discord] {
            assert!(fixed(&Settings::new("x", kind, "id")).is_some());
        }
    }
}
