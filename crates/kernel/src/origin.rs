//! Which origins are trusted: the base URL's own and those configured. Decided on parsed URLs, never on text.

use url::{Host, Url};

/// The base URL's origin and the configured patterns.
#[derive(Debug, Clone)]
pub struct TrustedOrigins {
    base: Url,
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq)]
enum Pattern {
    /// `https://app.example.com`: scheme, host and port must be equal.
    Exact(String),
    /// `https://*.example.com`: matched against the whole origin.
    OriginGlob(String),
    /// `*.example.com`: matched against the host alone.
    HostGlob(String),
    /// `myapp://`: scheme, and authority and path prefix where the pattern has them.
    App { scheme: String, authority: String, path: String },
}

/// Schemes that run or read something in the browser; no pattern can allow them.
const NEVER: [&str; 6] = ["javascript", "data", "vbscript", "file", "blob", "about"];

impl TrustedOrigins {
    pub fn new(base_url: &str, patterns: &[String]) -> Result<TrustedOrigins, String> {
        let base = Url::parse(base_url).map_err(|_| format!("`{base_url}` is not a URL"))?;
        if !is_web(&base) || base.host().is_none() {
            return Err(format!("`{base_url}` must begin with https:// (or http:// on this machine)"));
        }
        let patterns = patterns.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?;
        Ok(TrustedOrigins { base, patterns })
    }

    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Judges the value of an `Origin` or `Referer` header, or any absolute URL.
    pub fn trusts(&self, text: &str) -> bool {
        // The URL parser forgives spaces, tabs and newlines; a browser never sends them here.
        if text.chars().any(|c| c.is_ascii_control() || c == ' ') {
            return false;
        }
        let Ok(url) = Url::parse(text) else { return false };
        if !is_web(&url) {
            return self.patterns.iter().any(|pattern| pattern.matches_app(&url));
        }
        // `https:host` and `https:/host` parse as well, but nobody means them well. User names exist to deceive.
        let slashes = text.get(url.scheme().len()..).is_some_and(|rest| rest.starts_with("://"));
        if !slashes || text[url.scheme().len() + 3..].starts_with('/') || has_user_info(&url) {
            return false;
        }
        same_origin(&url, &self.base) || self.patterns.iter().any(|pattern| pattern.matches_web(&url))
    }

    /// Whether a browser at this origin may read answers (CORS): web origins only, exactly as sent by browsers.
    pub fn allows_reading(&self, origin: &str) -> bool {
        Url::parse(origin).is_ok_and(|url| is_web(&url) && url.origin().ascii_serialization() == origin)
            && self.trusts(origin)
    }
}

