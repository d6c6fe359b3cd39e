//! What a proxy's request asks for: the rules of the configuration, and the path as every backend will read it.
//!
//! A proxy asks about a path before the backend reads it. Where the two could read it differently, somebody passes by a
//! rule that was meant for them. So a path is taken apart once, strictly, and what programs are known to understand in
//! different ways is refused ([`Doubt`]) instead of guessed at.

/// A path, decoded, in segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainPath {
    segments: Vec<String>,
    /// As a backend sees them that does not tell capitals from small letters, or drops dots and spaces at the end.
    folded: Vec<String>,
}

/// Why a path is not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    NotAPath,
    Character,
    BrokenEscape,
    HiddenSeparator,
    EncodedTwice,
    Dots,
    EmptySegment,
    Resembles,
}

impl Doubt {
    pub fn reason(self) -> &'static str {
        match self {
            Doubt::NotAPath => "its path does not begin with a slash",
            Doubt::Character => "its path has a character that does not belong there",
            Doubt::BrokenEscape => "its path has a broken percent sign",
            Doubt::HiddenSeparator => {
                "its path has an encoded character that some programs take for a separator"
            }
            Doubt::EncodedTwice => "its path is encoded twice",
            Doubt::Dots => "its path has a segment of nothing but dots and spaces",
            Doubt::EmptySegment => "its path has an empty segment",
            Doubt::Resembles => "its path resembles, in another spelling, one that has a rule",
        }
    }
}

impl PlainPath {
    /// Of the request's target as it came, with or without a query.
    pub fn read(target: &str) -> Result<PlainPath, Doubt> {
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let rest = path.strip_prefix('/').ok_or(Doubt::NotAPath)?;
        // `\` is a slash to some, and `;` begins what Java leaves out.
        if !path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\;#".contains(&byte)) {
            return Err(Doubt::Character);
        }
        let mut segments = rest.split('/').map(segment).collect::<Result<Vec<String>, Doubt>>()?;
        // `/a/` is `/a` to most, and its rule is the same.
        if segments.last().is_some_and(String::is_empty) {
            segments.pop();
        }
        if segments.iter().any(String::is_empty) {
            return Err(Doubt::EmptySegment);
        }
        let folded = segments.iter().map(|segment| fold(segment)).collect();
        Ok(PlainPath { segments, folded })
    }
}

fn segment(text: &str) -> Result<String, Doubt> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.as_bytes().split(|&byte| byte == b'%');
    bytes.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        let byte = hex(part).ok_or(Doubt::BrokenEscape)?;
        if b"/\\;?#".contains(&byte) || byte.is_ascii_control() {
            return Err(Doubt::HiddenSeparator);
        }
        bytes.push(byte);
        bytes.extend_from_slice(&part[2..]);
    }
    if bytes.windows(3).any(|three| three[0] == b'%' && hex(&three[1..]).is_some()) {
        return Err(Doubt::EncodedTwice);
    }
    let text = String::from_utf8(bytes).map_err(|_| Doubt::Character)?;
    if text.chars().any(char::is_control) {
        return Err(Doubt::Character);
    }
    // `.` and `..`, and what becomes one of them, or nothing, where dots and spaces at the end are dropped.
    let only_dots = !text.is_empty() && text.chars().all(|c| c == '.' || c == ' ');
    if only_dots { Err(Doubt::Dots) } else { Ok(text) }
}

/// The byte that two hexadecimal digits stand for.
fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| digits.get(at).and_then(|&digit| char::from(digit).to_digit(16));
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

fn fold(segment: &str) -> String {
    // Over capitals: letters such as the long s have no small letter to share, but a capital.
    let folded = segment.to_uppercase().to_lowercase();
    folded.trim_end_matches(['.', ' ']).to_owned()
}

/// A path in a rule: `*` stands for one segment, and at the end for all that follows, nothing included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
    and_below: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text { plain: String, folded: String },
    Any,
}

