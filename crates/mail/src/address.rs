//! Addresses that mean one mailbox: whatever could be read as two recipients, a route or a header is no [`Address`].
//!
//! The mail library's own parser accepts quoted local parts and address literals; attackers have used both, as well as
//! commas, to have a link sent to a second mailbox. Nothing reaches SMTP here that did not pass [`Address::parse`].

use serde::{Deserialize, Serialize};

/// RFC 5321, section 4.5.3.1: the local part, and a path without its angle brackets.
const LOCAL_LENGTH: usize = 64;
const LENGTH: usize = 254;
const LABEL_LENGTH: usize = 63;
const NAME_LENGTH: usize = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("the address is empty or longer than mail servers take")]
    Length,
    #[error("the address needs exactly one @")]
    At,
    #[error("the part before the @ may only hold letters, digits and _ ' + - . with single dots inside")]
    Local,
    #[error("the part after the @ must be a domain such as example.com")]
    Domain,
}

/// One mailbox: ASCII, an unquoted local part, a domain of two labels or more.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    text: String,
    at: usize,
}

impl Address {
    /// Takes the text as it is: nothing is trimmed, folded or normalised, so that the address which was checked is the
    /// address which is used.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        if text.is_empty() || text.len() > LENGTH {
            return Err(AddressError::Length);
        }
        let (local, domain) = text.split_once('@').ok_or(AddressError::At)?;
        if domain.contains('@') {
            return Err(AddressError::At);
        }
        if !is_local_part(local) {
            return Err(AddressError::Local);
        }
        if !is_domain(domain) {
            return Err(AddressError::Domain);
        }
        Ok(Address { text: text.to_string(), at: local.len() })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }

    pub(crate) fn to_lettre(&self) -> lettre::Address {
        // The library's own rules are looser in form and stricter in length; ours were applied when this was made.
        lettre::Address::new_dangerous(&self.text[..self.at], self.domain())
    }
}

/// `%` and `!` are left out on purpose: old relays read them as a route to somebody else.
fn is_local_part(text: &str) -> bool {
    text.len() <= LOCAL_LENGTH
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_'+-.".contains(&byte))
        && text.split('.').all(|atom| !atom.is_empty())
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_LENGTH).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits is an IP address, not a domain.
    let top_level = text.rsplit_once('.').map(|(_, last)| last);
    text.split('.').all(is_label)
        && top_level
            .is_some_and(|last| last.len() >= 2 && last.bytes().any(|byte| byte.is_ascii_alphabetic()))
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Address, AddressError> {
        Address::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.text
    }
}

/// Whom a mail is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    pub(crate) address: Address,
    pub(crate) name: Option<String>,
}

