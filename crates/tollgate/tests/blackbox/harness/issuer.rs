//! A provider of OpenID Connect for one test: it describes itself, signs with a key of its own, takes each code and each
//! refresh token once, checks what proves a sign-in, and can be told to misbehave. Nobody clicks: [`Issuer::person_goes`]
//! is the person.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

pub const CLIENT_ID: &str = "tollgate-at-the-issuer";
pub const CLIENT_SECRET: &str = "issuers-secret-Zq8vN2mC4xL6kJ0h";

pub struct Issuer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    issuer: String,
    made: u64,
    codes: HashMap<String, Grant>,
    refresh: HashMap<String, Value>,
    access: HashMap<String, Value>,
    /// Paths that were asked for.
    asked: Vec<String>,
    /// Members of the next id tokens; null takes one away.
    claims: Value,
    head: Value,
    life: i64,
    silent: bool,
    handed_out: Vec<String>,
    signs_with_another_key: bool,
    statements: Vec<String>,
}

/// What a code stands for.
struct Grant {
    person: Value,
    nonce: Option<String>,
    challenge: String,
    redirect_uri: String,
}

impl Issuer {
    pub fn start() -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        {
            let mut state = lock(&shared.state);
            state.issuer = format!("http://{address}");
            (state.claims, state.head, state.life) = (json!({}), json!({}), 3_600);
        }
        let for_clients = Arc::clone(&shared);
        // Both end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&for_clients);
                // A caller that goes away has its reasons.
                std::thread::spawn(move || _ = answer(stream, &shared));
            }
        });
        Issuer { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A provider of this name at this issuer, with further members.
    pub fn named(&self, name: &str, more: &str) -> String {
        format!(
            "[providers.{name}]\nkind = \"oidc\"\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nclient_secret = \"{CLIENT_SECRET}\"\n\
             scopes = [\"openid\", \"email\"]\n{more}\n",
            self.url()
        )
    }

    /// Somebody signs in at the address where a browser was sent, and is sent back: path and query of the callback.
    #[track_caller]
    pub fn person_goes(&self, url: &str, person: Value) -> String {
        let url = Url::parse(url).expect("an address");
        let of = |name: &str| {
            url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
        };
        let need = |name: &str| of(name).unwrap_or_else(|| panic!("no {name} in {url}"));
        assert_eq!((need("client_id").as_str(), need("response_type").as_str()), (CLIENT_ID, "code"));
        assert_eq!(need("code_challenge_method"), "S256");
        let mut state = lock(&self.shared.state);
        let code = state.fresh("code");
        let redirect_uri = need("redirect_uri");
        let back = Url::parse(&redirect_uri).expect("an address");
        let grant = Grant { person, nonce: of("nonce"), challenge: need("code_challenge"), redirect_uri };
        let issuer = state.issuer.clone();
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("code", code.as_str()), ("state", &need("state")), ("iss", &issuer)])
            .finish();
        state.codes.insert(code, grant);
        format!("{}?{query}", back.path())
    }

    /// What the next id tokens say besides the truth; null takes a claim away.
    pub fn claim(&self, claims: Value) {
        lock(&self.shared.state).claims = claims;
    }

    /// What their heads say besides the truth.
    pub fn head(&self, head: Value) {
        lock(&self.shared.state).head = head;
    }

    /// How many seconds access tokens live.
    pub fn access_tokens_live(&self, seconds: i64) {
        lock(&self.shared.state).life = seconds;
    }

    /// It takes requests and answers none.
    pub fn be_silent(&self, silent: bool) {
        lock(&self.shared.state).silent = silent;
    }

    /// Signs with a key that is not among those it shows.
    pub fn sign_with_another_key(&self) {
        lock(&self.shared.state).signs_with_another_key = true;
    }

    /// What was sent in place of a client's secret.
    pub fn statements(&self) -> Vec<String> {
        lock(&self.shared.state).statements.clone()
    }

    /// How often a path was asked for.
    pub fn asked_for(&self, path: &str) -> usize {
        lock(&self.shared.state).asked.iter().filter(|asked| *asked == path).count()
    }

    /// Every token and code it has handed out.
    pub fn handed_out(&self) -> Vec<String> {
        lock(&self.shared.state).handed_out.clone()
    }

    /// An id token as an app on a phone would get it.
    pub fn id_token(&self, person: &Value, nonce: Option<&str>) -> String {
        lock(&self.shared.state).id_token(person, nonce)
    }
}

impl State {
    fn fresh(&mut self, kind: &str) -> String {
        self.made += 1;
        let text = format!("{kind}-{}-xX7wQ2rT9yU4iO1pA6sD8f", self.made);
        self.handed_out.push(text.clone());
        text
    }

