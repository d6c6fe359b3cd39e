//! JSON as it was sent: repeated members are still there, and numbers remember whether they were written as integers. So
//! what the doors refuse can be named by its path, and nothing is taken for something else.

use super::failure::Failure;
use credits::{Owner, push_text};
use kernel::Millis;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

/// What a name, an id or a key may have.
pub(crate) const ID_CHARS: usize = 256;
pub(crate) const REASON_CHARS: usize = 500;
/// Of metadata, as it is kept.
const METADATA_BYTES: usize = 4 * 1024;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json<'de>, E> {
        Number::from_f64(value).map(Json::Number).ok_or_else(|| E::custom("a number without end"))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        let mut object = Vec::new();
        while let Some((Name(name), value)) = members.next_entry()? {
            object.push((name, value));
        }
        Ok(Json::Object(object))
    }
}

/// A member's name, borrowed when it was written without escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(Reader)? {
            Json::Text(name) => Ok(Name(name)),
            _ => Err(D::Error::custom("a name that is no text")),
        }
    }
}

/// The members of an object, taken one by one; what is left at the end was not asked for.
pub(crate) struct Members<'a> {
    /// What stands before a member's name in `field`: empty, or `debits[3].`.
    path: String,
    rest: Vec<(Cow<'a, str>, Json<'a>)>,
}

impl<'a> Members<'a> {
    /// A body. Nothing at all is an object without members.
    pub fn parse(bytes: &'a [u8]) -> Result<Members<'a>, Failure> {
        if bytes.is_empty() {
            return Ok(Members { path: String::new(), rest: Vec::new() });
        }
        let json = serde_json::from_slice(bytes)
            .map_err(|error| Failure::invalid("body", format!("it is not JSON: {error}")))?;
        Members::of(json, String::new(), "body")
    }

    /// `field` names the value itself.
    pub fn of(json: Json<'a>, path: String, field: &str) -> Result<Members<'a>, Failure> {
        match json {
            Json::Object(rest) => Ok(Members { path, rest }),
            _ => Err(Failure::invalid(field, "it must be an object")),
        }
    }

    pub fn field(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    pub fn invalid(&self, name: &str, message: impl Into<String>) -> Failure {
        Failure::invalid(self.field(name), message)
    }

    /// A value that is needed.
    pub fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, Failure> {
        value.ok_or_else(|| Failure::missing(self.field(name)))
    }

    /// `null` is the same as leaving it out.
    pub fn take(&mut self, name: &str) -> Result<Option<Json<'a>>, Failure> {
        Ok(self.take_null(name)?.filter(|value| *value != Json::Null))
    }

    /// Where `null` means something.
    pub fn take_null(&mut self, name: &str) -> Result<Option<Json<'a>>, Failure> {
        let Some(at) = self.rest.iter().position(|(known, _)| known == name) else { return Ok(None) };
        let (_, value) = self.rest.swap_remove(at);
        if self.rest.iter().any(|(known, _)| known == name) {
            return Err(self.invalid(name, "it stands twice"));
        }
        Ok(Some(value))
    }

    pub fn text(&mut self, name: &str, max: usize) -> Result<Option<Cow<'a, str>>, Failure> {
        match self.take(name)? {
            None => Ok(None),
            Some(Json::Text(text)) => match check_text(&text, max) {
                Ok(()) => Ok(Some(text)),
                Err(message) => Err(self.invalid(name, message)),
            },
            Some(_) => Err(self.invalid(name, "it must be a text")),
        }
    }

    /// A text of at least one character.
    pub fn id(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, Failure> {
        let text = self.text(name, ID_CHARS)?;
        if text.as_deref() == Some("") {
            return Err(self.invalid(name, "it is empty"));
        }
        Ok(text)
    }

    pub fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, Failure> {
        match self.take(name)? {
            None => Ok(None),
            Some(Json::Number(number)) => match number.as_i64().filter(|number| range.contains(number)) {
                Some(number) => Ok(Some(number)),
                None => Err(self.invalid(name, not_an_integer(&range))),
            },
            Some(_) => Err(self.invalid(name, not_an_integer(&range))),
        }
    }

    pub fn amount(&mut self, name: &str) -> Result<Option<i64>, Failure> {
        self.integer(name, 1..=credits::MAX_AMOUNT)
    }

    pub fn flag(&mut self, name: &str) -> Result<bool, Failure> {
        match self.take(name)? {
            None => Ok(false),
            Some(Json::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.invalid(name, "it must be true or false")),
        }
    }

    /// A flag that may be left out, which says something else than `false`.
    pub fn maybe_flag(&mut self, name: &str) -> Result<Option<bool>, Failure> {
        match self.take(name)? {
            None => Ok(None),
            Some(Json::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(self.invalid(name, "it must be true or false")),
        }
    }

    pub fn time(&mut self, name: &str) -> Result<Option<Millis>, Failure> {
        let Some(text) = self.text(name, ID_CHARS)? else { return Ok(None) };
        match super::moment::parse(&text) {
            Some(at) => Ok(Some(at)),
            None => Err(self.invalid(name, super::moment::EXPECTED)),
        }
    }

    pub fn object(&mut self, name: &str) -> Result<Option<Members<'a>>, Failure> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        let field = self.field(name);
        Members::of(value, format!("{field}."), &field).map(Some)
    }

    pub fn list(&mut self, name: &str) -> Result<Option<Vec<Json<'a>>>, Failure> {
        match self.take(name)? {
            None => Ok(None),
            Some(Json::List(list)) => Ok(Some(list)),
            Some(_) => Err(self.invalid(name, "it must be a list")),
        }
    }

