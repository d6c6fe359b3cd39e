//! Fuzz targets as plain functions: each takes bytes from an enemy and panics when a promise is broken. The tests below
//! drive them on the stable toolchain; `cargo xtask fuzz` searches with coverage.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
mod authjs;
mod second_factor;

pub use authjs::{authjs_claims, authjs_cookie, authjs_token};
pub use second_factor::{totp_code, webauthn_authentication, webauthn_registration};

use billing::signature::{Verifier, sign};
use billing::stripe::objects::Event;
use billing::stripe::segment;
use billing::subject::Subject;
use gate::guest_cookie::GuestKeys;
use gate::rules::{Asks, Pattern, PlainPath, Rule, Rules};
use kernel::signed::Signer;
use kernel::time::{DAY, SECOND};
use kernel::{
    ClientAddress, GuestId, Millis, Secret, Secrets, TrustedOrigins, TrustedProxies, cookie, redirect,
};
use oidc::id_token::{Claims, Expected, Issuer, verify};
use oidc::keys::{Algorithm, KeySet};
use oidc::{Kind, profile};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use std::net::IpAddr;
use url::Url;

fn signer(secret: &str) -> Signer {
    Signer::new(&Secrets::new(vec![secret.into()]).expect("one secret"))
}

fn trusted() -> TrustedOrigins {
    let patterns = ["https://app.example", "https://*.wild.example", "myapp://"].map(String::from);
    TrustedOrigins::new("https://auth.example", &patterns).expect("the patterns are good")
}

fn is_ours(url: &Url) -> bool {
    let host = url.host_str().unwrap_or("");
    match url.scheme() {
        "https" => {
            url.port().is_none()
                && (["auth.example", "app.example"].contains(&host) || host.ends_with(".wild.example"))
        }
        "myapp" => true,
        _ => false,
    }
}

/// A cookie is found whatever stands around it, and the number of cookies is bounded by the bytes.
pub fn cookie_header(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert!(cookie::all([text.as_ref()]).count() <= data.len() + 1);
    let before = text.replace("wanted", "");
    for line in [
        format!("wanted=yes; {before}"),
        format!("{before}; wanted=yes"),
        format!("{before};wanted=yes;{before}"),
    ] {
        assert_eq!(cookie::first([line.as_str()], "wanted"), Some("yes"), "{line:?}");
    }
}

/// Only what our own signer made opens, and it opens to what was signed.
pub fn signed_value(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let ours = signer("a secret that nobody knows");
    if let Some(value) = ours.open(&text) {
        assert!(
            text == ours.sign(&value) || text == ours.sign_for_cookie(&value) || text.contains('%'),
            "{text:?}"
        );
        assert!(ours.open(&ours.sign(&value)).is_some());
    }
    if !text.is_empty() {
        assert_eq!(ours.open(&ours.sign_for_cookie(&text)).as_deref(), Some(text.as_ref()));
        assert!(signer("another secret").open(&ours.sign(&text)).is_none());
    }
}

/// A guest's cookie opens only when it is letter for letter what was signed in the day before.
pub fn guest_cookie(data: &[u8]) {
    const NOW: Millis = Millis(1_800_000_000_000);
    let keys = |secret: &str| GuestKeys::new(&Secrets::new(vec![secret.into()]).expect("one secret"));
    let (ours, others) = (keys("a secret that nobody knows"), keys("another secret"));
    let text = String::from_utf8_lossy(data);
    if let Some(id) = ours.open(&text, DAY, NOW) {
        let signed = |age: i64| ours.sign(&id, NOW.minus(age * SECOND));
        assert!((0..=DAY / SECOND).any(|age| signed(age) == text), "{text:?}");
    }
    assert!(others.open(&text, DAY, NOW).is_none(), "{text:?}");
    // The bytes as changes of a good one: the first says where, the rest what stands there.
    let good = ours.sign(&GuestId::from_text("AbCdEfGhIjKlMnOpQrStUvWxYz012345"), NOW);
    let [at, letters @ ..] = data else { return };
    let at = usize::from(*at) % good.len();
    let letters: String = letters.iter().map(|byte| char::from(byte % 128)).collect();
    let end = (at + letters.len()).min(good.len());
    for changed in [
        format!("{}{letters}{}", &good[..at], &good[at..]),
        format!("{}{letters}{}", &good[..at], &good[end..]),
        format!("{}{letters}", &good[..at]),
    ] {
        assert_eq!(ours.open(&changed, DAY, NOW).is_some(), changed == good, "{changed:?}");
    }
}

