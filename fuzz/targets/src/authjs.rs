//! Sessions of apps with Auth.js: tokens, claims, cookies.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::authjs::reading::{bearer, cookie, cookie_candidates};
use identity::authjs::token::{Format, Verifier};
use kernel::{Millis, Secrets};
use ring::hmac;
use serde_json::Value;

const COOKIE: &str = "authjs.session-token";

/// Tokens that the libraries made.
static MADE: LazyLock<Value> = LazyLock::new(|| {
    let made = include_str!("../../../crates/identity/src/testdata/authjs_tokens.json");
    serde_json::from_str(made).expect("the tokens are JSON")
});
static NOW: LazyLock<Millis> =
    LazyLock::new(|| Millis(MADE["now"].as_i64().expect("a number of seconds") * 1_000));
/// Each with what opens it.
static GOOD: LazyLock<Vec<(Verifier, &'static str)>> = LazyLock::new(|| {
    let cases = MADE["cases"].as_array().expect("a list");
    let good = cases.iter().filter(|case| {
        ["v5", "v4", "signed", "v5 A256GCM without a kid"].contains(&case["id"].as_str().unwrap_or(""))
    });
    let text = |value: &'static Value| value.as_str().expect("a text");
    good.map(|case| {
        let format = if case["format"] == "hs256" { Format::Signed } else { Format::Encrypted };
        (
            Verifier::new(format, &secret(text(&case["secrets"][0])), text(&case["cookie"])),
            text(&case["token"]),
        )
    })
    .collect()
});

fn secret(text: &str) -> Secrets {
    Secrets::new(vec![text.into()]).expect("one secret")
}

fn signed(key: &str, first: &[u8], second: &[u8]) -> String {
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(first), URL_SAFE_NO_PAD.encode(second));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn is_made(text: &str) -> bool {
    GOOD.iter().any(|(_, good)| *good == text)
}

/// Only what was made with the secret opens, and in one spelling.
pub fn authjs_token(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for (verifier, good) in GOOD.iter() {
        assert!(verifier.open(good).is_ok_and(|claims| claims.judge(*NOW).is_ok()));
        assert!(verifier.open(&text).is_err() || is_made(&text), "{text:?}");
        // The bytes as changes of a good one: the first says where, the rest what stands there.
        let [at, letters @ ..] = data else { continue };
        let at = usize::from(*at) * 7 % good.len();
        let letters: String = letters.iter().map(|byte| char::from(byte % 128)).collect();
        let end = (at + letters.len()).min(good.len());
        for changed in [
            format!("{}{letters}{}", &good[..at], &good[at..]),
            format!("{}{letters}{}", &good[..at], &good[end..]),
            format!("{}{letters}", &good[..at]),
        ] {
            assert!(verifier.open(&changed).is_err() || is_made(&changed), "{changed:?}");
        }
    }
}

/// Whatever stands in a token that was well signed: it counts only with an end that has not come, and for somebody. The first
/// byte says whether the bytes are the header or the claims.
pub fn authjs_claims(data: &[u8]) {
    let [which, data @ ..] = data else { return };
    let verifier = Verifier::new(Format::Signed, &secret("key"), COOKIE);
    if which % 2 == 0 {
        let token = signed("key", data, br#"{"sub":"ada","exp":1900000000}"#);
        if verifier.open(&token).is_ok() {
            let header: Value = serde_json::from_slice(data).expect("a header that passed is JSON");
            assert_eq!(header["alg"], "HS256", "{header}");
            assert!(header.get("crit").is_none() && header.get("zip").is_none(), "{header}");
        }
        return;
    }
    let token = signed("key", br#"{"alg":"HS256"}"#, data);
    let Ok(claims) = verifier.open(&token) else { return };
    if claims.judge(*NOW).is_ok() {
        let said: Value = serde_json::from_slice(data).expect("claims that passed are JSON");
        let now = (NOW.0 / 1_000) as f64;
        assert_eq!(said["sub"], claims.subject.as_str(), "{said}");
        assert!(
            !claims.subject.is_empty() && said["exp"].as_f64().is_some_and(|exp| exp > now - 15.0),
            "{said}"
        );
        assert!(
            said.get("nbf").is_none_or(|nbf| nbf.as_f64().is_some_and(|nbf| nbf <= now + 15.0)),
            "{said}"
        );
    }
}

/// The session is found whatever stands around it, and there are at most two texts to try.
pub fn authjs_cookie(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    assert!(cookie_candidates([text.as_ref()], COOKIE).len() <= 2);
    if let Some(Ok(token)) = bearer(&text) {
        assert!(!token.is_empty() && !token.contains(char::is_whitespace), "{token:?}");
    }
    let others = text.replace(COOKIE, "");
    for line in [
        format!("{COOKIE}.1=b; {others}; {COOKIE}=w; {COOKIE}.0=a"),
        format!("{others};{COOKIE}.0=a;{COOKIE}=w;{COOKIE}.1=b;{others}"),
    ] {
        assert_eq!(cookie_candidates([line.as_str()], COOKIE), ["w", "ab"], "{line:?}");
        assert_eq!(cookie([line.as_str()], COOKIE).as_deref(), Some("w"), "{line:?}");
    }
}