impl Pattern {
    /// `None` for what no pattern looks like.
    pub fn parse(text: &str) -> Option<Pattern> {
        let rest = text.strip_prefix('/')?;
        let mut segments: Vec<&str> = if rest.is_empty() { Vec::new() } else { rest.split('/').collect() };
        let and_below = segments.last() == Some(&"*");
        if and_below {
            segments.pop();
        }
        let part = |segment: &str| match segment {
            "" | "." | ".." => None,
            "*" => Some(Part::Any),
            text if text.bytes().all(is_plain) => {
                Some(Part::Text { plain: text.to_owned(), folded: fold(text) })
            }
            _ => None,
        };
        let parts = segments.into_iter().map(part).collect::<Option<_>>()?;
        Some(Pattern { parts, and_below })
    }

    fn matches(&self, path: &[String], folded: bool) -> bool {
        let enough =
            if self.and_below { path.len() >= self.parts.len() } else { path.len() == self.parts.len() };
        enough
            && self.parts.iter().zip(path).all(|(part, segment)| match part {
                Part::Any => true,
                Part::Text { folded: text, .. } if folded => text == segment,
                Part::Text { plain, .. } => plain == segment,
            })
    }
}

/// What a rule may spell as it is.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(&byte)
}

/// What is asked of whoever wants to pass. Without any member: a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asks {
    /// Everybody passes; who is signed in is told all the same.
    pub public: bool,
    pub role: Option<String>,
    /// What the user's plan must turn on.
    pub entitlement: Option<String>,
    /// What the user is charged for.
    pub feature: Option<String>,
    /// The action whose allowance lets a visitor without a session pass.
    pub guest: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub path: Pattern,
    /// In capitals; none: all.
    pub methods: Vec<String>,
    pub asks: Asks,
}

impl Rule {
    /// Backends answer HEAD as they answer GET.
    fn covers(&self, method: &str) -> bool {
        let has = |wanted: &str| self.methods.iter().any(|own| own == wanted);
        self.methods.is_empty() || has(method) || (method == "HEAD" && has("GET"))
    }
}

/// In their order: the first that matches decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules(pub Vec<Rule>);