    fn id_token(&mut self, person: &Value, nonce: Option<&str>) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let mut claims = person.clone();
        let own =
            json!({"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 3_600, "nonce": nonce});
        merge(&mut claims, &own);
        merge(&mut claims, &self.claims);
        let mut head = json!({"alg": "EdDSA", "kid": "one"});
        merge(&mut head, &self.head);
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(&claims));
        let signature = pair(self.signs_with_another_key).sign(signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        self.handed_out.push(token.clone());
        token
    }

    fn tokens(&mut self, person: &Value, nonce: Option<&str>) -> Value {
        let (access, refresh) = (self.fresh("access"), self.fresh("refresh"));
        self.access.insert(access.clone(), person.clone());
        self.refresh.insert(refresh.clone(), person.clone());
        json!({"access_token": access, "refresh_token": refresh, "token_type": "Bearer", "expires_in": self.life,
            "scope": "openid email", "id_token": self.id_token(person, nonce)})
    }
}

fn merge(into: &mut Value, from: &Value) {
    let into = into.as_object_mut().expect("an object");
    for (name, value) in from.as_object().expect("an object") {
        match value {
            Value::Null => drop(into.remove(name)),
            value => drop(into.insert(name.clone(), value.clone())),
        }
    }
}

fn pair(another: bool) -> Ed25519KeyPair {
    let seed = if another { [8; 32] } else { [7; 32] };
    Ed25519KeyPair::from_seed_unchecked(&seed).expect("a seed is a key")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(stream: TcpStream, shared: &Shared) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let target = line.split(' ').nth(1)?.to_owned();
    let (mut length, mut bearer) = (0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => bearer = value.trim().trim_start_matches("Bearer ").to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let path = target.split('?').next()?.to_owned();
    lock(&shared.state).asked.push(path.clone());
    while lock(&shared.state).silent {
        std::thread::sleep(Duration::from_millis(5));
    }
    let (status, answer) = route(&mut lock(&shared.state), &path, &bearer, &body);
    let answer = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        answer.len()
    );
    writer.write_all(format!("{head}{answer}").as_bytes()).ok()
}

fn route(state: &mut State, path: &str, bearer: &str, body: &[u8]) -> (u16, Value) {
    let issuer = state.issuer.clone();
    if let Some(tenant) = path.strip_suffix("/.well-known/openid-configuration") {
        // As Microsoft describes many tenants at once: by a name that stands for each.
        let many = ["/common/", "/organizations/", "/consumers/"];
        let tenant = many.iter().fold(tenant.to_owned(), |path, name| path.replace(name, "/{tenantid}/"));
        let own = format!("{issuer}{tenant}");
        return described(&issuer, &own);
    }
    let person = state.access.get(bearer).cloned();
    let told = |member: Option<&str>| match (&person, member) {
        (None, _) => (401, json!({})),
        (Some(person), None) => (200, person.clone()),
        (Some(person), Some(member)) => (200, person[member].clone()),
    };
    match path {
        "/keys" => {
            let x = URL_SAFE_NO_PAD.encode(pair(false).public_key());
            (200, json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "one", "use": "sig"}]}))
        }
        // Where providers of their own kind tell who somebody is.
        "/me" | "/api/v3/user" | "/api/v4/user" | "/api/users/@me" => told(None),
        "/api/v3/user/emails" => told(Some("emails")),
        "/token" | "/login/oauth/access_token" | "/oauth/token" | "/api/oauth2/token" => {
            let form: HashMap<String, String> = form_urlencoded::parse(body).into_owned().collect();
            token(state, &form).unwrap_or((400, json!({"error": "invalid_grant"})))
        }
        _ => (404, json!({})),
    }
}

fn described(issuer: &str, own: &str) -> (u16, Value) {
    let document = json!({
        "issuer": own, "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"), "userinfo_endpoint": format!("{issuer}/me"),
        "jwks_uri": format!("{issuer}/keys"), "end_session_endpoint": format!("{issuer}/out"),
        "id_token_signing_alg_values_supported": ["EdDSA"],
    });
    (200, document)
}

fn token(state: &mut State, form: &HashMap<String, String>) -> Option<(u16, Value)> {
    let secret = form.get("client_secret")?;
    // Apple's clients sign a statement in its place.
    let statement = secret.split('.').count() == 3;
    if form.get("client_id")? != CLIENT_ID || !(statement || secret == CLIENT_SECRET) {
        return Some((401, json!({"error": "invalid_client"})));
    }
    if statement {
        state.statements.push(secret.clone());
    }
    match form.get("grant_type")?.as_str() {
        "authorization_code" => {
            let grant = state.codes.remove(form.get("code")?)?;
            let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, form.get("code_verifier")?.as_bytes()));
            let good = challenge == grant.challenge && form.get("redirect_uri")? == &grant.redirect_uri;
            good.then(|| (200, state.tokens(&grant.person, grant.nonce.as_deref())))
        }
        "refresh_token" => {
            let person = state.refresh.remove(form.get("refresh_token")?)?;
            Some((200, state.tokens(&person, None)))
        }
        _ => None,
    }
}
