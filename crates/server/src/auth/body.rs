//! Bodies: which types are taken, how they are read, and how deep they may be.

use super::endpoint::BodyKind;
use super::error::{Code, Failure};
use crate::edge::body::deeper_than;
use serde_json::{Map, Value};

/// `None` when there is no body, or none is looked at.
pub fn parse(
    kind: BodyKind,
    content_type: Option<&str>,
    bytes: &[u8],
    depth: usize,
) -> Result<Option<Value>, Failure> {
    if kind == BodyKind::None {
        return Ok(None);
    }
    let given = content_type.filter(|given| !given.is_empty() && !bytes.is_empty());
    let Some(given) = given else { return Ok(None) };
    let base = given.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let form = base == "application/x-www-form-urlencoded";
    // As the original judges it: the type only has to contain the words.
    let taken = base.contains("application/json") || (form && kind == BodyKind::JsonOrForm);
    if !taken {
        let allowed = match kind {
            BodyKind::JsonOrForm => "application/x-www-form-urlencoded, application/json",
            _ => "application/json",
        };
        return Err(Failure::ContentType { given: given.to_string(), allowed });
    }
    if form {
        return Ok(Some(Value::Object(form_values(bytes))));
    }
    // Other charsets were a way around filters; JSON is UTF-8.
    if let Some(charset) = charset(given)
        && !matches!(charset.as_str(), "utf-8" | "utf8")
    {
        return Err(Failure::ContentType { given: given.to_string(), allowed: "application/json" });
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if deeper_than(bytes, depth) {
        return Err(Code::InvalidJson.into());
    }
    serde_json::from_slice(bytes).map(Some).map_err(|_| Code::InvalidJson.into())
}

fn charset(content_type: &str) -> Option<String> {
    let parameter = content_type
        .split(';')
        .skip(1)
        .find_map(|part| part.trim().to_ascii_lowercase().strip_prefix("charset=").map(String::from));
    parameter.map(|value| value.trim_matches('"').to_string())
}

/// Every value is a string, and the last of repeated names wins.
fn form_values(bytes: &[u8]) -> Map<String, Value> {
    url::form_urlencoded::parse(bytes)
        .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<Option<Value>, Failure> {
        parse(BodyKind::Json, Some("application/json"), text.as_bytes(), 32)
    }

    #[test]
    fn types_are_judged_as_the_original_does() {
        let taken = |kind, given: &str| parse(kind, Some(given), b"{}", 32).is_ok();
        for given in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/jsonx",
            "application/json, text/plain",
        ] {
            assert!(taken(BodyKind::Json, given), "{given}");
        }
        for given in [
            "text/plain",
            "application/problem+json",
            "application/xml",
            "application/json; charset=utf-7",
            "multipart/form-data; boundary=x",
        ] {
            assert!(!taken(BodyKind::Json, given), "{given}");
        }
        assert!(taken(BodyKind::JsonOrForm, "application/x-www-form-urlencoded"));
        assert!(!taken(BodyKind::Json, "application/x-www-form-urlencoded"));
    }

    #[test]
    fn the_last_of_repeated_members_wins_and_a_mark_in_front_is_skipped() {
        assert_eq!(json("\u{feff}{\"a\":1,\"a\":2}").unwrap().unwrap()["a"], 2);
        let form = parse(BodyKind::JsonOrForm, Some("application/x-www-form-urlencoded"), b"a=1&a=%32", 32)
            .unwrap()
            .unwrap();
        assert_eq!(form["a"], "2");
    }

    #[test]
    fn nesting_is_bounded_and_brackets_in_strings_do_not_count() {
        assert!(json(&format!("{}{}", "[".repeat(32), "]".repeat(32))).is_ok());
        assert!(json(&format!("{}{}", "[".repeat(33), "]".repeat(33))).is_err());
        assert!(json(&format!("{{\"a\":\"{}\\\"{}\"}}", "[".repeat(100), "{".repeat(100))).is_ok());
        assert!(json("{").is_err());
        assert!(json(" ").is_err());
    }

    #[test]
    fn nothing_sent_is_no_body_whatever_its_type() {
        assert!(json("").unwrap().is_none());
        assert!(parse(BodyKind::Json, Some(""), b"{}", 32).unwrap().is_none());
        assert!(parse(BodyKind::Json, Some("text/plain"), b"", 32).unwrap().is_none());
    }
}