    /// An object of the app's own, as text with its members in alphabetical order.
    pub fn metadata(&mut self, name: &str) -> Result<Option<String>, Failure> {
        let Some(value) = self.take(name)? else { return Ok(None) };
        if !matches!(value, Json::Object(_)) {
            return Err(self.invalid(name, "it must be an object"));
        }
        let mut text = String::with_capacity(128);
        if let Err(Repeated(path)) = write(value, &mut text) {
            return Err(self.invalid(&format!("{name}{path}"), "it stands twice"));
        }
        if text.len() > METADATA_BYTES {
            return Err(self.invalid(name, format!("it has more than {METADATA_BYTES} bytes")));
        }
        Ok(Some(text))
    }

    /// Exactly one of `user_id`, `organization_id` and `guest_id`.
    pub fn owner(&mut self) -> Result<Owner, Failure> {
        let mut id = |name| self.id(name).map(|id| id.map(Cow::into_owned));
        let ids = [id("user_id")?, id("organization_id")?, id("guest_id")?];
        only_owner(ids).map_err(|(field, message)| self.invalid(field, message))
    }

    /// All that is left, as it was sent.
    pub fn into_document(self) -> Result<Map<String, Value>, Failure> {
        let mut text = String::new();
        let path = self.path;
        write(Json::Object(self.rest), &mut text).map_err(|Repeated(member)| {
            Failure::invalid(format!("{path}{}", member.trim_start_matches('.')), "it stands twice")
        })?;
        // What was written a moment ago is an object.
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// A unit of this deployment.
    pub fn unit(&mut self, settings: &credits::Settings) -> Result<Option<Cow<'a, str>>, Failure> {
        let unit = self.id("unit")?;
        match unit {
            Some(unit) if !settings.has_unit(&unit) => Err(self.invalid("unit", "there is no such unit")),
            unit => Ok(unit),
        }
    }

    /// Refuses what was not asked for.
    pub fn finish(self) -> Result<(), Failure> {
        match self.rest.first() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(ID_CHARS).collect();
                Err(self.invalid(&name, "there is no such field"))
            }
        }
    }
}

/// The owner among the ids of a user, an organization and a guest; else the field that is wrong, and why.
pub(crate) fn only_owner(ids: [Option<String>; 3]) -> Result<Owner, (&'static str, &'static str)> {
    match ids {
        [Some(id), None, None] => Ok(Owner::User(id)),
        [None, Some(id), None] => Ok(Owner::Organization(id)),
        [None, None, Some(id)] => Ok(Owner::Guest(id)),
        [None, None, None] => Err(("user_id", "an owner is required: user_id or organization_id")),
        [_, None, _] => Err(("guest_id", "there is another owner already")),
        [_, Some(_), _] => Err(("organization_id", "there is another owner already")),
    }
}

pub(crate) fn check_text(text: &str, max: usize) -> Result<(), String> {
    // PostgreSQL keeps no text with a zero in it.
    if text.contains('\0') {
        return Err("it has a character that is not allowed".into());
    }
    if text.len() > max && text.chars().count() > max {
        return Err(format!("it has more than {max} characters"));
    }
    Ok(())
}

fn not_an_integer(range: &RangeInclusive<i64>) -> String {
    format!(
        "it must be an integer from {} to {}, written without fraction or exponent",
        range.start(),
        range.end()
    )
}

/// The path of a member that stands twice.
struct Repeated(String);