/// Whatever passes the judge lands on a trusted origin when a browser resolves it, with or without a parameter added.
pub fn redirect_target(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let trusted = trusted();
    let Some(target) = redirect::judge(&trusted, &text) else { return };
    for location in [target.location(), target.with("error", "X"), target.absolute_with("token", "t")] {
        let landed = trusted.base().join(&location).expect("a target that passed is a URL");
        assert!(is_ours(&landed), "{text:?} leads to {landed}");
        assert!(!location.starts_with("//") && !location.contains(['\r', '\n', '\\']), "{location:?}");
    }
}

/// Whatever is trusted as an origin has the scheme, host and port of one.
pub fn origin(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let trusted = trusted();
    if trusted.trusts(&text) {
        assert!(is_ours(&Url::parse(&text).expect("what is trusted is a URL")), "{text:?}");
    }
    if trusted.allows_reading(&text) {
        assert!(
            trusted.trusts(&text)
                && Url::parse(&text).is_ok_and(|url| url.origin().ascii_serialization() == text)
        );
    }
    // A hostile configuration is an error, never a panic.
    let _ = TrustedOrigins::new("https://auth.example", &[text.into_owned()]);
}

/// No header moves the address past a peer that is not trusted, nor beyond the first hop that is not.
pub fn client_address(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let proxies = TrustedProxies::parse(&["127.0.0.0/8".into(), "10.0.0.0/8".into()]).expect("good networks");
    let stranger: IpAddr = "192.0.2.7".parse().expect("an address");
    assert_eq!(proxies.client(stranger, [text.as_ref()].into_iter()), ClientAddress::Known(stranger));
    let proxy: IpAddr = "127.0.0.1".parse().expect("an address");
    let behind = format!("{text}, 198.51.100.9");
    let nearest: IpAddr = "198.51.100.9".parse().expect("an address");
    assert_eq!(proxies.client(proxy, [behind.as_str()].into_iter()), ClientAddress::Known(nearest));
    if let ClientAddress::Known(address) = proxies.client(proxy, [text.as_ref()].into_iter()) {
        assert!(!proxies.contains(address));
        assert!(ClientAddress::Known(address).bucket().len() <= 43);
    }
}

/// However lenient a backend is: a path that it would take for an administrator's is refused or needs one.
pub fn guarded_path(data: &[u8]) {
    let rule = |path: &str, asks: Asks| {
        let path = Pattern::parse(path).expect("a pattern");
        Rule { path, methods: Vec::new(), asks }
    };
    let public = || Asks { public: true, ..Asks::default() };
    let admin = || Asks { role: Some("admin".into()), ..Asks::default() };
    let rules = Rules(vec![
        rule("/admin/health", public()),
        rule("/admin/*", admin()),
        rule("/assets/*", public()),
        rule("/*/open", public()),
    ]);
    let text = String::from_utf8_lossy(data);
    let seen = lenient(&text);
    let guarded = (seen == "/admin" || seen.starts_with("/admin/")) && seen != "/admin/health";
    let judged = PlainPath::read(&text).and_then(|path| rules.decide("GET", &path));
    if let Ok(asks) = judged
        && guarded
    {
        assert_eq!(asks, admin(), "{text:?} is {seen}");
    }
}

/// What a backend makes of a path that decodes it twice, merges slashes, resolves dots, leaves out parameters, and knows
/// neither capitals nor dots at the end.
fn lenient(target: &str) -> String {
    let mut text = target.split(['?', '#']).next().unwrap_or("").to_owned();
    for _ in 0..2 {
        let mut decoded = Vec::new();
        let mut rest = text.as_bytes();
        while let [first, tail @ ..] = rest {
            let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            (decoded, rest) = match byte.filter(|_| *first == b'%') {
                Some(byte) => ([decoded, vec![byte]].concat(), &tail[2..]),
                None => ([decoded, vec![*first]].concat(), tail),
            };
        }
        text = String::from_utf8_lossy(&decoded).replace('\\', "/");
    }
    let mut segments: Vec<String> = Vec::new();
    for segment in text.split('/') {
        match segment.split([';', '?', '#', '\0']).next().unwrap_or("").trim_end_matches(' ') {
            ".." => drop(segments.pop()),
            name => segments.push(name.trim_end_matches(['.', ' ']).to_lowercase()),
        }
        segments.retain(|segment| !segment.is_empty());
    }
    format!("/{}", segments.join("/"))
}

