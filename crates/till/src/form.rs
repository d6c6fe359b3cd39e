//! The body of a call: form-encoded, with nesting spelled in brackets (`line_items[0][price]=…`).

use crate::refusal::Refusal;
use std::collections::{BTreeMap, BTreeSet};
use url::form_urlencoded;

const MOST_PAIRS: usize = 1_000;
const DEEPEST: usize = 8;
const MOST_METADATA: usize = 50;
const LONGEST_METADATA_KEY: usize = 40;
const LONGEST_METADATA_VALUE: usize = 500;

pub type Metadata = BTreeMap<String, String>;

/// All parameters of one call, in the order they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Form {
    pairs: Vec<Pair>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pair {
    /// As it was sent, for messages.
    name: String,
    /// `line_items[0][price]` is `["line_items", "0", "price"]`; places of `a[]` are counted.
    path: Vec<String>,
    value: String,
}

impl Form {
    pub(crate) fn parse(text: &[u8]) -> Result<Form, Refusal> {
        let mut form = Form::default();
        for (name, value) in form_urlencoded::parse(text) {
            form.push(&name, value.into_owned())?;
        }
        Ok(form)
    }

    pub(crate) fn of(pairs: &[(&str, &str)]) -> Result<Form, Refusal> {
        let mut form = Form::default();
        for (name, value) in pairs {
            form.push(name, (*value).to_owned())?;
        }
        Ok(form)
    }

    fn push(&mut self, name: &str, value: String) -> Result<(), Refusal> {
        if self.pairs.len() >= MOST_PAIRS {
            return Err(Refusal::invalid(name, format!("More than {MOST_PAIRS} parameters")));
        }
        let mut path =
            path_of(name).ok_or_else(|| Refusal::invalid(name, format!("Invalid parameter name: {name}")))?;
        if path.len() > 1 && path.last().is_some_and(String::is_empty) {
            path.pop();
            let place = self.pairs.iter().filter(|pair| pair.path[..pair.path.len() - 1] == path[..]).count();
            path.push(place.to_string());
        }
        self.pairs.push(Pair { name: name.to_owned(), path, value });
        Ok(())
    }

    /// Adds those of a query; Stripe takes them from either place.
    pub(crate) fn extend(&mut self, other: Form) {
        self.pairs.extend(other.pairs);
    }

    pub(crate) fn fields(&self) -> Fields<'_> {
        Fields { form: self, prefix: Vec::new() }
    }

    /// Refuses the first parameter that none of the patterns allows. `a[].b` allows `a[0][b]`, `metadata.*` any key.
    pub(crate) fn refuse_unknown(&self, known: &[&str]) -> Result<(), Refusal> {
        for pair in &self.pairs {
            if !known.iter().chain(&["expand[]"]).any(|pattern| allows(pattern, &pair.path)) {
                return Err(Refusal::unknown_parameter(&pair.name));
            }
        }
        Ok(())
    }

    /// The same text for the same parameters in whatever order, to compare calls with.
    pub(crate) fn canonical(&self) -> String {
        let mut pairs: Vec<String> =
            self.pairs.iter().map(|pair| format!("{:?}={:?}", pair.path, pair.value)).collect();
        pairs.sort();
        pairs.join("&")
    }
}

fn path_of(name: &str) -> Option<Vec<String>> {
    let (first, mut rest) = match name.find('[') {
        Some(at) => name.split_at(at),
        None => (name, ""),
    };
    if first.is_empty() {
        return None;
    }
    let mut path = vec![first.to_owned()];
    while !rest.is_empty() {
        let (segment, after) = rest.strip_prefix('[')?.split_once(']')?;
        // Only at the end can a place be left to be counted.
        if segment.is_empty() && !after.is_empty() {
            return None;
        }
        path.push(segment.to_owned());
        rest = after;
    }
    (path.len() <= DEEPEST).then_some(path)
}

fn allows(pattern: &str, path: &[String]) -> bool {
    let mut segments = path.iter();
    let mut take = |matches: &dyn Fn(&str) -> bool| segments.next().is_some_and(|segment| matches(segment));
    for part in pattern.split('.') {
        let (name, list) = match part.strip_suffix("[]") {
            Some(name) => (name, true),
            None => (part, false),
        };
        if !take(&|segment| name == "*" || segment == name) {
            return false;
        }
        if list && !take(&|segment| segment.parse::<usize>().is_ok()) {
            return false;
        }
    }
    segments.next().is_none()
}

