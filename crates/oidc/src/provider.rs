//! One provider, ready for use: where people are sent, codes for tokens, tokens for a profile.

use crate::discovery::{self, Endpoints, Signing};
use crate::id_token::{self, Claims, Expected, Refused};
use crate::keys::KeySet;
use crate::profile::{self, Profile};
use crate::remembered::Remembered;
use crate::settings::{Kind, Settings};
use crate::tokens::{self, Tokens};
use crate::wire::{Credentials, Trouble, Wire, address};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::time::{HOUR, MINUTE, SECOND};
use kernel::{Millis, Secret};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard};
use url::Url;

/// A description is read again after so long, and serves on while the provider is away.
const DESCRIPTION_AGE: i64 = HOUR;
/// Keys that were withdrawn are believed no longer than this, and an hour at most while the provider is away.
const KEYS_AGE: i64 = 10 * MINUTE;
const KEYS_LAST: i64 = HOUR;
/// Tokens with made-up key names must not have the keys fetched for each of them.
const KEYS_PAUSE: i64 = 30 * SECOND;
/// For whoever signs out here while the provider is away.
const MOMENT: Duration = Duration::from_secs(2);
/// Parameters that are set here and by nobody else.
pub const RESERVED: [&str; 8] = [
    "state",
    "client_id",
    "redirect_uri",
    "response_type",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "scope",
];

/// Accounts whose refresh tokens are traded share so many turns.
const TURNS: usize = 64;

/// All that a deployment knows.
pub struct Providers {
    list: Vec<Provider>,
    turns: Vec<Mutex<()>>,
}

impl Providers {
    /// `None` when this build has no cryptography for TLS.
    pub fn new(settings: impl IntoIterator<Item = Settings>) -> Option<Providers> {
        let list = settings.into_iter().map(Provider::new).collect::<Option<Vec<_>>>()?;
        Some(Providers { list, turns: (0..TURNS).map(|_| Mutex::new(())).collect() })
    }

    pub fn get(&self, id: &str) -> Option<&Provider> {
        self.list.iter().find(|provider| provider.settings.id == id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Provider> {
        self.list.iter()
    }

    /// Waits for an account's turn: many a provider takes a refresh token once and shuts the account for a second try.
    pub async fn turn(&self, account: &str) -> MutexGuard<'_, ()> {
        let sum = account.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        self.turns[sum % TURNS].lock().await
    }
}

pub struct Provider {
    pub settings: Settings,
    wire: Wire,
    described: Mutex<Remembered<Endpoints>>,
    keys: Mutex<Remembered<KeySet>>,
}

/// What the address is made of that people are sent to.
#[derive(Clone, Default)]
pub struct Start<'a> {
    pub state: &'a str,
    pub verifier: &'a str,
    pub nonce: &'a str,
    pub redirect_uri: &'a str,
    pub scopes: &'a [String],
    pub login_hint: Option<&'a str>,
    pub parameters: &'a [(String, String)],
}

