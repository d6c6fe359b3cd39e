//! The words of the mails: built-in templates, replaced one by one by files of the operator's folder.
//!
//! Every mail has a `.txt`, whose first line is `Subject: …`, and a `.html`. Values are escaped in `.html` and never in
//! `.txt`. The values are `app_name`, `url` or `code`, `name` (none when it would not greet), what the mail is about (see
//! [`Message::values`]), and in `.html` the `subject`; another name is an error. All templates are rendered once when
//! they are loaded, so that a mistake is reported at start, with its file and line, and not by a mail that cannot be
//! sent.

use crate::message::{Content, Message};
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// A template is read whole; nobody's mail is longer.
const FILE_LENGTH: u64 = 256 * 1024;
const SUBJECT_LENGTH: usize = 200;

macro_rules! built_in {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("../../../web/mail/", $name)))),*] };
}

const BUILT_IN: &[(&str, &str)] = built_in![
    "layout.html",
    "verify-email.txt",
    "verify-email.html",
    "reset-password.txt",
    "reset-password.html",
    "confirm-email-change.txt",
    "confirm-email-change.html",
    "verify-new-email.txt",
    "verify-new-email.html",
    "delete-account.txt",
    "delete-account.html",
    "address-taken.txt",
    "address-taken.html",
    "invitation.txt",
    "invitation.html",
    "magic-link.txt",
    "magic-link.html",
    "code.txt",
    "code.html",
    "credits-low.txt",
    "credits-low.html",
    "credits-ending.txt",
    "credits-ending.html",
    "top-up-off.txt",
    "top-up-off.html",
];

/// What is wrong with a template, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateProblem {
    pub file: String,
    pub line: Option<usize>,
    pub what: String,
}

impl fmt::Display for TemplateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.what),
            None => write!(f, "{}: {}", self.file, self.what),
        }
    }
}

/// A mail's parts, ready to be sent or shown. No `Debug`: they hold the link.
pub struct Rendered {
    pub subject: String,
    pub text: String,
    pub html: String,
}

pub struct Templates {
    environment: Environment<'static>,
    app_name: String,
    /// Where each template came from, for messages.
    files: BTreeMap<String, String>,
}

impl Templates {
    /// The built-in templates with the files of `folder` in their place. Other `.txt` and `.html` files there can be
    /// included or extended.
    pub fn load(app_name: &str, folder: Option<&Path>) -> Result<Templates, Vec<TemplateProblem>> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|name| {
            if name.ends_with(".html") { AutoEscape::Html } else { AutoEscape::None }
        });
        let mut problems = Vec::new();
        let mut sources: BTreeMap<String, (String, String)> = BUILT_IN
            .iter()
            .map(|&(name, text)| (name.to_string(), (format!("built-in {name}"), text.to_string())))
            .collect();
        match folder.map(read_folder) {
            Some(Ok(found)) => sources.extend(found),
            Some(Err(problem)) => problems.push(problem),
            None => {}
        }
        let files = sources.iter().map(|(name, (file, _))| (name.clone(), file.clone())).collect();
        let mut templates = Templates { environment, app_name: one_line(app_name), files };
        for (name, (_, source)) in sources {
            if let Err(error) = templates.environment.add_template_owned(name.clone(), source) {
                problems.push(templates.problem(&name, &error));
            }
        }
        if problems.is_empty() {
            problems = templates.try_all();
        }
        if problems.is_empty() { Ok(templates) } else { Err(problems) }
    }

    /// `name` greets the recipient, when there is one.
    pub fn render(&self, message: &Message, name: Option<&str>) -> Result<Rendered, TemplateProblem> {
        let text_name = format!("{}.txt", message.template());
        let html_name = format!("{}.html", message.template());
        let mut values: BTreeMap<&str, Value> = BTreeMap::new();
        values.insert("app_name", Value::from(self.app_name.as_str()));
        values.insert("name", name.map_or(Value::from(()), Value::from));
        match message.content() {
            Content::Link(url) => values.insert("url", Value::from(url.as_str())),
            Content::Code(code) => values.insert("code", Value::from(code.as_str())),
        };
        values.extend(message.values().into_iter().map(|(name, value)| (name, Value::from(value))));
        let written = self.render_one(&text_name, &values)?;
        let (subject, text) = split_subject(&written).ok_or_else(|| {
            self.found(&text_name, Some(1), "the first line must be `Subject: …`, with a blank line after it")
        })?;
        values.insert("subject", Value::from(subject.as_str()));
        // The engine's own escaping also writes `/` as an entity, which readers that only look for links do not undo.
        if let Content::Link(url) = message.content() {
            values.insert("url", Value::from_safe_string(escape_url(url.as_str())));
        }
        let html = self.render_one(&html_name, &values)?;
        Ok(Rendered { subject, text, html })
    }

    fn render_one(&self, name: &str, values: &BTreeMap<&str, Value>) -> Result<String, TemplateProblem> {
        let template = self.environment.get_template(name).map_err(|error| self.problem(name, &error))?;
        template.render(Value::from(values.clone())).map_err(|error| self.problem(name, &error))
    }

    /// Renders everything with sample values.
    fn try_all(&self) -> Vec<TemplateProblem> {
        let mut problems = Vec::new();
        let mut seen = BTreeSet::new();
        for message in Message::samples() {
            for name in [None, Some("Ada")] {
                let found = match self.render(&message, name) {
                    Ok(rendered) => self.check(&message, &rendered),
                    Err(problem) => vec![problem],
                };
                problems.extend(found.into_iter().filter(|problem| seen.insert(problem.to_string())));
            }
        }
        problems
    }

    fn check(&self, message: &Message, rendered: &Rendered) -> Vec<TemplateProblem> {
        let mut problems = Vec::new();
        let (text, html) = (format!("{}.txt", message.template()), format!("{}.html", message.template()));
        match message.content() {
            Content::Link(url) => {
                if links_in(&rendered.text) != [url.as_str()] {
                    let what = "the text must hold one link and no other: `{{ url }}`, on a line of its own";
                    problems.push(self.found(&text, None, what));
                }
                if first_target(&rendered.html) != Some(escape_url(url.as_str()).as_str()) {
                    problems.push(self.found(&html, None, "the first link must be `<a href=\"{{ url }}\">`"));
                }
            }
            Content::Code(code) => {
                if first_code(&rendered.text) != Some(code.as_str()) {
                    problems.push(self.found(
                        &text,
                        None,
                        "the first number of six digits must be `{{ code }}`",
                    ));
                }
                if !rendered.html.contains(code.as_str()) {
                    problems.push(self.found(&html, None, "it must show `{{ code }}`"));
                }
            }
        }
        problems
    }

    fn problem(&self, name: &str, error: &minijinja::Error) -> TemplateProblem {
        // The innermost error names the file that is wrong when one template extends or includes another.
        let mut innermost = error;
        while let Some(inner) = std::error::Error::source(innermost).and_then(|e| e.downcast_ref()) {
            innermost = inner;
        }
        let name = innermost.name().or(error.name()).unwrap_or(name).to_string();
        let what = match innermost.detail() {
            Some(detail) => format!("{}: {detail}", innermost.kind()),
            None => innermost.kind().to_string(),
        };
        self.found(&name, innermost.line(), &what)
    }

    fn found(&self, name: &str, line: Option<usize>, what: &str) -> TemplateProblem {
        let file = self.files.get(name).cloned().unwrap_or_else(|| name.to_string());
        TemplateProblem { file, line, what: what.to_string() }
    }
}