/// The parameters below one name.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    form: &'a Form,
    prefix: Vec<String>,
}

impl<'a> Fields<'a> {
    /// How a parameter here is spelled in messages.
    pub(crate) fn name(&self, name: &str) -> String {
        let mut path = self.prefix.iter().map(String::as_str).chain([name]);
        let first = path.next().unwrap_or_default().to_owned();
        path.fold(first, |text, segment| format!("{text}[{segment}]"))
    }

    fn below(&self, name: &str) -> impl Iterator<Item = (&'a [String], &'a Pair)> + use<'a> {
        let mut wanted = self.prefix.clone();
        wanted.push(name.to_owned());
        self.form
            .pairs
            .iter()
            .filter_map(move |pair| pair.path.strip_prefix(&wanted[..]).map(|rest| (rest, pair)))
    }

    /// The last one counts, as with Stripe.
    pub(crate) fn text(&self, name: &str) -> Option<&'a str> {
        self.below(name).filter(|(rest, _)| rest.is_empty()).last().map(|(_, pair)| pair.value.as_str())
    }

    /// A text that is not empty.
    pub(crate) fn filled(&self, name: &str) -> Option<&'a str> {
        self.text(name).filter(|text| !text.is_empty())
    }

    pub(crate) fn required(&self, name: &str) -> Result<&'a str, Refusal> {
        match self.text(name) {
            Some("") => Err(Refusal::invalid(
                self.name(name),
                format!("You passed an empty string for '{}'. It cannot be unset.", self.name(name)),
            )
            .code("parameter_invalid_empty")),
            Some(text) => Ok(text),
            None => Err(Refusal::missing(self.name(name))),
        }
    }

    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            Refusal::invalid(self.name(name), format!("Invalid integer: {text}"))
                .code("parameter_invalid_integer")
        })
    }

    /// A number of at least `least`.
    pub(crate) fn integer_from(&self, name: &str, least: i64) -> Result<Option<i64>, Refusal> {
        let number = self.integer(name)?;
        if number.is_some_and(|number| number < least) {
            return Err(Refusal::invalid(
                self.name(name),
                format!("This value must be greater than or equal to {least}."),
            )
            .code("parameter_invalid_integer"));
        }
        // Stripe's own bound for amounts: eight digits.
        if number.is_some_and(|number| number > 9_999_999_999) {
            return Err(
                Refusal::invalid(self.name(name), "This value is too large.").code("amount_too_large")
            );
        }
        Ok(number)
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.text(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(text) => Err(Refusal::invalid(self.name(name), format!("Invalid boolean: {text}"))),
        }
    }

    pub(crate) fn one_of<'b>(&self, name: &str, allowed: &[&'b str]) -> Result<Option<&'b str>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        allowed.iter().find(|word| **word == text).map(|word| Some(*word)).ok_or_else(|| {
            Refusal::invalid(
                self.name(name),
                format!("Invalid {}: must be one of {}", self.name(name), allowed.join(", ")),
            )
        })
    }

    /// The parameters of a nested object, when there are any.
    pub(crate) fn object(&self, name: &str) -> Option<Fields<'a>> {
        let mut prefix = self.prefix.clone();
        prefix.push(name.to_owned());
        self.below(name).any(|(rest, _)| !rest.is_empty()).then_some(Fields { form: self.form, prefix })
    }

    /// The items of a list in the order of their places.
    pub(crate) fn list(&self, name: &str) -> Vec<Fields<'a>> {
        let places: BTreeSet<usize> = self
            .below(name)
            .filter_map(|(rest, _)| rest.first().and_then(|place| place.parse().ok()))
            .collect();
        let item = |place: usize| {
            let mut prefix = self.prefix.clone();
            prefix.extend([name.to_owned(), place.to_string()]);
            Fields { form: self.form, prefix }
        };
        places.into_iter().map(item).collect()
    }

    /// A list of plain texts.
    pub(crate) fn texts(&self, name: &str) -> Vec<&'a str> {
        self.below(name).filter(|(rest, _)| rest.len() == 1).map(|(_, pair)| pair.value.as_str()).collect()
    }

    /// Applies `metadata` over what is there: an empty value takes a key away, an empty `metadata` all of them.
    pub(crate) fn update_metadata(&self, metadata: &mut Metadata) -> Result<(), Refusal> {
        if self.text("metadata") == Some("") {
            metadata.clear();
        }
        for (rest, pair) in self.below("metadata") {
            let [key] = rest else { continue };
            let refuse = |what: &str| Err(Refusal::invalid(pair.name.clone(), what.to_owned()));
            if key.chars().count() > LONGEST_METADATA_KEY {
                return refuse("Metadata keys can have up to 40 characters.");
            }
            if pair.value.chars().count() > LONGEST_METADATA_VALUE {
                return refuse("Metadata values can have up to 500 characters.");
            }
            if pair.value.is_empty() {
                metadata.remove(key);
            } else {
                metadata.insert(key.clone(), pair.value.clone());
            }
            if metadata.len() > MOST_METADATA {
                return refuse("Metadata can have up to 50 keys.");
            }
        }
        Ok(())
    }

    pub(crate) fn metadata(&self) -> Result<Metadata, Refusal> {
        let mut metadata = Metadata::new();
        self.update_metadata(&mut metadata)?;
        Ok(metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn form(text: &str) -> Form {
        Form::parse(text.as_bytes()).expect("a form")
    }

    #[test]
    fn brackets_are_objects_and_lists() {
        let form = form("a[0][b]=1&a%5B1%5D%5Bb%5D=2&m[k]=v+w&e[]=x&e[]=y&n=7&t=true");
        let fields = form.fields();
        let items = fields.list("a");
        assert_eq!(items.iter().map(|item| item.text("b")).collect::<Vec<_>>(), [Some("1"), Some("2")]);
        assert_eq!(items[1].name("b"), "a[1][b]");
        assert_eq!(fields.object("m").and_then(|m| m.text("k")), Some("v w"));
        assert_eq!(fields.texts("e"), ["x", "y"]);
        assert_eq!(fields.integer("n"), Ok(Some(7)));
        assert_eq!(fields.boolean("t"), Ok(Some(true)));
        assert_eq!(fields.text("missing"), None);
    }

    #[test]
    fn an_unknown_parameter_is_named_as_it_was_sent() {
        let known = ["line_items[].price", "metadata", "metadata.*", "mode"];
        let refused = |text| form(text).refuse_unknown(&known).expect_err("unknown").param;
        assert!(
            form("line_items[0][price]=p&metadata[a]=b&mode=x&expand[]=c").refuse_unknown(&known).is_ok()
        );
        assert!(form("metadata=").refuse_unknown(&known).is_ok());
        assert_eq!(refused("line_items[0][prize]=p").as_deref(), Some("line_items[0][prize]"));
        assert_eq!(refused("line_items[x][price]=p").as_deref(), Some("line_items[x][price]"));
        assert_eq!(refused("mode[a]=p").as_deref(), Some("mode[a]"));
        assert_eq!(refused("metadata[a][b]=p").as_deref(), Some("metadata[a][b]"));
    }

    #[test]
    fn metadata_is_merged_and_bounded() {
        let mut metadata = form("metadata[a]=1&metadata[b]=2").fields().metadata().expect("metadata");
        form("metadata[a]=&metadata[c]=3").fields().update_metadata(&mut metadata).expect("an update");
        assert_eq!(metadata.iter().map(|(k, v)| format!("{k}{v}")).collect::<String>(), "b2c3");
        form("metadata=").fields().update_metadata(&mut metadata).expect("an update");
        assert!(metadata.is_empty());
        let long = format!("metadata[a]={}", "x".repeat(501));
        assert!(form(&long).fields().metadata().is_err());
        let many: String = (0..51).map(|n| format!("metadata[k{n}]=v&")).collect();
        assert!(form(&many).fields().metadata().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_form_or_a_refusal(text in "[a-c\\[\\]0-9=&%]{0,60}") {
            if let Ok(form) = Form::parse(text.as_bytes()) {
                let fields = form.fields();
                fields.list("a");
                fields.texts("a");
                let _ = fields.metadata();
                prop_assert_eq!(form.canonical(), form.canonical());
            }
        }

        #[test]
        fn the_order_of_parameters_does_not_matter_to_the_comparison(a in "[a-z]{1,5}", b in "[a-z]{1,5}") {
            let (one, other) = (form(&format!("a={a}&b={b}")), form(&format!("b={b}&a={a}")));
            prop_assert_eq!(one.canonical(), other.canonical());
        }
    }
}