/// Every endpoint reads any body: a refusal or an input, never a panic.
pub fn json_body(data: &[u8]) {
    let Some((&choice, body)) = data.split_first() else { return };
    let types = [
        "application/json",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-8",
        "text/plain",
    ];
    server::auth::read_everywhere(types[usize::from(choice) % types.len()], body);
}

/// A delivery is believed only if its header holds our own signature of its body, whatever stands around it.
pub fn stripe_signature(data: &[u8]) {
    const NOW: Millis = Millis(1_800_000_000_000);
    const BODY: &[u8] = b"{\"id\":\"evt_1\",\"type\":\"x\"}\r\n";
    let secret = |text: &str| Secret::new(text.to_owned());
    let verifier = Verifier::new(&[secret("whsec_new"), secret("whsec_old")], 300_000);
    let text = String::from_utf8_lossy(data);
    let good = sign(&secret("whsec_old"), NOW, BODY);
    let (time, signature) = good.split_once(',').expect("a time and a signature");
    let verdict = |header: &str, body: &[u8]| verifier.verify(Some(header), body, NOW).is_ok();
    if verdict(&text, BODY) {
        assert!(text.contains(time) && text.contains(signature), "{text:?}");
    }
    // Any body is signed and believed, and no other one with it.
    let of_data = sign(&secret("whsec_new"), NOW, data);
    assert!(verdict(&of_data, data) && !verdict(&of_data, &[data, b" "].concat()));
    assert!(!verdict(&sign(&secret(&text), NOW, BODY), BODY) || text.starts_with("whsec_"), "{text:?}");
    // Behind whatever else, as long as it is not more than anybody sends.
    if text.matches("v1=").count() < 16 {
        assert!(verdict(&format!("{text},{good}"), BODY), "{text:?}");
    }
    for header in
        [format!("{time}{text},{signature}"), format!("{good}{text}"), format!("{time},{text}{signature}")]
    {
        if verdict(&header, BODY) {
            let parts: Vec<&str> = header.split(',').collect();
            assert!(parts.contains(&signature) && parts.contains(&time), "{header:?}");
        }
    }
}

/// Whatever an event says: nothing breaks, what it leads to is written and read alike, and its id leads to no other path.
pub fn stripe_event(data: &[u8]) {
    const KINDS: [&str; 8] = [
        "checkout.session.completed",
        "payment_intent.succeeded",
        "charge.refunded",
        "refund.updated",
        "charge.dispute.closed",
        "invoice.paid",
        "customer.subscription.updated",
        "customer.deleted",
    ];
    let judge = |event: Event| {
        let Some(subject) = Subject::of(&event) else { return };
        assert_eq!(Subject::parse(&subject.to_string()), Some(subject.clone()));
        if let Ok(id) = segment(subject.id()) {
            assert!(!id.is_empty() && !id.contains(['/', '?', '#', '%', '.', '\\', ' ']), "{id:?}");
        }
    };
    if let Ok(event) = serde_json::from_slice::<Event>(data) {
        judge(event);
    }
    let Ok(object) = serde_json::from_slice::<Value>(data) else { return };
    for kind in KINDS {
        let event = json!({"id": "evt_1", "object": "event", "type": kind, "data": {"object": object}});
        judge(serde_json::from_value(event).expect("any object makes an event"));
    }
}

const NOW: Millis = Millis(1_800_000_000_000);

fn signing_key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a seed is a key")
}

fn signed(head: &[u8], claims: &[u8]) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", part(head), part(claims));
    let signature = signing_key().sign(signed.as_bytes());
    format!("{signed}.{}", part(signature.as_ref()))
}

fn judged(token: &str) -> Option<Claims> {
    let x = URL_SAFE_NO_PAD.encode(signing_key().public_key());
    let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "one"}]});
    let issuer = Issuer::Exactly("https://id.example".into());
    let expected = Expected {
        issuer: &issuer,
        algorithms: &[Algorithm::EdDsa],
        audiences: &["app"],
        nonce: Some("n"),
        hashed_nonce: false,
        max_age: None,
    };
    verify(token, &KeySet::read(&keys).expect("a key set"), &expected, NOW).ok()
}

