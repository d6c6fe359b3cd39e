//! What a provider hands out, read from its answer.

use kernel::time::{HOUR, SECOND};
use kernel::{Millis, Secret};
use serde_json::{Map, Value};

/// Longer lives than a year are as good as none told.
const LONGEST_LIFE: i64 = 366 * 24 * HOUR;
/// What a provider hands out.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    pub access: Option<Secret<String>>,
    pub refresh: Option<Secret<String>>,
    pub id: Option<Secret<String>>,
    pub access_ends: Option<Millis>,
    pub refresh_ends: Option<Millis>,
    pub scopes: Vec<String>,
}

pub(crate) fn read(answer: &Map<String, Value>, now: Millis) -> Tokens {
    let secret = |name: &str| {
        let text = answer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.map(|text| Secret::new(text.to_owned()))
    };
    let end = |name: &str| {
        // Some providers send the number as a text.
        let value = answer.get(name)?;
        let seconds = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
        let life = (seconds * SECOND as f64) as i64;
        (1..=LONGEST_LIFE).contains(&life).then(|| now.plus(life))
    };
    // Scopes are kept in one text, separated by commas.
    let word = |text: &&str| text.chars().all(|c| c.is_ascii_graphic() && c != ',');
    let words = |text: &str| text.split_whitespace().filter(word).map(str::to_owned).collect::<Vec<_>>();
    let scopes = match answer.get("scope") {
        Some(Value::String(text)) => words(text),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).flat_map(words).collect(),
        _ => Vec::new(),
    };
    Tokens {
        access: secret("access_token"),
        refresh: secret("refresh_token"),
        id: secret("id_token"),
        access_ends: end("expires_in"),
        refresh_ends: end("refresh_token_expires_in"),
        scopes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Millis = Millis(1_800_000_000_000);

    #[test]
    fn tokens_are_read_as_providers_write_them() {
        let answer = json!({"access_token": "a", "refresh_token": "", "expires_in": "3600", "scope": "x  y",
            "refresh_token_expires_in": 1e300});
        let found = read(answer.as_object().unwrap(), NOW);
        assert_eq!(found.access.unwrap().expose(), "a");
        assert!(found.refresh.is_none() && found.id.is_none() && found.refresh_ends.is_none());
        assert_eq!(
            (found.access_ends, found.scopes),
            (Some(NOW.plus(HOUR)), vec!["x".to_owned(), "y".to_owned()])
        );
        let found = read(json!({"scope": ["x", 1, "y"], "expires_in": -5}).as_object().unwrap(), NOW);
        assert_eq!((found.access_ends, found.scopes.len()), (None, 2));
    }
}