type Source = (String, (String, String));

fn read_folder(folder: &Path) -> Result<Vec<Source>, TemplateProblem> {
    let unreadable = |path: &Path, what: String| TemplateProblem {
        file: path.display().to_string(),
        line: None,
        what: format!("cannot be read: {what}"),
    };
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, error.to_string()))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if !path.is_file() || !(name.ends_with(".txt") || name.ends_with(".html")) {
            continue;
        }
        let length = path.metadata().map_or(0, |data| data.len());
        if length > FILE_LENGTH {
            return Err(unreadable(&path, format!("it is longer than {FILE_LENGTH} bytes")));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error.to_string()))?;
        found.push((name.to_string(), (path.display().to_string(), text)));
    }
    Ok(found)
}

/// The subject from the first line, and the rest.
fn split_subject(written: &str) -> Option<(String, String)> {
    let (first, rest) = written.split_once('\n')?;
    let subject = one_line(first.strip_prefix("Subject:")?);
    let rest = rest.strip_prefix("\r\n").or_else(|| rest.strip_prefix('\n'))?;
    let body = format!("{}\n", rest.trim_end());
    (!subject.is_empty() && subject.len() <= SUBJECT_LENGTH).then_some((subject, body))
}

/// One line without control characters: what becomes a header cannot begin a second one.
fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A link holds no angle brackets and no double quotes (see [`crate::Link`]).
fn escape_url(url: &str) -> String {
    url.replace('&', "&amp;").replace('\'', "&#39;")
}