/// A provider's token: what it did not sign never holds, what it signed holds only if it says all that is asked for, and
/// whatever it says of a person can be read.
pub fn id_token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert_eq!(judged(&text), None);
    let head = br#"{"alg":"EdDSA","kid":"one"}"#;
    let claims = br#"{"iss":"https://id.example","aud":"app","sub":"s","iat":1800000000,"exp":1800003600,"nonce":"n"}"#;
    let good = signed(head, claims);
    assert!(judged(&good).is_some());
    let mut changed = good.clone().into_bytes();
    for (at, byte) in data.iter().enumerate() {
        let index = (at * 31 + usize::from(*byte)) % changed.len();
        changed[index] = b"ABCDEFGHIJKLMNOPabcdefghijklmnop0123456789-_."[usize::from(*byte) % 45];
    }
    let changed = String::from_utf8_lossy(&changed);
    assert!(changed == good || judged(&changed).is_none(), "{changed}");
    // Anything may stand in the head; only what is known may decide.
    if judged(&signed(data, claims)).is_some() {
        let head: Value = serde_json::from_slice(data).expect("a head that holds is JSON");
        assert_eq!(head["alg"], "EdDSA");
    }
    if let Some(held) = judged(&signed(head, data)) {
        let time = |name: &str| held[name].as_f64().expect("a time is a number");
        assert!(held["iss"] == "https://id.example" && held["nonce"] == "n");
        assert!(
            held["aud"] == "app" || held["aud"].as_array().is_some_and(|names| names.contains(&json!("app")))
        );
        assert!(time("exp") > 1_799_999_970.0 && time("iat") <= 1_800_000_030.0);
    }
    let Ok(document) = serde_json::from_slice::<Value>(data) else { return };
    KeySet::read(&document);
    let Value::Object(told) = document else { return };
    for (kind, _) in Kind::ALL {
        let people = [profile::of_claims(kind, told.clone()), profile::of_answer(kind, told.clone(), None)];
        for person in people.into_iter().flatten() {
            assert!(!person.subject.trim().is_empty() && person.subject.len() <= 255);
            assert!(person.name.is_none_or(|name| !name.contains('\0') && name.chars().count() <= 255));
        }
    }
    profile::name_from_apple(&text);
}