impl Rules {
    /// What the request asks for; what no rule speaks of asks for a session.
    pub fn decide(&self, method: &str, path: &PlainPath) -> Result<Asks, Doubt> {
        let first = |segments: &[String], folded: bool| {
            self.0.iter().position(|rule| rule.covers(method) && rule.path.matches(segments, folded))
        };
        let found = first(&path.segments, false);
        // `/ADMIN` has no rule of its own, and is `/admin` to a backend that does not tell them apart.
        if found != first(&path.folded, true) {
            return Err(Doubt::Resembles);
        }
        Ok(found.map(|at| self.0[at].asks.clone()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str, methods: &[&str], asks: Asks) -> Rule {
        let methods = methods.iter().map(|method| (*method).to_owned()).collect();
        Rule { path: Pattern::parse(path).unwrap(), methods, asks }
    }

    fn role(name: &str) -> Asks {
        Asks { role: Some(name.into()), ..Asks::default() }
    }

    fn feature(name: &str) -> Asks {
        Asks { feature: Some(name.into()), ..Asks::default() }
    }

    fn rules() -> Rules {
        let public = Asks { public: true, ..Asks::default() };
        Rules(vec![
            rule("/admin/health", &[], public.clone()),
            rule("/admin/*", &[], role("admin")),
            rule("/api/images/*", &["POST"], feature("image.generate")),
            rule("/api/users/*/avatar", &["GET"], feature("avatar")),
            rule("/assets/*", &["GET"], public.clone()),
            rule("/", &[], public),
        ])
    }

    fn decide(method: &str, target: &str) -> Result<Asks, Doubt> {
        rules().decide(method, &PlainPath::read(target)?)
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let public = Asks { public: true, ..Asks::default() };
        for (method, target, expected) in [
            ("GET", "/", public.clone()),
            ("GET", "/?next=/admin", public.clone()),
            ("GET", "/admin/health", public.clone()),
            ("GET", "/admin/health/", public.clone()),
            ("GET", "/admin/health/x", role("admin")),
            ("GET", "/admin", role("admin")),
            ("GET", "/admin/", role("admin")),
            ("DELETE", "/admin/users/7?x=/assets/a", role("admin")),
            ("GET", "/%61dmin/users", role("admin")),
            ("GET", "/adminx", Asks::default()),
            ("POST", "/api/images", feature("image.generate")),
            ("POST", "/api/images/a/b", feature("image.generate")),
            ("GET", "/api/images/a", Asks::default()),
            ("GET", "/api/users/7/avatar", feature("avatar")),
            ("HEAD", "/api/users/7/avatar", feature("avatar")),
            ("GET", "/api/users/7/8/avatar", Asks::default()),
            ("GET", "/api/users/avatar", Asks::default()),
            ("POST", "/assets/app.css", Asks::default()),
            ("GET", "/assets/R%C3%A9sum%C3%A9.css", public),
        ] {
            assert_eq!(decide(method, target), Ok(expected), "{method} {target}");
        }
    }

    #[test]
    fn what_programs_read_in_different_ways_is_refused() {
        for (target, doubt) in [
            ("", Doubt::NotAPath),
            ("admin", Doubt::NotAPath),
            ("https://app.example/admin", Doubt::NotAPath),
            ("*", Doubt::NotAPath),
            ("//admin", Doubt::EmptySegment),
            ("/assets//../admin", Doubt::Dots),
            ("/x//y", Doubt::EmptySegment),
            ("/x//", Doubt::EmptySegment),
            ("//", Doubt::EmptySegment),
            ("/assets/../admin", Doubt::Dots),
            ("/assets/%2e%2E/admin", Doubt::Dots),
            ("/assets/.%2e/admin", Doubt::Dots),
            ("/./admin", Doubt::Dots),
            ("/admin/..", Doubt::Dots),
            ("/assets/..%20/admin", Doubt::Dots),
            ("/.../admin", Doubt::Dots),
            ("/%20/admin", Doubt::Dots),
            ("/assets%2f..%2fadmin", Doubt::HiddenSeparator),
            ("/assets/..%5cadmin", Doubt::HiddenSeparator),
            ("/assets\\..\\admin", Doubt::Character),
            ("/admin%00", Doubt::HiddenSeparator),
            ("/admin%0a", Doubt::HiddenSeparator),
            ("/admin%3Fx", Doubt::HiddenSeparator),
            ("/admin%23x", Doubt::HiddenSeparator),
            ("/admin%3bx/users", Doubt::HiddenSeparator),
            ("/admin;x=1/users", Doubt::Character),
            ("/assets/;/../admin", Doubt::Character),
            ("/admin#x", Doubt::Character),
            ("/ad min", Doubt::Character),
            ("/admin\t", Doubt::Character),
            ("/ädmin", Doubt::Character),
            ("/%61dmin%", Doubt::BrokenEscape),
            ("/admin%4", Doubt::BrokenEscape),
            ("/admin%zz", Doubt::BrokenEscape),
            ("/admin%u0041", Doubt::BrokenEscape),
            ("/%2561dmin", Doubt::EncodedTwice),
            ("/assets/%252e%252e/admin", Doubt::EncodedTwice),
            ("/admin%C0%AF", Doubt::Character),
            ("/admin%FF", Doubt::Character),
            ("/admin%C2%85", Doubt::Character),
            ("/ADMIN/users", Doubt::Resembles),
            ("/Admin", Doubt::Resembles),
            ("/%41dmin", Doubt::Resembles),
            ("/admin./users", Doubt::Resembles),
            ("/admin%20/users", Doubt::Resembles),
            ("/admin/HEALTH", Doubt::Resembles),
            ("/A%C5%BFsets/x", Doubt::Resembles),
        ] {
            assert_eq!(decide("GET", target), Err(doubt), "{target}");
        }
        // A percent sign that stands for itself, and dots that are names.
        for target in ["/sale/100%25", "/a/.well-known/x", "/a/b.c.d", "/a/~x!$&'()+,=:@|^[]"] {
            assert_eq!(decide("GET", target), Ok(Asks::default()), "{target}");
        }
    }

    #[test]
    fn patterns_are_whole_segments() {
        for text in ["/", "/*", "/a", "/a/*", "/a/*/b", "/*/b", "/a.b/c-d_~/:id@,+"] {
            assert!(Pattern::parse(text).is_some(), "{text}");
        }
        for text in [
            "", "a", "*", "//", "/a/", "/a//b", "/a*", "/a/b*", "/**", "/a/../b", "/./a", "/a b", "/é",
            "/a?b", "/%61", "/a;b", "/a#b", "/a\\b", "/{id}",
        ] {
            assert!(Pattern::parse(text).is_none(), "{text}");
        }
    }
}
