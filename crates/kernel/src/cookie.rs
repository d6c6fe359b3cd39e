//! Reading the `Cookie` header and writing `Set-Cookie`.

use crate::time::Millis;
use std::fmt::Write as _;

/// The first cookie of that name in the header lines, as browsers order them: the most specific path first. A second
/// one of the same name is never looked at, so that a planted cookie cannot be tried after a bad one.
pub fn first<'a>(lines: impl IntoIterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    all(lines).find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Every name and value, in order. Parts without `=` are skipped; one pair of double quotes is taken off a value.
pub fn all<'a>(lines: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = (&'a str, &'a str)> {
    lines.into_iter().flat_map(|line| line.split(';')).filter_map(|part| {
        let (name, value) = part.split_once('=')?;
        let value = value.trim_matches([' ', '\t']);
        let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
        Some((name.trim_matches([' ', '\t']), unquoted))
    })
}

/// One `Set-Cookie` line; `value` must be encoded already.
#[derive(Debug, Clone)]
pub struct SetCookie<'a> {
    pub name: &'a str,
    pub value: &'a str,
    /// Seconds; absent for a cookie that ends with the browser, 0 to delete one.
    pub max_age: Option<i64>,
    pub domain: Option<&'a str>,
    pub http_only: bool,
    pub secure: bool,
    pub same_site: &'a str,
}

impl SetCookie<'_> {
    pub fn to_line(&self) -> String {
        let mut line = String::with_capacity(self.name.len() + self.value.len() + 96);
        line.push_str(self.name);
        line.push('=');
        line.push_str(self.value);
        if let Some(seconds) = self.max_age {
            let _ = write!(line, "; Max-Age={seconds}");
        }
        if let Some(domain) = self.domain {
            let _ = write!(line, "; Domain={domain}");
        }
        line.push_str("; Path=/");
        if self.http_only {
            line.push_str("; HttpOnly");
        }
        if self.secure {
            line.push_str("; Secure");
        }
        let _ = write!(line, "; SameSite={}", self.same_site);
        line
    }
}

/// `Max-Age` for a cookie that ends at `expires_at`: whole seconds, never negative.
pub fn seconds_until(expires_at: Millis, now: Millis) -> i64 {
    ((expires_at.0 - now.0) / 1_000).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_cookie_of_a_name_counts() {
        assert_eq!(first(["a=1; b=2;c=3; b=4"], "b"), Some("2"));
        assert_eq!(first(["a=1", "b=2"], "b"), Some("2"));
        assert_eq!(first(["a=\"quoted\""], "a"), Some("quoted"));
        assert_eq!(first(["a=x=y"], "a"), Some("x=y"));
        assert_eq!(first(["novalue; ; =; a="], "a"), Some(""));
        assert_eq!(first(["xa=1"], "a"), None);
    }

    #[test]
    fn attributes_stand_in_the_order_of_the_original() {
        let cookie = SetCookie {
            name: "n",
            value: "v",
            max_age: Some(5),
            domain: Some("example.com"),
            http_only: true,
            secure: true,
            same_site: "Lax",
        };
        assert_eq!(
            cookie.to_line(),
            "n=v; Max-Age=5; Domain=example.com; Path=/; HttpOnly; Secure; SameSite=Lax"
        );
        let bare = SetCookie { max_age: None, domain: None, http_only: false, secure: false, ..cookie };
        assert_eq!(bare.to_line(), "n=v; Path=/; SameSite=Lax");
    }

    proptest! {
        #[test]
        fn unrelated_cookies_do_not_matter(before in "\\PC{0,40}", after in "\\PC{0,40}") {
            prop_assume!(!before.contains("wanted"));
            let line = format!("{before}; wanted=yes; {after}");
            prop_assert_eq!(first([line.as_str()], "wanted"), Some("yes"));
        }
    }
}