/// What a provider sends back, by a form or a link: it leads to our own callback, says the same there, and a second time
/// nothing else.
pub fn provider_callback(data: &[u8]) {
    const BASE: &str = "https://auth.example";
    let (query, body) = data.split_at(data.len() / 2);
    let provider = String::from_utf8_lossy(&data[..data.len().min(8)]);
    for kind in ["application/x-www-form-urlencoded", "application/json"] {
        let Some(link) = server::auth::callback_onward(BASE, &provider, kind, body, query) else { continue };
        assert!(link.bytes().all(|byte| byte.is_ascii_graphic()), "{link:?}");
        let url = Url::parse(&link).expect("a link is a URL");
        assert_eq!(url.origin().ascii_serialization(), BASE);
        assert!(url.path().starts_with("/api/auth/callback") || provider.contains('.'), "{link}");
        let query = url.query().unwrap_or_default().as_bytes();
        let again = server::auth::callback_onward(BASE, &provider, kind, b"", query);
        assert_eq!(again.as_deref(), Some(link.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// The corpus of a target: inputs that once mattered.
    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let folder = format!("{}/../corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let files: Vec<_> =
            std::fs::read_dir(&folder).expect("every target has a corpus").flatten().collect();
        assert!(!files.is_empty(), "the corpus of {target} is empty");
        files.iter().map(|file| std::fs::read(file.path()).expect("a readable file")).collect()
    }

    macro_rules! driven {
        ($($target:ident: $shape:expr;)*) => {
            $(mod $target {
                use super::*;

                #[test]
                fn holds_for_the_corpus() {
                    corpus(stringify!($target)).iter().for_each(|data| crate::$target(data));
                }

                proptest! {
                    #![proptest_config(ProptestConfig::with_cases(4_000))]

                    #[test]
                    fn holds_for_likely_texts(text in $shape) {
                        crate::$target(text.as_bytes());
                    }

                    #[test]
                    fn holds_for_any_bytes(data in proptest::collection::vec(any::<u8>(), 0..200)) {
                        crate::$target(&data);
                    }
                }
            })*
        };
    }

    driven! {
        cookie_header: "([a-z_.-]{0,8}[=;\" ]{0,3}[A-Za-z0-9%+/=.\"]{0,12};? ?){0,6}";
        signed_value: "[A-Za-z0-9%+/=.]{0,90}";
        guest_cookie: "[A-Za-z0-9_=-]{0,60}\\.[A-Za-z0-9_-]{0,8}\\.[A-Za-z0-9_=-]{0,45}";
        redirect_target: "((https?|HTTPS|myapp|javascript|data):)?[/\\\\]{0,4}([a-z.@:%25cfF09/\\\\ \t?#-]|app\\.example|evil){0,24}";
        origin: "((https?|HTTPS|myapp|file):)?[/\\\\]{0,4}([a-z.@:%25*?/\\\\ \t-]|app\\.example|\\.wild\\.example|evil){0,16}";
        guarded_path: "/(admin|ADMIN|assets|open|%61|%2e|%2E|\\.|%2f|%5c|\\\\|/|;|x|%25|2e|%3b|%00|\\?|#| ){0,8}(admin|dmin|open)?/?[a-z]{0,2}";
        client_address: "(([0-9]{1,3}\\.){3}[0-9]{1,3}|\\[?[0-9a-f:]{2,20}\\]?(:[0-9]{1,5})?|unknown|,| |\"){0,6}";
        stripe_signature: "((t|v1|v0|T|V1| v1)?[=,]{0,2}[0-9a-f]{0,12}(1800000000)?,?){0,6}";
        stripe_event: "\\{(\"(id|type|object|data|livemode|created|payment_intent)\":(\"[a-z_./%]{0,8}\"|[0-9]{1,4}|null|true|\\{\"(object|id)\":(\"x\"|null|\\{\\})\\}|\\[\\]),?){0,5}\\}?";
        id_token: "\\{(\"(iss|aud|sub|iat|exp|nbf|nonce|alg|kid|email|name|picture|oid|id|state|keys|kty)\":(\"(https://id.example|app|n|EdDSA|one|s|none|active|)\"|1800000[0-9]{3}|null|true|\\{\\}|\\[\"app\"\\]),?){0,7}\\}?";
        provider_callback: "((code|error|state|user|iss|error_description|device_id|x)=[A-Za-z0-9%+./:?#-]{0,8}&?){0,6}";
        totp_code: "[0-9]{5,7}|[0-9 ]{6}";
        webauthn_registration: "[\u{0}-\u{2}]\\{(\"(id|rawId|type|response|clientDataJSON|attestationObject|transports)\":(\"(AAAA|public-key|)\"|[0-9]|null|\\{\\}|\\[\\]),?){0,6}\\}?";
        webauthn_authentication: "[\u{0}-\u{3}]\\{(\"(type|challenge|origin|crossOrigin|id|rawId|response|signature)\":(\"(webauthn.get|Y2hhbGxlbmdlIG9mIHRoaXJ0eS10d28gYnl0ZXMgISE|https://app.example.com|AAAA|)\"|true|false|null|\\{\\}),?){0,6}\\}?";
        authjs_token: "[A-Za-z0-9_-]{0,30}(\\.[A-Za-z0-9_=-]{0,20}){0,5}";
        authjs_claims: ".\\{(\"(sub|exp|nbf|iat|alg|kid|crit|zip|b64)\":(\"(ada|HS256|none|)\"|1[89]0000000[0-9]|-1|1e400|0\\.5|null|true|\\[\\]),?){0,5}\\}?";
        authjs_cookie: "((Bearer |bearer )?(authjs.session-token|__Secure-authjs.session-token|x)?(\\.[0-9]{1,3}|-old)?[=;\" ]{0,2}[A-Za-z0-9%+/=.\"]{0,8};? ?){0,5}";
        json_body: ".\\{(\"(email|password|name|image|callbackURL|token|rememberMe|newPassword)\":(\"[^\"]{0,8}\"|[0-9]{1,4}|null|true|\\{\\}|\\[\\]),?){0,5}\\}?";
    }
}