/// Every `http://` and `https://` address in a plain text, in order.
pub fn links_in(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("http") {
        rest = &rest[start..];
        let end = rest.find(|c: char| c.is_whitespace() || "<>\"".contains(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        if word.starts_with("http://") || word.starts_with("https://") {
            links.push(word.to_string());
            rest = &rest[end..];
        } else {
            rest = &rest["http".len()..];
        }
    }
    links
}

/// The first number of six digits in a plain text: what a mail with a code is about.
pub fn first_code(text: &str) -> Option<&str> {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.find(|word| word.len() == 6 && word.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Where the first link of an HTML text leads, as it is written there.
fn first_target(html: &str) -> Option<&str> {
    let (_, after) = html.split_once("href=")?;
    let quote = after.chars().next().filter(|c| "\"'".contains(*c))?;
    after[1..].split(quote).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Address;
    use crate::message::Link;

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let place = format!("{}/", folder.path().display());
        match Templates::load("My app", Some(folder.path())) {
            Ok(_) => Vec::new(),
            Err(found) => found.iter().map(|problem| problem.to_string().replace(&place, "")).collect(),
        }
    }

    #[test]
    fn every_mail_reads_as_recorded_with_and_without_a_name() {
        let templates = Templates::load("My app", None).unwrap();
        for message in Message::samples() {
            for (state, name) in [("named", Some("Ada & Söhne")), ("nameless", None)] {
                let mail = templates.render(&message, name).unwrap();
                let whole = format!("{}\n=== text\n{}=== html\n{}", mail.subject, mail.text, mail.html);
                let about = match &message {
                    Message::Code { purpose, .. } => format!("code-{}", purpose.name()),
                    message => message.template().to_string(),
                };
                insta::assert_snapshot!(format!("{about}-{state}"), whole);
            }
        }
    }

    #[test]
    fn the_first_link_of_both_parts_is_the_mails_link_and_the_text_has_no_other() {
        let templates = Templates::load("My app", None).unwrap();
        let url =
            Link::parse("https://app.example.com/x?token=a'b&callbackURL=https%3A%2F%2Fa.test").unwrap();
        let mail = templates.render(&Message::ResetPassword { url: url.clone() }, None).unwrap();
        assert_eq!(links_in(&mail.text), [url.as_str()]);
        assert!(mail.text.lines().any(|line| line == url.as_str()));
        let target = first_target(&mail.html).unwrap();
        assert_eq!(target.replace("&amp;", "&").replace("&#39;", "'"), url.as_str());
    }

    #[test]
    fn values_are_escaped_in_html_and_never_in_text() {
        let templates = Templates::load("Tom & <Jerry>", None).unwrap();
        let message = Message::ConfirmEmailChange {
            new_email: Address::parse("o'neil@example.com").unwrap(),
            url: Link::parse("https://app.example.com/?a=1&b=2").unwrap(),
        };
        let mail = templates.render(&message, Some("<b>Ada</b>")).unwrap();
        assert!(mail.subject.contains("Tom & <Jerry>"));
        assert!(mail.text.contains("<b>Ada</b>") && mail.text.contains("o'neil@example.com"));
        assert!(mail.text.contains("?a=1&b=2"));
        assert!(
            !mail.html.contains("<b>") && !mail.html.contains("<Jerry>") && !mail.html.contains("o'neil")
        );
        assert!(mail.html.contains("href=\"https://app.example.com/?a=1&amp;b=2\""));
    }

    #[test]
    fn a_folders_file_replaces_the_built_in_one_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let own = "Subject: Neues Passwort für {{ app_name }}\n\n{% include \"hello.txt\" %}\n\n{{ url }}\n";
        std::fs::write(folder.path().join("reset-password.txt"), own).unwrap();
        std::fs::write(folder.path().join("hello.txt"), "Guten Tag {{ name or 'allerseits' }}").unwrap();
        std::fs::write(folder.path().join("README.md"), "{{ not a template").unwrap();
        let templates = Templates::load("My app", Some(folder.path())).unwrap();
        let samples = Message::samples();
        let mail = templates.render(&samples[1], None).unwrap();
        assert_eq!(mail.subject, "Neues Passwort für My app");
        assert!(mail.text.starts_with("Guten Tag allerseits"));
        assert!(templates.render(&samples[0], None).unwrap().text.starts_with("Hello,"));
    }

    #[test]
    fn mistakes_are_reported_with_file_and_line() {
        assert_eq!(
            problems(&[("verify-email.txt", "Subject: x\n\n{{ url }}\n{% if %}\n")]),
            ["verify-email.txt:4: syntax error: unexpected end of block"],
        );
        assert_eq!(
            problems(&[("verify-email.txt", "Subject: x\n\n{{ url }}\n\n{{ usr }}\n")]),
            ["verify-email.txt:5: undefined value"],
        );
        let layout = "<html>\n{% block body %}{% endblock %}\n{{ nothing }}<a href=\"{{ url }}\">x</a>";
        assert_eq!(problems(&[("layout.html", layout)]), ["layout.html:3: undefined value"]);
        assert_eq!(
            problems(&[("address-taken.txt", "Hello\n\n{{ url }}\n")]),
            ["address-taken.txt:1: the first line must be `Subject: …`, with a blank line after it"],
        );
    }

    #[test]
    fn templates_whose_first_link_is_another_are_refused() {
        let text = "Subject: x\n\nSee https://example.com/help or\n{{ url }}\n";
        assert_eq!(problems(&[("verify-email.txt", text)]).len(), 1);
        let html = "<a href=\"https://example.com/help\">help</a> <a href=\"{{ url }}\">go</a>";
        assert_eq!(problems(&[("verify-email.html", html)]).len(), 1);
        assert_eq!(problems(&[("verify-email.html", "<a href='{{ url }}'>go</a>")]), [""; 0]);
    }

    #[test]
    fn an_app_name_cannot_begin_a_second_header() {
        let templates = Templates::load("My\r\nBcc: x@evil.test", None).unwrap();
        let mail = templates.render(&Message::samples()[0], None).unwrap();
        assert!(!mail.subject.contains(['\r', '\n']));
    }

    #[test]
    fn a_folder_that_is_missing_is_a_problem() {
        assert!(Templates::load("x", Some(Path::new("/nonexistent/folder"))).is_err());
    }
}