pub(crate) fn same_origin(left: &Url, right: &Url) -> bool {
    left.origin().is_tuple() && left.origin() == right.origin()
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

pub(crate) fn has_user_info(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Whether the host of a pattern with wildcards ends with a name that somebody owns (two labels without wildcards), is
/// this machine, or is a network whose beginning is written out. What stands in the port or the scheme does not help.
fn names_a_site(pattern: &str) -> bool {
    let authority = pattern.split_once("://").map_or(pattern, |(_, rest)| rest);
    let authority = authority.split('/').next().unwrap_or("");
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let plain = |label: &str| !label.is_empty() && !label.contains(['*', '?']);
    let numeric = host.chars().all(|c| c.is_ascii_digit() || ".*?".contains(c));
    let mut labels = host.rsplit('.');
    let (last, second) = (labels.next().unwrap_or(""), labels.next().unwrap_or(""));
    if numeric {
        plain(host.split('.').next().unwrap_or(""))
    } else {
        last == "localhost" || (plain(last) && plain(second))
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Pattern, String> {
        let wild = text.contains(['*', '?']);
        let lower = text.to_ascii_lowercase();
        if matches!(lower.trim_matches('/'), "" | "*" | "**" | "*://*" | "http://*" | "https://*" | "*.*") {
            return Err(format!("`{text}` would trust every site; name the origins one by one"));
        }
        if wild && !names_a_site(&lower) {
            return Err(format!(
                "`{text}` would trust sites of anybody; end the host with a name of your own, such as *.example.com"
            ));
        }
        match lower.split_once("://") {
            Some((scheme, _)) if NEVER.contains(&scheme) => {
                Err(format!("`{text}`: the scheme {scheme} can never be trusted"))
            }
            Some(("http" | "https" | "*", _)) if wild => {
                Ok(Pattern::OriginGlob(lower.trim_end_matches('/').into()))
            }
            Some(("http" | "https", _)) => {
                let url = Url::parse(&lower)
                    .map_err(|_| format!("`{text}` is not an origin such as https://app.example.com"))?;
                Ok(Pattern::Exact(url.origin().ascii_serialization()))
            }
            Some((scheme, rest)) => {
                let (authority, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
                let path = if path.is_empty() { String::new() } else { format!("/{path}") };
                Ok(Pattern::App { scheme: scheme.into(), authority: authority.into(), path })
            }
            None if lower.contains('/') => {
                Err(format!("`{text}` is not an origin such as https://app.example.com"))
            }
            None => Ok(Pattern::HostGlob(lower)),
        }
    }

    fn matches_web(&self, url: &Url) -> bool {
        match self {
            Pattern::Exact(origin) => url.origin().ascii_serialization() == *origin,
            Pattern::OriginGlob(glob) => glob_matches(glob, &url.origin().ascii_serialization()),
            Pattern::HostGlob(glob) => {
                let numeric = glob.chars().all(|c| c.is_ascii_digit() || ".*?".contains(c));
                let is_v4 = matches!(url.host(), Some(Host::Ipv4(_)));
                (!numeric || is_v4) && url.host_str().is_some_and(|host| glob_matches(glob, host))
            }
            Pattern::App { .. } => false,
        }
    }

    fn matches_app(&self, url: &Url) -> bool {
        let Pattern::App { scheme, authority, path } = self else { return false };
        if NEVER.contains(&url.scheme()) || url.scheme() != scheme {
            return false;
        }
        if authority.is_empty() && path.is_empty() {
            return true;
        }
        let host = url.host_str().unwrap_or("").to_ascii_lowercase();
        let host = url.port().map_or(host.clone(), |port| format!("{host}:{port}"));
        host == *authority
            && !has_user_info(url)
            && url.path().to_ascii_lowercase().starts_with(path.as_str())
    }
}

/// `*` stands for any text (dots too), `?` for one character. Linear in time for any pattern with one star at work.
fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if g < glob.len() && glob[g] == b'*' {
            retry = Some((g, t));
            g += 1;
        } else if g < glob.len() && (glob[g] == b'?' || glob[g] == text[t]) {
            g += 1;
            t += 1;
        } else if let Some((star, from)) = retry {
            retry = Some((star, from + 1));
            g = star + 1;
            t = from + 1;
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trusted() -> TrustedOrigins {
        let patterns = [
            "https://app.example.test",
            "https://*.wild.example.test",
            "myapp://",
            "other://host/in",
            "10.0.*",
        ];
        TrustedOrigins::new("https://auth.example", &patterns.map(String::from)).unwrap()
    }

    #[test]
    fn origins_are_compared_as_structure() {
        let trusted = trusted();
        let yes = [
            "https://auth.example",
            "https://AUTH.example:443/",
            "https://app.example.test/some/page",
            "https://a.wild.example.test",
            "https://a.b.wild.example.test",
            "myapp://x",
            "myapp:evil",
            "other://host/in/side",
            "http://10.0.3.4",
        ];
        for text in yes {
            assert!(trusted.trusts(text), "{text}");
        }
        let no = [
            "https://wild.example.test",
            "http://a.wild.example.test",
            "https://app.example.test.evil.com",
            "http://app.example.test",
            "https://app.example.test:444",
            "https://app.example.test@evil.example",
            "https://u@app.example.test",
            "https://xapp.example.test",
            "https://app.example.test%2eevil.example",
            "https:app.example.test",
            "https:/app.example.test",
            "https:///app.example.test",
            "file://",
            "https://",
            "null",
            "",
            "javascript:alert(1)",
            " https://app.example.test",
            "https://app.ex\tample.test",
            "other://host/out",
            "https://10.0.evil.example",
        ];
        for text in no {
            assert!(!trusted.trusts(text), "{text}");
        }
    }

    #[test]
    fn a_pattern_for_everything_is_refused() {
        let everything = [
            "*",
            "https://*",
            "**",
            "",
            "*://*",
            "javascript://",
            "http://*:3000",
            "https://*.*:8444",
            "*.com",
            "https://?*",
            "https://*.test",
            "*.*.*",
            "https://*example.com.*",
            "https://*/x",
            "*.*.1",
        ];
        for text in everything {
            assert!(TrustedOrigins::new("https://auth.example", &[text.to_string()]).is_err(), "{text}");
        }
    }

    #[test]
    fn only_origins_as_browsers_send_them_may_read() {
        assert!(trusted().allows_reading("https://app.example.test"));
        for text in [
            "https://app.example.test/",
            "https://APP.example.test",
            "myapp://x",
            "null",
            "https://evil.example",
        ] {
            assert!(!trusted().allows_reading(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_trusted_has_a_trusted_host(text in "https?:[/\\\\]{0,3}[a-z.@:%*0-9/\\\\-]{0,40}") {
            let trusted = TrustedOrigins::new("https://auth.example", &["https://app.example.test".into()]).unwrap();
            if trusted.trusts(&text) {
                let url = Url::parse(&text).unwrap();
                prop_assert_eq!(url.scheme(), "https");
                prop_assert!(["auth.example", "app.example.test"].contains(&url.host_str().unwrap()));
            }
        }
    }
}
