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
