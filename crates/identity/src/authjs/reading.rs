//! Where a request shows an Auth.js session: the session cookie, whole or cut into numbered ones, or a bearer token.

use super::token::{Refusal, mistake};
use kernel::signed::decode_uri_component;
use std::collections::BTreeMap;

/// More than any browser keeps for one site.
const MAX_CHUNKS: u32 = 100;

/// The texts that the cookie of this name may stand for: the whole one, and the numbered ones put together. Both can be
/// there after a session has grown or shrunk; the one that opens is meant. The first cookie of a name counts. Values are
/// taken as they stand: Auth.js neither quotes nor escapes them.
pub fn cookie_candidates<'a>(lines: impl IntoIterator<Item = &'a str>, name: &str) -> Vec<String> {
    let mut whole = None;
    let mut chunks: BTreeMap<u32, &str> = BTreeMap::new();
    for part in lines.into_iter().flat_map(|line| line.split(';')) {
        let Some((found, value)) = part.split_once('=') else { continue };
        let (found, value) = (found.trim_matches([' ', '\t']), value.trim_matches([' ', '\t']));
        let Some(rest) = found.strip_prefix(name) else { continue };
        if rest.is_empty() {
            whole.get_or_insert(value);
        } else if let Some(number) = rest.strip_prefix('.').and_then(chunk_number) {
            chunks.entry(number).or_insert(value);
        }
    }
    let joined = (!chunks.is_empty()).then(|| chunks.into_values().collect());
    whole.map(str::to_owned).into_iter().chain(joined).filter(|text: &String| !text.is_empty()).collect()
}

/// As `0`, `1`, `10` are written, and in no other way.
fn chunk_number(text: &str) -> Option<u32> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let number = if canonical { text.parse().ok()? } else { return None };
    (number < MAX_CHUNKS).then_some(number)
}

/// The token in a header's value, percent-decoded. `None`: it is of another scheme than `Bearer`.
pub fn bearer(value: &str) -> Option<Result<String, Refusal>> {
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    scheme.eq_ignore_ascii_case("bearer").then(|| bare(rest))
}

/// A token that stands by itself.
pub fn bare(text: &str) -> Result<String, Refusal> {
    let text = text.trim_matches([' ', '\t']);
    let check = |text: &str| mistake(text).map_or(Ok(()), |mistake| Err(Refusal::NotAToken(mistake)));
    check(text)?;
    let decoded = decode_uri_component(text).ok_or(Refusal::Invalid)?;
    check(&decoded)?;
    if decoded.is_empty() {
        return Err(Refusal::Invalid);
    }
    Ok(decoded.into_owned())
}

/// The first cookie of exactly this name.
pub fn cookie<'a>(lines: impl IntoIterator<Item = &'a str>, name: &str) -> Option<String> {
    let mut parts =
        lines.into_iter().flat_map(|line| line.split(';')).filter_map(|part| part.split_once('='));
    let (_, value) = parts.find(|(found, _)| found.trim_matches([' ', '\t']) == name)?;
    let value = value.trim_matches([' ', '\t']);
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::token::Mistake;
    use super::*;

    const NAME: &str = "authjs.session-token";

    fn candidates(line: &str) -> Vec<String> {
        cookie_candidates([line], NAME)
    }

    #[test]
    fn the_cookie_is_found_whole_and_in_numbered_parts() {
        assert_eq!(candidates("a=1; authjs.session-token=T; b=2"), ["T"]);
        let parts: Vec<String> =
            (0..12).rev().map(|at| format!("{NAME}.{at}={}", (b'a' + at) as char)).collect();
        assert_eq!(candidates(&parts.join("; ")), ["abcdefghijkl"], "ten comes after nine");
        assert_eq!(candidates(&format!("{NAME}=W; {NAME}.1=b; {NAME}.0=a")), ["W", "ab"]);
        assert_eq!(
            candidates(&format!("{NAME}=first; {NAME}=second; {NAME}.0=x; {NAME}.0=y")),
            ["first", "x"]
        );
        assert_eq!(cookie_candidates(["b=1", &format!(" {NAME} = T ")], NAME), ["T"]);
    }

    #[test]
    fn names_that_only_begin_alike_are_others() {
        for name in [
            "authjs.session-token-old",
            "authjs.session-token.",
            "authjs.session-token.x",
            "authjs.session-token.-1",
            "authjs.session-token.+1",
            "authjs.session-token.01",
            "authjs.session-token.100",
            "authjs.session-token.99999999999",
            "__Secure-authjs.session-token",
            "next-auth.session-token",
        ] {
            assert_eq!(candidates(&format!("{name}=S; {NAME}=T")), ["T"], "{name}");
            assert_eq!(candidates(&format!("{name}=S")), [""; 0], "{name}");
        }
        assert_eq!(candidates(&format!("{NAME}=")), [""; 0]);
        assert_eq!(candidates(&format!("{NAME}=\"T\"")), ["\"T\""], "nothing is unquoted");
    }

    #[test]
    fn a_session_of_the_database_is_the_exact_cookie() {
        assert_eq!(
            cookie([format!("{NAME}.0=a; {NAME}-old=b; {NAME}=c; {NAME}=d").as_str()], NAME).as_deref(),
            Some("c")
        );
        assert_eq!(cookie([format!("{NAME}.0=a").as_str()], NAME), None);
    }

    #[test]
    fn bearer_tokens_are_read_as_auth_js_reads_them_and_mistakes_are_named() {
        let token = |text: &str| Some(Ok(text.to_owned()));
        assert_eq!(bearer("Bearer T"), token("T"));
        assert_eq!(bearer("bearer  T"), token("T"));
        assert_eq!(bearer("Bearer a%2Eb"), token("a.b"));
        assert_eq!(bearer("Basic abc"), None);
        assert_eq!(bearer("BearerT"), None);
        for text in ["Bearer", "Bearer ", "Bearer %", "Bearer a%zz", "Bearer %E0%A4%A"] {
            assert_eq!(bearer(text), Some(Err(Refusal::Invalid)), "{text}");
        }
        let mistake = |mistake| Some(Err(Refusal::NotAToken(mistake)));
        assert_eq!(bearer("Bearer [object Object]"), mistake(Mistake::Object));
        assert_eq!(bearer("Bearer %5Bobject%20Object%5D"), mistake(Mistake::Object));
        assert_eq!(bearer("Bearer undefined"), mistake(Mistake::Undefined));
        assert_eq!(bearer("Bearer a b"), mistake(Mistake::Spaces));
    }
}