/// Which sign-in an id token must belong to.
#[derive(Clone, Copy)]
pub enum Nonce<'a> {
    /// The one that was begun here.
    Of(&'a str),
    /// The app got the token by itself, and may say with which nonce.
    OfApp(Option<&'a str>),
}

impl Provider {
    pub fn new(settings: Settings) -> Option<Provider> {
        Some(Provider { settings, wire: Wire::new()?, described: Mutex::default(), keys: Mutex::default() })
    }

    /// Signs who somebody is, so that apps may bring such a token along.
    pub fn signs(&self) -> bool {
        self.settings.kind.is_discovered()
    }

    async fn endpoints(&self, now: Millis) -> Result<Arc<Endpoints>, Trouble> {
        let Some(issuer) = self.settings.issuer() else {
            let lacking = || Trouble::NotAllowed("an address that is not configured".into());
            return discovery::fixed(&self.settings).map(Arc::new).ok_or_else(lacking);
        };
        let mut described = self.described.lock().await;
        if let Some(found) = described.younger_than(DESCRIPTION_AGE, now) {
            return Ok(found);
        }
        let fetching = async {
            let document = self.wire.look(&discovery::document_url(&issuer)).await?;
            discovery::read(&self.settings, &issuer, &document)
        };
        match described.fetch(now, fetching).await {
            Ok(found) => Ok(found),
            Err(trouble) => described.value.as_ref().map(|(old, _)| old.clone()).ok_or(trouble),
        }
    }

    async fn keys(&self, signing: &Signing, age: i64, now: Millis) -> Result<Arc<KeySet>, Trouble> {
        let mut keys = self.keys.lock().await;
        if let Some(found) = keys.younger_than(age, now) {
            return Ok(found);
        }
        let fetching = async {
            let document = self.wire.look(&signing.keys).await?;
            let unread = || Trouble::NotUnderstood("its key set is none".into());
            KeySet::read(&document).ok_or_else(unread)
        };
        match keys.fetch(now, fetching).await {
            Ok(found) => Ok(found),
            Err(trouble) => keys.younger_than(KEYS_LAST, now).ok_or(trouble),
        }
    }

    /// The issuer that an answer may name; `None` where there is none to compare with.
    pub async fn issuer(&self, now: Millis) -> Result<Option<String>, Trouble> {
        Ok(self.endpoints(now).await?.issuer.clone())
    }

    /// Where people are sent to sign in.
    pub async fn authorization_url(&self, start: &Start<'_>, now: Millis) -> Result<String, Trouble> {
        let endpoints = self.endpoints(now).await?;
        let unfit = |_| Trouble::NotUnderstood("its address for signing in is none".into());
        let mut url = Url::parse(&endpoints.authorization).map_err(unfit)?;
        let settings = &self.settings;
        let mut pairs = vec![
            ("response_type", "code".to_owned()),
            ("client_id", settings.client_id.clone()),
            ("state", start.state.to_owned()),
        ];
        let scopes = self.scopes(start.scopes);
        if !scopes.is_empty() {
            pairs.push(("scope", scopes.join(" ")));
        }
        pairs.push(("redirect_uri", start.redirect_uri.to_owned()));
        pairs.extend(start.login_hint.map(|hint| ("login_hint", hint.to_owned())));
        if self.signs() {
            pairs.push(("nonce", start.nonce.to_owned()));
        }
        // Who is signed in at Discord already is not asked again unless that is wanted.
        let prompt = settings.prompt.as_deref().or((settings.kind == Kind::Discord).then_some("none"));
        pairs.extend(prompt.map(|prompt| ("prompt", prompt.to_owned())));
        pairs.extend(settings.hosted_domain.as_ref().map(|domain| ("hd", domain.clone())));
        if settings.kind == Kind::Apple {
            // Apple tells names and addresses in no other way.
            pairs.push(("response_mode", "form_post".to_owned()));
        }
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(start.verifier.as_bytes()));
        pairs.extend([("code_challenge_method", "S256".to_owned()), ("code_challenge", challenge)]);
        for (name, value) in pairs {
            set(&mut url, name, &value);
        }
        if settings.kind == Kind::Google {
            set(&mut url, "include_granted_scopes", "true");
        }
        let free = |(name, _): &&(String, String)| !RESERVED.contains(&name.as_str());
        for (name, value) in settings.parameters.iter().chain(start.parameters).filter(free) {
            set(&mut url, name, value);
        }
        Ok(url.into())
    }

    /// The well-known providers' own scopes come first; at one's own provider what the app asks for does.
    fn scopes(&self, asked: &[String]) -> Vec<String> {
        let kind = self.settings.kind;
        let known = kind.scopes().iter().map(|scope| (*scope).to_owned());
        let configured = self.settings.scopes.iter().cloned();
        let asked = asked.iter().cloned();
        let mut scopes: Vec<String> = match kind {
            Kind::Oidc | Kind::Oauth2 | Kind::Discord => known.chain(asked).chain(configured).collect(),
            _ => known.chain(configured).chain(asked).collect(),
        };
        if kind == Kind::Oidc && !scopes.iter().any(|scope| scope == "openid") {
            scopes.insert(0, "openid".to_owned());
        }
        scopes
    }

    /// Trades a code for tokens.
    pub async fn exchange(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
        now: Millis,
    ) -> Result<Tokens, Trouble> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", redirect_uri),
        ];
        let answer = self.ask_for_tokens(&form, now).await?;
        if answer.get("access_token").is_none() && answer.get("id_token").is_none() {
            return Err(Trouble::NotUnderstood("it handed out no token".into()));
        }
        Ok(tokens::read(&answer, now))
    }

    /// Trades a refresh token for a new access token.
    pub async fn refresh(&self, refresh: &Secret<String>, now: Millis) -> Result<Tokens, Trouble> {
        let mut form = vec![("grant_type", "refresh_token"), ("refresh_token", refresh.expose().as_str())];
        let scopes = self.scopes(&[]).join(" ");
        if self.settings.kind == Kind::Microsoft {
            form.push(("scope", &scopes));
        }
        let answer = self.ask_for_tokens(&form, now).await?;
        let found = tokens::read(&answer, now);
        if found.access.is_none() {
            return Err(Trouble::NotUnderstood("it handed out no access token".into()));
        }
        Ok(found)
    }

    async fn ask_for_tokens(
        &self,
        form: &[(&str, &str)],
        now: Millis,
    ) -> Result<Map<String, Value>, Trouble> {
        let endpoints = self.endpoints(now).await?;
        let client_id = self.settings.client_id.as_str();
        let statement = match &self.settings.apple {
            None => None,
            Some(key) => {
                let failed = || Trouble::NotAllowed("a key that does not sign".into());
                Some(key.client_secret(client_id, now).ok_or_else(failed)?)
            }
        };
        let mut form = form.to_vec();
        let credentials = match statement.as_ref().or(self.settings.client_secret.as_ref()) {
            Some(password) if endpoints.secret_in_header => Credentials::Basic { user: client_id, password },
            secret => {
                form.push(("client_id", client_id));
                form.extend(secret.map(|secret| ("client_secret", secret.expose().as_str())));
                Credentials::None
            }
        };
        self.wire.post(&endpoints.token, &form, credentials).await
    }

    /// Who the tokens belong to. Where the provider signs that, nothing else is believed.
    pub async fn profile(
        &self,
        tokens: &Tokens,
        nonce: &str,
        user: Option<&str>,
        now: Millis,
    ) -> Result<Option<Profile>, Trouble> {
        if !self.signs() {
            return self.answered_profile(tokens.access.as_ref(), None, now).await;
        }
        let Some(token) = &tokens.id else { return Ok(None) };
        let claims = self.claims(token.expose(), Nonce::Of(nonce), now).await?;
        let mut found = self.signed_profile(claims, tokens.access.as_ref(), now).await?;
        if let (Some(found), Kind::Apple, Some(user)) = (&mut found, self.settings.kind, user) {
            found.name = profile::name_from_apple(user).or(found.name.take());
        }
        Ok(found)
    }

    /// Who an id token speaks of that an app brings along.
    pub async fn profile_from_app(
        &self,
        token: &str,
        nonce: Option<&str>,
        access: Option<&Secret<String>>,
        now: Millis,
    ) -> Result<Option<Profile>, Trouble> {
        let claims = self.claims(token, Nonce::OfApp(nonce), now).await?;
        self.signed_profile(claims, access, now).await
    }

    /// Who somebody is who signed in some time ago: from the token while it holds, then from the provider's answer,
    /// which must be about the same person.
    pub async fn current_profile(
        &self,
        tokens: &Tokens,
        subject: &str,
        now: Millis,
    ) -> Result<Option<Profile>, Trouble> {
        let same = |found: &Profile| found.subject == subject;
        if let (true, Some(token)) = (self.signs(), &tokens.id)
            && let Ok(claims) = self.claims(token.expose(), Nonce::OfApp(None), now).await
        {
            return Ok(self.signed_profile(claims, tokens.access.as_ref(), now).await?.filter(same));
        }
        Ok(self.answered_profile(tokens.access.as_ref(), None, now).await?.filter(same))
    }

    /// The claims of a token that holds. A key that is not known is looked for once more at the provider.
    async fn claims(&self, token: &str, nonce: Nonce<'_>, now: Millis) -> Result<Claims, Trouble> {
        let endpoints = self.endpoints(now).await?;
        let signing = endpoints.signing.as_ref().ok_or(Refused::Algorithm)?;
        let settings = &self.settings;
        let mut audiences = vec![settings.client_id.as_str()];
        let nonce = match nonce {
            Nonce::Of(nonce) => Some(nonce),
            Nonce::OfApp(nonce) => {
                audiences.extend(settings.audiences.iter().map(String::as_str));
                nonce
            }
        };
        let young = matches!(settings.kind, Kind::Google | Kind::Apple | Kind::Microsoft);
        let expected = Expected {
            issuer: &signing.issuer,
            algorithms: &signing.algorithms,
            audiences: &audiences,
            nonce,
            hashed_nonce: settings.kind == Kind::Apple,
            max_age: young.then_some(HOUR),
        };
        let keys = self.keys(signing, KEYS_AGE, now).await?;
        let claims = match id_token::verify(token, &keys, &expected, now) {
            Err(Refused::UnknownKey) => {
                let keys = self.keys(signing, KEYS_PAUSE, now).await?;
                id_token::verify(token, &keys, &expected, now)?
            }
            judged => judged?,
        };
        let domain = claims.get("hd").and_then(Value::as_str);
        match settings.hosted_domain.as_deref() {
            Some("*") if domain.is_none_or(str::is_empty) => Err(Refused::Domain.into()),
            Some(wanted) if wanted != "*" && domain != Some(wanted) => Err(Refused::Domain.into()),
            _ => Ok(claims),
        }
    }

    /// A token that says too little is completed by the provider's answer about the same person.
    async fn signed_profile(
        &self,
        claims: Claims,
        access: Option<&Secret<String>>,
        now: Millis,
    ) -> Result<Option<Profile>, Trouble> {
        let kind = self.settings.kind;
        if kind == Kind::Oidc && !claims.contains_key("email") && access.is_some() {
            let subject = claims.get("sub").and_then(Value::as_str).map(str::to_owned);
            return self.answered_profile(access, subject.as_deref(), now).await;
        }
        Ok(profile::of_claims(kind, claims))
    }

    async fn answered_profile(
        &self,
        access: Option<&Secret<String>>,
        subject: Option<&str>,
        now: Millis,
    ) -> Result<Option<Profile>, Trouble> {
        let endpoints = self.endpoints(now).await?;
        let (Some(url), Some(access)) = (&endpoints.user_info, access) else { return Ok(None) };
        let Value::Object(told) = self.wire.get(url, Credentials::Bearer(access)).await? else {
            return Ok(None);
        };
        let emails = match self.settings.kind {
            // Without the right to read them there is no list, and no address that is proven.
            Kind::Github => {
                let url = format!("{}/emails", url.trim_end_matches('/'));
                self.wire.get(&url, Credentials::Bearer(access)).await.ok()
            }
            _ => None,
        };
        let found = profile::of_answer(self.settings.kind, told, emails.as_ref());
        Ok(found.filter(|found| subject.is_none_or(|subject| found.subject == subject)))
    }

    /// As it was read last, however long ago; a provider that was never asked is given a moment.
    async fn known_endpoints(&self, now: Millis) -> Option<Arc<Endpoints>> {
        let remembered = self.described.try_lock().ok().and_then(|described| described.value.clone());
        match remembered {
            Some((found, _)) => Some(found),
            None => tokio::time::timeout(MOMENT, self.endpoints(now)).await.ok()?.ok(),
        }
    }

    /// Where somebody signs out at the provider, too; `None` where there is no such place, or where the provider does not
    /// say so at once: a provider that is away must not keep anybody in.
    pub async fn end_session_url(
        &self,
        id_token: Option<&str>,
        back_to: Option<&str>,
        state: Option<&str>,
        now: Millis,
    ) -> Option<String> {
        if !self.settings.sign_out_there {
            return None;
        }
        let endpoints = self.known_endpoints(now).await?;
        let mut url = address(endpoints.end_session.as_deref()?)?;
        if let Some(token) = id_token {
            set(&mut url, "id_token_hint", token);
        }
        if let Some(target) = back_to {
            set(&mut url, "post_logout_redirect_uri", target);
        }
        if back_to.is_some() || id_token.is_none() {
            set(&mut url, "client_id", &self.settings.client_id);
        }
        if let (Some(_), Some(state)) = (back_to, state) {
            set(&mut url, "state", state);
        }
        Some(url.into())
    }

    /// Asks the provider what a sign-in would need of it: its description and its keys.
    pub async fn checkup(&self, now: Millis) -> Result<(), Trouble> {
        let endpoints = self.endpoints(now).await?;
        if let Some(signing) = &endpoints.signing {
            self.keys(signing, KEYS_AGE, now).await?;
        }
        Ok(())
    }
}

