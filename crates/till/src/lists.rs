//! Lists as Stripe pages them: newest first, by a cursor that is an object's id.

use crate::form::Fields;
use crate::refusal::Refusal;
use serde_json::{Value, json};

pub(crate) const PAGING: [&str; 3] = ["limit", "starting_after", "ending_before"];

/// One page of `items`, which come newest first with their ids; `show` is asked for those of the page only.
pub(crate) fn page<T>(
    fields: &Fields<'_>,
    url: &str,
    items: impl DoubleEndedIterator<Item = (String, T)>,
    show: impl Fn(T) -> Value,
) -> Result<Value, Refusal> {
    let limit = match fields.integer("limit")? {
        None => 10,
        Some(limit @ 1..=100) => usize::try_from(limit).unwrap_or(100),
        Some(limit) => {
            return Err(Refusal::invalid(
                "limit",
                format!("Invalid limit: {limit} is not between 1 and 100"),
            ));
        }
    };
    let (after, before) = (fields.filled("starting_after"), fields.filled("ending_before"));
    let (mut found, has_more) = match (after, before) {
        (Some(_), Some(_)) => {
            let message = "You cannot parameterize both starting_after and ending_before.";
            return Err(Refusal::invalid("ending_before", message));
        }
        (None, Some(cursor)) => {
            let (mut found, more) = stretch(items.rev(), Some(cursor), limit, "ending_before")?;
            found.reverse();
            (found, more)
        }
        (cursor, None) => stretch(items, cursor, limit, "starting_after")?,
    };
    let data: Vec<Value> = found.drain(..).map(show).collect();
    Ok(list(url, data, has_more))
}

/// Up to `limit` items behind the cursor, and whether there are more.
fn stretch<T>(
    mut items: impl Iterator<Item = (String, T)>,
    cursor: Option<&str>,
    limit: usize,
    param: &str,
) -> Result<(Vec<T>, bool), Refusal> {
    if let Some(cursor) = cursor
        && !items.any(|(id, _)| id == cursor)
    {
        return Err(Refusal::no_such("object in this list", cursor, param));
    }
    let found = items.by_ref().take(limit).map(|(_, item)| item).collect();
    Ok((found, items.next().is_some()))
}

pub(crate) fn list(url: &str, data: Vec<Value>, has_more: bool) -> Value {
    json!({ "object": "list", "url": url, "has_more": has_more, "data": data })
}

/// `created`, as a number or as bounds.
pub(crate) struct Created {
    from: i64,
    to: i64,
}

impl Created {
    pub(crate) const NAMES: [&'static str; 5] =
        ["created", "created.gt", "created.gte", "created.lt", "created.lte"];

    pub(crate) fn read(fields: &Fields<'_>) -> Result<Created, Refusal> {
        if let Some(exactly) = fields.integer("created")? {
            return Ok(Created { from: exactly, to: exactly });
        }
        let Some(bounds) = fields.object("created") else {
            return Ok(Created { from: i64::MIN, to: i64::MAX });
        };
        let above = bounds.integer("gt")?.map_or(i64::MIN, |time| time.saturating_add(1));
        let from = bounds.integer("gte")?.unwrap_or(i64::MIN).max(above);
        let below = bounds.integer("lt")?.map_or(i64::MAX, |time| time.saturating_sub(1));
        let to = bounds.integer("lte")?.unwrap_or(i64::MAX).min(below);
        Ok(Created { from, to })
    }

    pub(crate) fn holds(&self, created: i64) -> bool {
        (self.from..=self.to).contains(&created)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::Form;
    use proptest::prelude::*;

    fn ask(count: usize, query: &str) -> Result<(Vec<u64>, bool), Refusal> {
        let form = Form::parse(query.as_bytes())?;
        let items = (0..count).rev().map(|number| (format!("o_{number}"), number));
        let page = page(&form.fields(), "/v1/o", items, |number| json!(number))?;
        let data = page["data"].as_array().expect("a list").iter().filter_map(Value::as_u64).collect();
        Ok((data, page["has_more"] == true))
    }

    #[test]
    fn pages_go_both_ways_from_a_cursor() {
        assert_eq!(ask(5, "limit=2"), Ok((vec![4, 3], true)));
        assert_eq!(ask(5, "limit=2&starting_after=o_3"), Ok((vec![2, 1], true)));
        assert_eq!(ask(5, "limit=2&starting_after=o_1"), Ok((vec![0], false)));
        assert_eq!(ask(5, "limit=2&ending_before=o_1"), Ok((vec![3, 2], true)));
        assert_eq!(ask(5, "limit=2&ending_before=o_3"), Ok((vec![4], false)));
        assert!(ask(5, "limit=0").is_err() && ask(5, "limit=101").is_err());
        assert!(ask(5, "starting_after=o_9").is_err());
        assert!(ask(5, "starting_after=o_1&ending_before=o_2").is_err());
    }

    #[test]
    fn created_is_a_number_or_bounds() {
        let read = |text: &str| {
            Created::read(&Form::parse(text.as_bytes()).expect("a form").fields()).expect("bounds")
        };
        assert!(read("created=5").holds(5) && !read("created=5").holds(6));
        let bounds = read("created[gt]=5&created[lte]=7");
        assert!(!bounds.holds(5) && bounds.holds(6) && bounds.holds(7) && !bounds.holds(8));
        assert!(read("").holds(0));
    }

    proptest! {
        #[test]
        fn following_the_cursor_meets_every_object_once(count in 0usize..60, limit in 1usize..12) {
            let (mut met, mut query) = (Vec::new(), format!("limit={limit}"));
            loop {
                let (data, more) = ask(count, &query).expect("a page");
                met.extend(data);
                if !more { break; }
                query = format!("limit={limit}&starting_after=o_{}", met.last().expect("more follows something"));
            }
            prop_assert_eq!(met, (0..count as u64).rev().collect::<Vec<_>>());
        }
    }
}
