//! E-mail addresses as identities: checked, lower-cased, one mailbox each.

/// A checked address in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EmailAddress(String);

impl EmailAddress {
    /// The rule of Better Auth's clients: ASCII, an unquoted local part without dots at its ends or in pairs, and a
    /// domain of at least two labels whose last has two letters or more. Nothing is trimmed.
    pub fn parse(text: &str) -> Option<EmailAddress> {
        let (local, domain) = text.split_once('@')?;
        let local_byte = |b: u8| b.is_ascii_alphanumeric() || b"_'+-.".contains(&b);
        let local_good = !local.is_empty()
            && local.bytes().all(local_byte)
            && !local.starts_with(['.', '\''])
            && !local.contains("..")
            && local.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric() || b"_+-".contains(&b));
        let label_good = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let (_, last) = domain.rsplit_once('.')?;
        let domain_good = domain.len() <= 253
            && domain.split('.').all(label_good)
            && last.len() >= 2
            && last.bytes().all(|b| b.is_ascii_alphabetic() || last.starts_with("xn--"));
        (local_good && domain_good && text.len() <= MAX_LENGTH)
            .then(|| EmailAddress(text.to_ascii_lowercase()))
    }

    /// An address that was checked when it was stored.
    pub fn from_stored(text: String) -> EmailAddress {
        EmailAddress(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Longer than any mailbox that exists, short enough for a key.
const MAX_LENGTH: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ordinary_addresses_are_lower_cased() {
        assert_eq!(
            EmailAddress::parse("Open.One+x@Example.test").unwrap().as_str(),
            "open.one+x@example.test"
        );
        assert!(EmailAddress::parse(&format!("{}@example.test", "a".repeat(200))).is_some());
        assert!(EmailAddress::parse("a_b'c-d@sub.example.co").is_some());
    }

    #[test]
    fn everything_that_may_mean_two_mailboxes_is_refused() {
        let no = [
            "",
            "a",
            "a@b",
            "a@b.c",
            "@example.test",
            "a@",
            "a b@example.test",
            " a@example.test",
            "a@example.test ",
            "a@example.test\n",
            "\"a\"@example.test",
            "a@b@example.test",
            "a,b@example.test",
            "a@example.test,b@example.test",
            "<a@example.test>",
            "ä@example.test",
            "a@exämple.test",
            "a\0@example.test",
            ".a@example.test",
            "a.@example.test",
            "a..b@example.test",
            "a@-example.test",
            "a@example..test",
            "a@[127.0.0.1]",
            "a@127.0.0.1",
            "a＠example.test",
        ];
        for text in no {
            assert_eq!(EmailAddress::parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_is_one_plain_mailbox(text in "\\PC{0,30}") {
            if let Some(address) = EmailAddress::parse(&text) {
                prop_assert_eq!(address.as_str().matches('@').count(), 1);
                prop_assert!(address.as_str().is_ascii());
                prop_assert_eq!(EmailAddress::parse(address.as_str()), Some(address.clone()));
            }
        }
    }
}