fn write(value: Json<'_>, out: &mut String) -> Result<(), Repeated> {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(flag) => out.push_str(if flag { "true" } else { "false" }),
        Json::Number(number) => out.push_str(&number.to_string()),
        Json::Text(text) => push_text(out, &text),
        Json::List(list) => {
            out.push('[');
            for (at, item) in list.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(item, out).map_err(|Repeated(path)| Repeated(format!("[{at}]{path}")))?;
            }
            out.push(']');
        }
        Json::Object(mut members) => {
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            if let Some(pair) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                return Err(Repeated(format!(".{}", pair[0].0)));
            }
            out.push('{');
            for (at, (name, member)) in members.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                push_text(out, &name);
                out.push(':');
                write(member, out).map_err(|Repeated(path)| Repeated(format!(".{name}{path}")))?;
            }
            out.push('}');
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(failure: Failure) -> String {
        match failure {
            Failure::Invalid { field, .. } => field,
            other => panic!("{other:?}"),
        }
    }

    fn amount(text: &str) -> Result<Option<i64>, String> {
        let body = format!("{{\"amount\":{text}}}");
        let mut members = Members::parse(body.as_bytes()).map_err(field)?;
        members.amount("amount").map_err(field)
    }

    #[test]
    fn amounts_are_integers_as_javascript_counts_them() {
        assert_eq!(amount("1"), Ok(Some(1)));
        assert_eq!(amount("9007199254740991"), Ok(Some(9_007_199_254_740_991)));
        assert_eq!(amount("null"), Ok(None));
        for text in [
            "0",
            "-1",
            "-0",
            "5.0",
            "1e3",
            "9007199254740992",
            "9223372036854775808",
            "1e400",
            "\"5\"",
            "true",
            "[]",
            "{}",
            "18446744073709551616",
            "-9223372036854775809",
        ] {
            let field = amount(text).unwrap_err();
            assert!(field == "amount" || field == "body", "{text}");
        }
    }

    #[test]
    fn repeated_and_unknown_members_are_named_by_their_path() {
        let mut members = Members::parse(br#"{"a":1,"\u0061":2}"#).unwrap();
        assert_eq!(field(members.take("a").unwrap_err()), "a");
        let mut members = Members::parse(br#"{"outer":{"x":1,"y":2},"z":3}"#).unwrap();
        let mut outer = members.object("outer").unwrap().unwrap();
        assert_eq!(outer.integer("x", 0..=9).unwrap(), Some(1));
        assert_eq!(field(outer.finish().unwrap_err()), "outer.y");
        assert_eq!(field(members.finish().unwrap_err()), "z");
        for body in ["[]", "1", "{", "{}x", "{\"a\":\"\\ud800\"}", "\u{feff}{}", "{'a':1}", "{\"a\":1,}"] {
            assert_eq!(Members::parse(body.as_bytes()).err().map(field).as_deref(), Some("body"), "{body}");
        }
        assert!(Members::parse("[".repeat(60_000).as_bytes()).is_err());
    }

    #[test]
    fn metadata_is_kept_in_order_and_bounded() {
        let metadata = |text: &str| {
            let body = format!("{{\"metadata\":{text}}}");
            Members::parse(body.as_bytes()).unwrap().metadata("metadata").map_err(field)
        };
        let one = metadata(r#"{"b":[1,{"d":1.5,"c":null}],"a":"\u0041"}"#);
        assert_eq!(one.unwrap().unwrap(), r#"{"a":"A","b":[1,{"c":null,"d":1.5}]}"#);
        assert_eq!(metadata(r#"{"a":[0,{"b":1,"b":2}]}"#).unwrap_err(), "metadata.a[1].b");
        assert_eq!(metadata("[]").unwrap_err(), "metadata");
        assert!(metadata(&format!("{{\"a\":\"{}\"}}", "x".repeat(METADATA_BYTES - 8))).is_ok());
        assert!(metadata(&format!("{{\"a\":\"{}\"}}", "x".repeat(METADATA_BYTES - 7))).is_err());
    }

    #[test]
    fn an_owner_is_exactly_one() {
        let owner = |text: &str| Members::parse(text.as_bytes()).unwrap().owner().map_err(field);
        assert_eq!(owner(r#"{"user_id":"a"}"#), Ok(Owner::User("a".into())));
        assert_eq!(owner(r#"{"organization_id":"a"}"#), Ok(Owner::Organization("a".into())));
        assert_eq!(owner(r#"{"user_id":"a","organization_id":"b"}"#), Err("organization_id".into()));
        for text in ["{}", r#"{"user_id":""}"#, r#"{"user_id":1}"#, r#"{"user_id":"a\u0000"}"#] {
            assert_eq!(owner(text), Err("user_id".into()), "{text}");
        }
    }
}