impl Recipient {
    /// `name` is what the user gave at sign-up, with anybody's address: it greets only if it cannot carry a message of
    /// the sender's own, see [`greeting_name`].
    pub fn new(address: Address, name: &str) -> Recipient {
        Recipient { address, name: greeting_name(name) }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// A name fit for "Hello …", or nothing. Whoever signs up with somebody else's address chooses these words: links, or
/// what mail programs turn into links, and text that hides or reorders other text are not repeated to the recipient.
fn greeting_name(name: &str) -> Option<String> {
    let words: Vec<&str> = name.split_whitespace().collect();
    let name = words.join(" ");
    let is_plain = |c: char| {
        !c.is_control()
            && !"/\\:@<>\"|{}[]`".contains(c)
            // Full stops of other scripts work in domains, too.
            && !"\u{3002}\u{ff0e}\u{ff61}\u{2024}\u{ff20}\u{ff0f}\u{ff1a}".contains(c)
            // Invisible characters and those that turn the direction of writing.
            && !matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffd}')
    };
    let is_domain_like = || {
        let next = name.chars().skip(1);
        name.chars().zip(next).any(|(dot, next)| dot == '.' && next.is_alphanumeric())
    };
    let good = !name.is_empty()
        && name.chars().count() <= NAME_LENGTH
        && name.chars().all(is_plain)
        && !is_domain_like();
    good.then_some(name)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SenderError {
    #[error("write an address, or a name and an address such as My app <no-reply@example.com>")]
    Form,
    #[error("the sender's name holds characters that do not belong in a header, or is too long")]
    Name,
    #[error("{0}")]
    Address(#[from] AddressError),
}

/// Whom mails come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    pub(crate) name: Option<String>,
    pub(crate) address: Address,
}

impl Sender {
    /// Reads `no-reply@example.com` or `My app <no-reply@example.com>`; the name may stand in quotes.
    pub fn parse(text: &str) -> Result<Sender, SenderError> {
        let text = text.trim_matches(' ');
        let Some((name, rest)) = text.split_once('<') else {
            return Ok(Sender { name: None, address: Address::parse(text)? });
        };
        let address = Address::parse(rest.strip_suffix('>').ok_or(SenderError::Form)?)?;
        let name = name.trim_matches(' ');
        let name = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
        if name.chars().any(|c| c.is_control() || "<>\"\\\u{2028}\u{2029}".contains(c)) || name.len() > 128 {
            return Err(SenderError::Name);
        }
        Ok(Sender { name: (!name.is_empty()).then(|| name.to_string()), address })
    }

    pub fn address(&self) -> &Address {
        &self.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn everyday_addresses_are_taken_as_they_are() {
        let longest = format!("{}@example.com", "a".repeat(64));
        for text in ["a@b.co", "Ada.Lovelace+x@Example.com", "o'neil_1-2@sub.example.xn--p1ai", &longest] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.as_str(), text);
        }
        assert_eq!(Address::parse("a@sub.example.com").unwrap().domain(), "sub.example.com");
    }

    #[test]
    fn whatever_may_mean_a_second_mailbox_is_refused() {
        for text in [
            "a@example.com,b@example.com",
            "a@example.com;b@example.com",
            "a@example.com b@example.com",
            "a@example.com\r\nRCPT TO:<b@example.com>",
            "a@example.com\n",
            " a@example.com",
            "a@example.com\0",
            "\"a b\"@example.com",
            "\"a@evil.test\"@example.com",
            "a@b@example.com",
            "b%evil.test@example.com",
            "evil.test!b@example.com",
            "<a@example.com>",
            "Ada <a@example.com>",
            "a(comment)@example.com",
            "a@example.com(comment)",
            "a\u{ff20}example.com",
            "a\u{ff20}b@example.com",
            "ä@example.com",
            "a@exämple.com",
            "a@[127.0.0.1]",
            "a@127.0.0.1",
            "a@localhost",
            "a@example.com.",
            "a@.example.com",
            "a@example..com",
            "a@-example.com",
            "a@example.c",
            ".a@example.com",
            "a.@example.com",
            "a..b@example.com",
            "@example.com",
            "a@",
            "",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
        assert!(Address::parse(&format!("{}@example.com", "a".repeat(65))).is_err());
        assert!(Address::parse(&format!("a@{}com", "abcdefgh.".repeat(28))).is_err());
    }

    #[test]
    fn a_name_that_carries_a_message_does_not_greet() {
        let greets = |name: &str| greeting_name(name);
        assert_eq!(greets("  Ada\tLovelace "), Some("Ada Lovelace".into()));
        assert_eq!(greets("José Ñandú"), Some("José Ñandú".into()));
        assert_eq!(greets("Ms. O'Neil & Sons"), Some("Ms. O'Neil & Sons".into()));
        for name in [
            "",
            " ",
            "win at http://evil.test",
            "evil.test",
            "see www.evil.test now",
            "evil\u{3002}test",
            "mail a@evil.test",
            "<b>x</b>",
            "\u{202e}ada",
            "a\u{0}b",
            &"x".repeat(61),
        ] {
            assert_eq!(greets(name), None, "{name:?}");
        }
    }

    #[test]
    fn senders_are_read_with_and_without_a_name() {
        let read = |text: &str| Sender::parse(text).map(|s| (s.name, String::from(s.address)));
        assert_eq!(read("a@example.com"), Ok((None, "a@example.com".into())));
        assert_eq!(read("My app <a@example.com>"), Ok((Some("My app".into()), "a@example.com".into())));
        assert_eq!(read("\"My, app\" <a@example.com>"), Ok((Some("My, app".into()), "a@example.com".into())));
        assert_eq!(read("My app <a@example.com"), Err(SenderError::Form));
        assert_eq!(read("My\r\nBcc: x <a@example.com>"), Err(SenderError::Name));
        assert_eq!(read("A <a@example.com>, B <b@example.com>"), Err(SenderError::Address(AddressError::At)));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_is_one_plain_mailbox(text in "[a-c@.,;<>\"'%!()\\[\\] \r\n\\\\ä＠-]{0,24}|\\PC{0,24}|[a-z.+]{1,8}@[a-z.]{1,12}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(address.as_str(), &text);
                prop_assert_eq!(text.matches('@').count(), 1);
                prop_assert!(text.bytes().all(|b| b.is_ascii_graphic() && !b",;:<>()[]\\\"%!`".contains(&b)));
                prop_assert!(address.domain().contains('.'));
            }
        }

        #[test]
        fn any_name_is_dropped_or_stays_on_one_line_without_links(name in "\\PC{0,20}|[a-z.:/@ \r\n]{0,20}") {
            if let Some(name) = greeting_name(&name) {
                prop_assert!(!name.chars().any(char::is_control));
                prop_assert!(crate::links_in(&name).is_empty() && !name.contains("://"));
            }
        }
    }
}