/// As JavaScript's `searchParams.set`: the first of that name gets the value, further ones go.
fn set(url: &mut Url, name: &str, value: &str) {
    let mut pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    match pairs.iter().position(|(known, _)| known == name) {
        None => {
            url.query_pairs_mut().append_pair(name, value);
        }
        Some(first) => {
            pairs[first].1 = value.to_owned();
            let mut index = 0;
            pairs.retain(|(known, _)| {
                index += 1;
                index - 1 <= first || known != name
            });
            url.query_pairs_mut().clear().extend_pairs(pairs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_800_000_000_000);

    fn provider(kind: Kind) -> Provider {
        let mut settings = Settings::new("x", kind, "id");
        settings.authorization_url = Some("https://id.example.com/auth?tenant=a".into());
        settings.token_url = Some("https://id.example.com/token".into());
        settings.user_info_url = Some("https://id.example.com/me".into());
        settings.scopes = vec!["extra".into()];
        Provider::new(settings).unwrap()
    }

    #[tokio::test]
    async fn people_are_sent_with_everything_that_binds_the_answer() {
        let parameters = [("foo", "bar"), ("state", "forged"), ("prompt", "login")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let start = Start {
            state: "s",
            verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
            nonce: "n",
            redirect_uri: "https://auth.example.com/cb",
            scopes: &["asked".into()],
            login_hint: Some("ada@example.com"),
            parameters: &parameters,
        };
        let url = provider(Kind::Gitlab).authorization_url(&start, NOW).await.unwrap();
        assert_eq!(
            url,
            "https://id.example.com/auth?tenant=a&response_type=code&client_id=id&state=s&scope=read_user+extra+asked\
             &redirect_uri=https%3A%2F%2Fauth.example.com%2Fcb&login_hint=ada%40example.com&code_challenge_method=S256\
             &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&foo=bar&prompt=login"
        );
    }

    #[test]
    fn a_parameter_that_is_there_is_replaced_and_stands_once() {
        let mut url = Url::parse("https://a.example/?x=1&y=2&x=3").unwrap();
        set(&mut url, "x", "4");
        set(&mut url, "z", "5");
        assert_eq!(url.as_str(), "https://a.example/?x=4&y=2&z=5");
    }
}
