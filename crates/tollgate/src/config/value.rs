//! One setting's value: from TOML or from a variable's text to what its [`Kind`] says, or a sentence about why not.

use super::duration::{parse_duration, write_duration};
use super::keys::{Key, Kind};
use super::nearest::nearest;
use kernel::Secret;
use std::net::SocketAddr;
use toml::de::{DeTable, DeValue};
use url::Url;

#[derive(Debug, Clone)]
pub enum Value {
    Flag(bool),
    Count(i64),
    /// Milliseconds.
    Duration(i64),
    Text(String),
    Address(SocketAddr),
    List(Vec<String>),
    SecretText(Secret<String>),
    SecretList(Vec<Secret<String>>),
    Rules(Vec<(String, i64, i64)>),
    Toml(toml::Value),
}

/// What is wrong and what to write. Never holds the value of a secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Misfit {
    pub what: String,
    pub fix: String,
}

pub type Checked<T> = Result<T, Misfit>;

pub fn misfit(what: impl Into<String>, fix: impl Into<String>) -> Misfit {
    Misfit { what: what.into(), fix: fix.into() }
}

/// A value as it stands in the file.
pub fn from_toml(key: &Key, value: &DeValue<'_>) -> Checked<Value> {
    match (key.kind, value) {
        (Kind::Flag, DeValue::Boolean(flag)) => Ok(Value::Flag(*flag)),
        (Kind::Choice(_), DeValue::Boolean(flag)) => from_text(key, if *flag { "true" } else { "false" }),
        (Kind::Count { .. }, DeValue::Integer(number)) if number.radix() == 10 => {
            from_text(key, number.as_str())
        }
        (Kind::List, DeValue::Array(_)) => {
            texts(value).map(Value::List).ok_or_else(|| wrong_type(key, value))
        }
        (Kind::SecretList, DeValue::Array(_)) => {
            texts(value).map(secret_list).ok_or_else(|| wrong_type(key, value))
        }
        (Kind::Rules, DeValue::Table(table)) => rules(table).map(Value::Rules),
        (Kind::Toml { .. }, value) => Ok(Value::Toml(owned(value))),
        (Kind::Flag | Kind::Count { .. } | Kind::List | Kind::SecretList | Kind::Rules, _) => {
            Err(wrong_type(key, value))
        }
        (_, DeValue::String(text)) => from_text(key, text),
        _ => Err(wrong_type(key, value)),
    }
}

/// A value as it stands in a variable, or in the file that a `…_FILE` variable names.
pub fn from_text(key: &Key, text: &str) -> Checked<Value> {
    let refuse = |what: &str| misfit(format!("`{}` is not {what}.", shown(text)), example(key.kind));
    match key.kind {
        Kind::Flag => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(Value::Flag(true)),
            "false" | "0" | "no" | "off" => Ok(Value::Flag(false)),
            _ => Err(refuse("true or false")),
        },
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::SecretText => Ok(Value::SecretText(Secret::new(text.to_owned()))),
        Kind::SecretList => Ok(secret_list(list(text))),
        Kind::List => Ok(Value::List(list(text))),
        Kind::Choice(choices) => choose(choices, text),
        Kind::BaseUrl => base_url(text).map(Value::Text).ok_or_else(|| refuse("a public address")),
        Kind::Address => text.parse().map(Value::Address).map_err(|_| refuse("an address and port")),
        Kind::Count { min, max } => {
            let number = text.parse::<i64>().map_err(|_| refuse("a whole number"))?;
            let outside = || misfit(format!("{number} is out of bounds."), format!("Write {min} to {max}."));
            (min..=max).contains(&number).then_some(Value::Count(number)).ok_or_else(outside)
        }
        Kind::Duration { min, max } => {
            let length = parse_duration(text).ok_or_else(|| refuse("a duration"))?;
            let bounds = || format!("Write \"{}\" to \"{}\".", write_duration(min), write_duration(max));
            let outside = || misfit(format!("`{text}` is out of bounds."), bounds());
            (min..=max).contains(&length).then_some(Value::Duration(length)).ok_or_else(outside)
        }
        Kind::Rules => rules_from_text(text).map(Value::Rules),
        Kind::Toml { .. } => {
            let value = DeValue::parse(text).map_err(|_| refuse("a value of TOML"))?;
            Ok(Value::Toml(owned(value.get_ref())))
        }
    }
}

