//! A rendered mail as the bytes that travel: headers, and a text and an HTML part of equal meaning.

use crate::address::{Address, Sender};
use crate::templates::Rendered;
use kernel::Millis;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use std::time::{Duration, UNIX_EPOCH};

/// `id` is the row's id, so that a mail that is sent a second time after a crash carries the same Message-ID and
/// mailboxes can tell.
pub(crate) fn compose(
    id: &str,
    from: &Sender,
    to: &Address,
    mail: Rendered,
    now: Millis,
) -> Result<Vec<u8>, String> {
    let date = UNIX_EPOCH + Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
    let message = lettre::Message::builder()
        .message_id(Some(format!("<{id}@{}>", from.address.domain())))
        .date(date)
        .from(Mailbox::new(from.name.clone(), from.address.to_lettre()))
        .to(Mailbox::new(None, to.to_lettre()))
        .subject(mail.subject)
        // RFC 3834: holiday notices and other answering machines stay silent.
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_string(),
        ))
        .multipart(MultiPart::alternative_plain_html(mail.text, mail.html))
        .map_err(|error| format!("the mail could not be put together: {error}"))?;
    let bytes = message.formatted();
    debug_assert!(bytes.is_ascii(), "parts are encoded, so that no server needs 8BITMIME");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn composed(to: &str, subject: &str, text: &str) -> String {
        let mail = Rendered { subject: subject.into(), text: text.into(), html: "<p>hi</p>".into() };
        let from = Sender::parse("Grüße, GmbH <no-reply@example.com>").unwrap();
        let bytes = compose("abc", &from, &Address::parse(to).unwrap(), mail, Millis(1_795_212_345_678));
        String::from_utf8(bytes.unwrap()).unwrap()
    }

    #[test]
    fn headers_say_who_when_and_that_no_person_wrote_it() {
        let mail = composed("a@example.com", "Hello", "text\nhttps://app.example.com/?token=a&b=c\n");
        let head = mail.split("\r\n\r\n").next().unwrap();
        for line in [
            "Message-ID: <abc@example.com>",
            "Date: Fri, 20 Nov 2026 22:05:45 +0000",
            "To: a@example.com",
            "Subject: Hello",
            "Auto-Submitted: auto-generated",
            "MIME-Version: 1.0",
        ] {
            assert!(head.lines().any(|found| found == line), "{line} in {head}");
        }
        assert!(head.contains("Content-Type: multipart/alternative;"), "{head}");
        assert!(head.contains("From: ") && head.contains("<no-reply@example.com>"));
        // A plain text part stays as it is: no encoding breaks the link in two.
        assert!(mail.contains("\r\nhttps://app.example.com/?token=a&b=c\r\n"), "{mail}");
        assert!(mail.find("text/plain").unwrap() < mail.find("text/html").unwrap());
    }

    proptest! {
        #[test]
        fn no_subject_and_no_recipient_adds_a_header(
            subject in "\\PC{0,80}|[a-zA-Z: \r\n\t]{0,40}",
            to in "[a-z+]{1,20}@[a-z]{1,8}\\.(com|co,a@b\\.de|com\r\nBcc: a@b\\.de|com)",
        ) {
            if Address::parse(&to).is_err() {
                return Ok(());
            }
            let mail = composed(&to, &subject, "text");
            let head = mail.split("\r\n\r\n").next().unwrap();
            let names: Vec<&str> = head.split("\r\n").filter(|line| !line.starts_with([' ', '\t'])).map(|line| line.split(':').next().unwrap()).collect();
            prop_assert_eq!(names, ["Message-ID", "Date", "From", "To", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type"]);
            let expected = format!("\r\nTo: {to}\r\n");
            prop_assert!(head.contains(&expected));
        }
    }
}
