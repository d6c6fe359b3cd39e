//! A received mail, decoded to what its reader sees.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

#[derive(Debug, Clone)]
pub struct Mail {
    /// The envelope: who gets it, whatever the headers say.
    pub from: String,
    pub to: Vec<String>,
    pub headers: Vec<(String, String)>,
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone)]
pub struct Part {
    pub content_type: String,
    pub text: String,
}

impl Mail {
    pub fn read(from: String, to: Vec<String>, data: &[u8]) -> Mail {
        let mut parts = Vec::new();
        let headers = read_entity(data, &mut parts);
        Mail { from, to, headers, parts }
    }

    pub fn header(&self, name: &str) -> Option<String> {
        find(&self.headers, name).map(decode_words)
    }

    pub fn subject(&self) -> String {
        self.header("Subject").unwrap_or_default()
    }

    /// The plain text part.
    pub fn text(&self) -> &str {
        self.part("text/plain")
    }

    pub fn html(&self) -> &str {
        self.part("text/html")
    }

    fn part(&self, content_type: &str) -> &str {
        let part = self.parts.iter().find(|part| part.content_type.starts_with(content_type));
        part.map_or("", |part| part.text.as_str())
    }

    /// The links of the plain text part, in order.
    pub fn links(&self) -> Vec<String> {
        words(self.text()).filter(|word| is_link(word)).map(str::to_owned).collect()
    }

    /// The first link; fails the test when there is none.
    #[track_caller]
    pub fn link(&self) -> String {
        self.links().into_iter().next().unwrap_or_else(|| panic!("no link in {:?}", self.text()))
    }

    /// Numbers of six to eight digits that stand alone in the plain text part.
    pub fn codes(&self) -> Vec<String> {
        let numbers = words(self.text())
            .filter(|word| !is_link(word))
            .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
            .filter(|word| (6..=8).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit()));
        numbers.map(str::to_owned).collect()
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '(' | ')'))
        .filter(|word| !word.is_empty())
}

fn is_link(word: &str) -> bool {
    word.starts_with("http://") || word.starts_with("https://")
}

/// Takes one MIME entity apart, adding its readable parts; returns its headers.
fn read_entity(data: &[u8], parts: &mut Vec<Part>) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(data);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let headers = read_headers(head);
    let content_type = find(&headers, "Content-Type").unwrap_or("text/plain").to_owned();
    match boundary(&content_type) {
        Some(boundary) => {
            let marker = format!("--{boundary}");
            // Before the first marker stands a word for old readers; what follows `--boundary--` does not count.
            for piece in format!("\r\n{body}").split(&format!("\r\n{marker}")).skip(1) {
                if piece.starts_with("--") {
                    break;
                }
                read_entity(piece.strip_prefix("\r\n").unwrap_or(piece).as_bytes(), parts);
            }
        }
        None => {
            let coding = find(&headers, "Content-Transfer-Encoding").unwrap_or("7bit").to_ascii_lowercase();
            let bytes = match coding.trim() {
                "base64" => decode_base64(body),
                "quoted-printable" => decode_quoted(body),
                _ => body.as_bytes().to_vec(),
            };
            let text = String::from_utf8_lossy(&bytes).into_owned();
            parts.push(Part { content_type: content_type.to_ascii_lowercase(), text });
        }
    }
    headers
}

fn read_headers(head: &str) -> Vec<(String, String)> {
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let pairs = unfolded.split("\r\n").filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
}

fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn boundary(content_type: &str) -> Option<String> {
    if !content_type.to_ascii_lowercase().starts_with("multipart/") {
        return None;
    }
    let value = content_type.split(';').find_map(|part| part.trim().strip_prefix("boundary="))?;
    Some(value.trim_matches('"').to_owned())
}

fn decode_base64(text: &str) -> Vec<u8> {
    let dense: String = text.split_whitespace().collect();
    STANDARD.decode(&dense).unwrap_or_else(|error| panic!("a mail part is not base64 ({error}): {dense}"))
}

fn decode_quoted(text: &str) -> Vec<u8> {
    let joined = text.replace("=\r\n", "");
    let mut bytes = Vec::with_capacity(joined.len());
    let mut rest = joined.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = (*first == b'=').then(|| tail.get(..2)).flatten();
        let escaped =
            escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    bytes
}

/// `=?utf-8?b?…?=` and `=?utf-8?q?…?=` in headers (RFC 2047).
fn decode_words(value: &str) -> String {
    let mut decoded = String::new();
    let mut rest = value;
    while let Some((before, word)) = rest.split_once("=?") {
        let mut fields = word.splitn(3, '?');
        let (Some(_charset), Some(coding), Some(tail)) = (fields.next(), fields.next(), fields.next()) else {
            break;
        };
        let Some((text, after)) = tail.split_once("?=") else { break };
        // The space between two encoded words is no part of the text.
        if !before.trim().is_empty() || decoded.is_empty() {
            decoded.push_str(before);
        }
        let bytes = match coding {
            "b" | "B" => decode_base64(text),
            _ => decode_quoted(&text.replace('_', " ")),
        };
        decoded.push_str(&String::from_utf8_lossy(&bytes));
        rest = after;
    }
    decoded + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const MULTIPART: &str = "From: a@x.example\r\nSubject: =?utf-8?b?w5xiZXI=?=\r\n =?utf-8?q?_uns=21?=\r\n\
        Content-Type: multipart/alternative;\r\n boundary=\"b1\"\r\n\r\n--b1\r\n\
        Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        Gr=C3=BC=C3=9Fe: your code is 482913.\r\nhttps://app.example/verify?token=3Dab=\r\ncd12345678&x=3D1\r\n\r\n--b1\r\n\
        Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+aGk8\r\nL2I+\r\n--b1--\r\n";

    #[test]
    fn parts_subject_links_and_codes_are_decoded() {
        let mail = Mail::read("a@x.example".into(), vec!["b@x.example".into()], MULTIPART.as_bytes());
        assert_eq!(mail.subject(), "Über uns!");
        assert!(mail.text().starts_with("Grüße"), "{mail:?}");
        assert_eq!(mail.link(), "https://app.example/verify?token=abcd12345678&x=1");
        assert_eq!(mail.codes(), ["482913"]);
        assert_eq!(mail.html(), "<b>hi</b>");
    }

    #[test]
    fn a_plain_mail_has_one_part() {
        let mail = Mail::read(String::new(), Vec::new(), b"Subject: Hi\r\n\r\nHello.\r\n");
        assert_eq!((mail.subject().as_str(), mail.text()), ("Hi", "Hello.\r\n"));
    }
}
