//! Reads HTTP/1.1 answers, and no more of them than a load generator needs: it shares the cores with the server, so
//! every microsecond spent here is taken from what is measured.

use std::borrow::Cow;

/// More than this is no answer of an auth server.
const LARGEST: usize = 1024 * 1024;

#[derive(Debug, PartialEq)]
pub struct Answer<'a> {
    pub status: u16,
    /// Status line and header lines, without the empty line.
    pub head: &'a [u8],
    pub body: Cow<'a, [u8]>,
    /// Bytes that the whole answer takes.
    pub length: usize,
    /// The server closes the connection after it.
    pub closes: bool,
}

/// `None` when the bytes end before the answer does.
pub fn parse(bytes: &[u8]) -> Result<Option<Answer<'_>>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return within_bounds(bytes);
    };
    let head = &bytes[..end];
    let status = head
        .strip_prefix(b"HTTP/1.1 ")
        .and_then(|rest| std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok())
        .ok_or_else(|| format!("not an HTTP/1.1 answer: {}", shown(head)))?;
    let closes = header(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    let from = end + 4;
    if header(head, "transfer-encoding").is_some() {
        return match unchunk(&bytes[from..])? {
            Some((body, length)) => Ok(Some(Answer { status, head, body, length: from + length, closes })),
            None => within_bounds(bytes),
        };
    }
    let length: usize = header(head, "content-length")
        .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok())
        .ok_or_else(|| format!("an answer without a length: {}", shown(head)))?;
    match bytes.get(from..from + length) {
        Some(body) => {
            Ok(Some(Answer { status, head, body: Cow::Borrowed(body), length: from + length, closes }))
        }
        None => within_bounds(bytes),
    }
}

/// The first header line of that name.
pub fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').skip(1).find_map(|line| {
        let (found, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        found.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// A body and how many bytes its chunks took.
type Unchunked<'a> = (Cow<'a, [u8]>, usize);

fn unchunk(bytes: &[u8]) -> Result<Option<Unchunked<'_>>, String> {
    let mut body = Cow::Borrowed(&bytes[..0]);
    let mut at = 0;
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&bytes[at..at + line]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size.split(';').next()?.trim(), 16).ok());
        let size = size.ok_or("a chunk without a size")?;
        let from = at + line + 2;
        let Some(chunk) = bytes.get(from..from + size + 2) else { return Ok(None) };
        at = from + size + 2;
        if size == 0 {
            return Ok(Some((body, at)));
        }
        if body.is_empty() {
            body = Cow::Borrowed(&chunk[..size]);
        } else {
            body.to_mut().extend_from_slice(&chunk[..size]);
        }
    }
}

fn within_bounds(bytes: &[u8]) -> Result<Option<Answer<'_>>, String> {
    if bytes.len() > LARGEST { Err("an answer without an end".into()) } else { Ok(None) }
}

pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// The beginning, for an error message.
pub fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Answer<'_> {
        parse(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn counted_and_chunked_bodies_read_the_same() {
        let counted = whole("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        let chunked =
            whole("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n");
        assert_eq!(counted.body, chunked.body);
        assert_eq!((counted.status, counted.length, counted.closes), (200, 43, false));
        assert_eq!(chunked.length, 67);
    }

    #[test]
    fn every_cut_of_an_answer_is_incomplete() {
        let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        for cut in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(&*whole(text).body, b"hello");
    }

    #[test]
    fn headers_are_found_whatever_their_case() {
        let answer =
            whole("HTTP/1.1 503 Busy\r\nRETRY-AFTER:  2 \r\nConnection: close\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(header(answer.head, "Retry-After"), Some(&b"2"[..]));
        assert_eq!(header(answer.head, "retry"), None);
        assert!(answer.closes);
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        assert!(parse(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n").is_err());
    }
}
