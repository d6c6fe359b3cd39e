//! How lists are filtered: a comparison that clients name, with the values to compare with.

/// Clients' names stand in [`Operator::parse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Equal,
    Different,
    Less,
    AtMost,
    More,
    AtLeast,
    OneOf,
    NoneOf,
    Contains,
    StartsWith,
    EndsWith,
}

impl Operator {
    pub fn parse(name: &str) -> Option<Operator> {
        Some(match name {
            "eq" => Operator::Equal,
            "ne" => Operator::Different,
            "lt" => Operator::Less,
            "lte" => Operator::AtMost,
            "gt" => Operator::More,
            "gte" => Operator::AtLeast,
            "in" => Operator::OneOf,
            "not_in" => Operator::NoneOf,
            "contains" => Operator::Contains,
            "starts_with" => Operator::StartsWith,
            "ends_with" => Operator::EndsWith,
            _ => return None,
        })
    }
}

/// One comparison; several values count for [`Operator::OneOf`] and [`Operator::NoneOf`] only, others look at the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub operator: Operator,
    pub values: Vec<String>,
}

impl Filter {
    pub fn first(&self) -> &str {
        self.values.first().map_or("", String::as_str)
    }

    pub fn matches(&self, text: &str) -> bool {
        let value = self.first();
        match self.operator {
            Operator::Equal => text == value,
            Operator::Different => text != value,
            Operator::Less => text < value,
            Operator::AtMost => text <= value,
            Operator::More => text > value,
            Operator::AtLeast => text >= value,
            Operator::OneOf => self.values.iter().any(|value| value == text),
            Operator::NoneOf => self.values.iter().all(|value| value != text),
            Operator::Contains => text.contains(value),
            Operator::StartsWith => text.starts_with(value),
            Operator::EndsWith => text.ends_with(value),
        }
    }
}
