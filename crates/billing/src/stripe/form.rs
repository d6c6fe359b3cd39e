//! Parameters as Stripe reads them: `line_items[0][price]=price_1`.

use url::form_urlencoded::Serializer;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form(Vec<(String, String)>);

impl Form {
    pub fn new() -> Form {
        Form::default()
    }

    pub fn with(mut self, name: impl Into<String>, value: impl ToString) -> Form {
        self.0.push((name.into(), value.to_string()));
        self
    }

    /// Nothing for `None`.
    pub fn with_some(self, name: impl Into<String>, value: Option<impl ToString>) -> Form {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn encoded(&self) -> String {
        let mut out = Serializer::new(String::new());
        out.extend_pairs(&self.0);
        out.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_odd_values_are_encoded() {
        let form = Form::new()
            .with("line_items[0][price]", "price_1")
            .with("q", "a&b=c d")
            .with_some("x", None::<i64>);
        assert_eq!(form.encoded(), "line_items%5B0%5D%5Bprice%5D=price_1&q=a%26b%3Dc+d");
    }
}
