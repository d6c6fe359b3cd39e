//! The one judge of redirect targets, and the one way to add a parameter to a target that passed.

use crate::origin::{TrustedOrigins, has_user_info, same_origin};
use url::Url;

/// A redirect target that passed the judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
    /// As it was given: what is sent on when nothing is added.
    text: String,
    relative: bool,
}

/// Decides whether people may be sent to `text`: a path on our own host, or an absolute URL of a trusted origin.
pub fn judge(trusted: &TrustedOrigins, text: &str) -> Option<Target> {
    // Browsers read `\` as `/` and drop tabs and newlines; both turn an innocent path into another host.
    if text.chars().any(|c| c == '\\' || c.is_control()) || text.starts_with(' ') {
        return None;
    }
    let relative = text.starts_with('/');
    let url = if relative {
        let path = &text[..text.find(['?', '#']).unwrap_or(text.len())];
        let lower = path.to_ascii_lowercase();
        if text.starts_with("//") || lower.contains("%2f") || lower.contains("%5c") {
            return None;
        }
        let url = trusted.base().join(text).ok()?;
        // `/..//evil.example` is a path here, but becomes `//evil.example` once its dots are resolved.
        if !same_origin(&url, trusted.base()) || url.path().starts_with("//") || has_user_info(&url) {
            return None;
        }
        url
    } else {
        if !trusted.trusts(text) {
            return None;
        }
        Url::parse(text).ok()?
    };
    Some(Target { url, text: text.to_string(), relative })
}

impl Target {
    /// Where the browser is sent: relative targets stay relative.
    pub fn location(&self) -> String {
        if self.text.is_ascii() { self.text.clone() } else { self.print(&self.url) }
    }

    /// With scheme and host, wherever it was relative.
    pub fn absolute(&self) -> String {
        self.url.as_str().to_string()
    }

    /// The target with `name=value` added to its query, before the fragment.
    pub fn with(&self, name: &str, value: &str) -> String {
        self.with_all([(name, value)])
    }

    /// The same with several.
    pub fn with_all<'a>(&self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
        let mut url = self.url.clone();
        url.query_pairs_mut().extend_pairs(pairs);
        self.print(&url)
    }

    /// As [`Target::with`], but relative targets come out absolute and an earlier value of that name is replaced.
    pub fn absolute_with(&self, name: &str, value: &str) -> String {
        let mut url = self.url.clone();
        let kept: Vec<(String, String)> = url
            .query_pairs()
            .filter(|(key, _)| key != name)
            .map(|(k, v)| (k.into_owned(), v.into_owned()))
            .collect();
        url.query_pairs_mut().clear().extend_pairs(kept).append_pair(name, value);
        url.into()
    }

    fn print(&self, url: &Url) -> String {
        if !self.relative {
            return url.as_str().to_string();
        }
        url[url::Position::BeforePath..].to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trusted() -> TrustedOrigins {
        let patterns = ["https://app.example", "https://*.wild.example.test", "myapp://"].map(String::from);
        TrustedOrigins::new("https://auth.example", &patterns).unwrap()
    }

    #[test]
    fn paths_and_trusted_urls_pass() {
        let yes = [
            "/",
            "/ok/../fine",
            "/a?b=https://evil.com",
            "/dashboard?tab=a&x=%2F%2Fevil",
            "/é",
            "/a#//x",
            "/%09/evil.com",
            "https://app.example/x",
            "HTTPS://APP.EXAMPLE/x",
            "https://app.example:443/",
            "https://x.wild.example.test/y",
            "myapp://callback",
            "https://auth.example/z",
        ];
        for text in yes {
            assert!(judge(&trusted(), text).is_some(), "{text}");
        }
    }

    #[test]
    fn everything_that_leads_elsewhere_is_refused() {
        let no = [
            "//evil.example/x",
            "https://evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "/%5Cevil.example",
            "/%2F/evil.example",
            "/%2f%2fevil",
            "https:evil.example",
            "https:/evil.example",
            "javascript:alert(1)",
            "data:text/html,x",
            " https://evil.example",
            "https://app.example@evil.example",
            "https://app.example.evil.example",
            "https://app.example\\@evil.example",
            "%09//evil.example",
            "\t//evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "///evil.example",
            "http://app.example",
            "https://app.example:444",
            "ok",
            "",
            "/..//evil.example",
            "/.//evil.example",
            "/a/../..//evil.example",
            "https://app.example:443@evil.example/",
        ];
        for text in no {
            assert_eq!(judge(&trusted(), text), None, "{text}");
        }
    }

    #[test]
    fn parameters_go_before_the_fragment_and_keep_the_query() {
        let with = |text: &str| judge(&trusted(), text).unwrap().with("error", "INVALID_TOKEN");
        assert_eq!(with("/x?y=1#z"), "/x?y=1&error=INVALID_TOKEN#z");
        assert_eq!(with("/x"), "/x?error=INVALID_TOKEN");
        assert_eq!(with("https://app.example/x"), "https://app.example/x?error=INVALID_TOKEN");
        assert_eq!(with("/é"), "/%C3%A9?error=INVALID_TOKEN");
        let target = judge(&trusted(), "/x?token=old&y=1#z").unwrap();
        assert_eq!(target.absolute_with("token", "new"), "https://auth.example/x?y=1&token=new#z");
    }

    proptest! {
        /// A second parser agrees: whatever passes leads to a trusted host when a browser resolves it against our base.
        #[test]
        fn what_passes_lands_on_a_trusted_origin(text in "(https?:)?[/\\\\]{0,3}[a-z.@:%25cfF/\\\\ \t?#-]{0,30}") {
            let trusted = TrustedOrigins::new("https://auth.example", &["https://app.example".into()]).unwrap();
            if let Some(target) = judge(&trusted, &text) {
                for location in [target.location(), target.with("error", "X"), target.absolute_with("token", "t")] {
                    let landed = trusted.base().join(&location).unwrap();
                    prop_assert!(["https://auth.example", "https://app.example"].contains(&landed.origin().ascii_serialization().as_str()), "{} -> {}", text, landed);
                }
            }
        }
    }
}