/// The value without the text it was read from.
fn owned(value: &DeValue<'_>) -> toml::Value {
    match value {
        DeValue::String(text) => toml::Value::String(text.to_string()),
        // A number that no integer holds is refused for its size where it is used, as a fraction is.
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(toml::Value::Float(f64::INFINITY), toml::Value::Integer),
        DeValue::Float(number) => toml::Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => toml::Value::Boolean(*flag),
        DeValue::Datetime(time) => toml::Value::Datetime(*time),
        DeValue::Array(items) => toml::Value::Array(items.iter().map(|item| owned(item.get_ref())).collect()),
        DeValue::Table(table) => {
            let members =
                table.iter().map(|(name, item)| (name.get_ref().to_string(), owned(item.get_ref())));
            toml::Value::Table(members.collect())
        }
    }
}

/// Comma-separated; spaces around the parts and empty parts do not count.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The contents of a file that holds nothing but a secret, or one a line; lines that begin with `#` are remarks.
pub fn from_secret_file(key: &Key, text: &str) -> Value {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match key.kind {
        Kind::SecretList => secret_list(lines.map(str::to_owned).collect()),
        _ => Value::SecretText(Secret::new(text.trim().to_owned())),
    }
}

fn secret_list(texts: Vec<String>) -> Value {
    Value::SecretList(texts.into_iter().map(Secret::new).collect())
}

fn texts(value: &DeValue<'_>) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
}

fn choose(choices: &[&str], text: &str) -> Checked<Value> {
    if choices.contains(&text) {
        return Ok(Value::Text(text.to_owned()));
    }
    let known = choices.iter().map(|choice| format!("\"{choice}\"")).collect::<Vec<_>>().join(", ");
    let fix = match nearest(text, choices.iter().copied()) {
        Some(meant) if choices.len() > 1 => format!("Did you mean \"{meant}\"? It may be {known}."),
        _ => format!("It may be {known}."),
    };
    Err(misfit(format!("`{}` is not known here.", shown(text)), fix))
}

/// Scheme, host and port, as browsers write an origin.
fn base_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let anonymous = url.username().is_empty() && url.password().is_none();
    let web = matches!(url.scheme(), "http" | "https") && text.contains("://") && url.host().is_some();
    (plain && anonymous && web).then(|| url.origin().ascii_serialization())
}

fn rules_from_text(text: &str) -> Result<Vec<(String, i64, i64)>, Misfit> {
    let value = DeValue::parse(text).map_err(|_| rule_misfit("This is not a table of rules."))?;
    value.get_ref().as_table().ok_or_else(|| rule_misfit("This is not a table of rules.")).and_then(rules)
}

fn rules(table: &DeTable<'_>) -> Result<Vec<(String, i64, i64)>, Misfit> {
    let mut out = Vec::new();
    for (path, rule) in table {
        let path = path.get_ref().to_string();
        if !path.starts_with('/') {
            return Err(rule_misfit(&format!("The path `{}` does not begin with a slash.", shown(&path))));
        }
        let bad = |what: &str| rule_misfit(&format!("The rule of `{}` {what}.", shown(&path)));
        let rule = rule.get_ref().as_table().ok_or_else(|| bad("is not a table"))?;
        let mut members = rule.keys().map(|name| name.get_ref().as_ref());
        if let Some(stranger) = members.find(|name| !["window", "max"].contains(name)) {
            return Err(bad(&format!("has an unknown member `{}`", shown(stranger))));
        }
        let window = rule.get("window").and_then(|value| parse_duration(value.get_ref().as_str()?));
        let window = window.filter(|length| (1_000..=86_400_000).contains(length));
        let max =
            rule.get("max").and_then(|value| value.get_ref().as_integer()?.as_str().parse::<i64>().ok());
        let window = window.ok_or_else(|| bad("has no `window` from 1s to 1d"))?;
        let max = max
            .filter(|max| (0..=1_000_000).contains(max))
            .ok_or_else(|| bad("has no `max` from 0 to 1000000"))?;
        out.push((path, window, max));
    }
    Ok(out)
}

fn rule_misfit(what: &str) -> Misfit {
    misfit(what, example(Kind::Rules))
}

fn wrong_type(key: &Key, value: &DeValue<'_>) -> Misfit {
    misfit(format!("This is {}.", type_of(value)), example(key.kind))
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list that does not fit",
        DeValue::Table(_) => "a table",
    }
}

/// What to write for a setting of this kind.
pub fn example(kind: Kind) -> String {
    let text = match kind {
        Kind::Flag => "Write true or false.",
        Kind::Text | Kind::SecretText => "Write a text in quotes.",
        Kind::SecretList => "Write a list of texts, each of at least 32 characters: [\"…\"].",
        Kind::List => "Write a list of texts: [\"first\", \"second\"].",
        Kind::Choice(_) => "Write one of the texts it may be.",
        Kind::BaseUrl => "Write scheme and host without a path, such as \"https://auth.example.com\".",
        Kind::Address => "Write both, such as \"127.0.0.1:8655\" or \"[::]:8655\".",
        Kind::Count { .. } => "Write a whole number without quotes.",
        Kind::Duration { .. } => "Write a number and ms, s, m, h or d in quotes, such as \"300s\" or \"7d\".",
        Kind::Toml { example, .. } => example,
        Kind::Rules => "Write rules = { \"/sign-in/email\" = { window = \"10s\", max = 3 } }.",
    };
    text.to_owned()
}

/// A stranger's text, short enough for a message and free of control characters.
pub fn shown(text: &str) -> String {
    let clean: String = text.chars().take(60).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().count() > 60 { format!("{clean}…") } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str, text: &str) -> Checked<Value> {
        from_text(Key::find(path).unwrap(), text)
    }

    #[test]
    fn a_base_url_is_an_origin() {
        for (text, expected) in [
            ("https://auth.example.com", "https://auth.example.com"),
            ("https://Auth.Example.com:443/", "https://auth.example.com"),
            ("http://localhost:8655", "http://localhost:8655"),
        ] {
            assert!(matches!(read("base_url", text), Ok(Value::Text(found)) if found == expected), "{text}");
        }
        for text in
            ["auth.example.com", "https://a.example/auth", "https://u:p@a.example", "ftp://a", "https:a", ""]
        {
            assert!(read("base_url", text).is_err(), "{text}");
        }
    }

    #[test]
    fn lists_in_variables_are_separated_by_commas() {
        let Ok(Value::List(found)) = read("trusted_origins", " https://a.example, https://b.example,") else {
            panic!()
        };
        assert_eq!(found, ["https://a.example", "https://b.example"]);
    }

    #[test]
    fn rules_are_read_from_a_variable_too() {
        let Ok(Value::Rules(found)) = read("rate_limit.rules", "{ \"/x\" = { window = \"10s\", max = 3 } }")
        else {
            panic!()
        };
        assert_eq!(found, [("/x".to_owned(), 10_000, 3)]);
        for text in
            ["3", "{ x = 3 }", "{ \"/x\" = { window = \"10s\" } }", "{ \"/x\" = { window = 10, max = 3 } }"]
        {
            assert!(read("rate_limit.rules", text).is_err(), "{text}");
        }
        let error = read("rate_limit.rules", "{ \"/x\" = { window = \"10s\", mx = 3 } }").unwrap_err();
        assert!(error.what.contains("`mx`"));
    }

    #[test]
    fn a_choice_that_was_almost_right_is_named() {
        assert_eq!(
            read("cookies.same_site", "laks").unwrap_err().fix,
            "It may be \"lax\", \"strict\", \"none\"."
        );
        assert!(read("cookies.same_site", "stric").unwrap_err().fix.starts_with("Did you mean \"strict\"?"));
    }
}
