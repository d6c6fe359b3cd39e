//! What mails there are and what each carries.

use crate::address::Address;
use serde::{Deserialize, Serialize};
use std::fmt;

const LINK_LENGTH: usize = 4_096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a mailed link must be an absolute http or https address of printable ASCII characters")]
pub struct LinkError;

/// The one link of a mail. It usually holds a token, so that `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Link(String);

impl Link {
    /// Takes the text as it is. Built from the configured base URL, never from a request's `Host`.
    pub fn parse(text: &str) -> Result<Link, LinkError> {
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte));
        let url = url::Url::parse(text).map_err(|_| LinkError)?;
        let good = printable
            && text.len() <= LINK_LENGTH
            && (text.starts_with("http://") || text.starts_with("https://"))
            && url.host().is_some()
            && url.username().is_empty()
            && url.password().is_none();
        good.then(|| Link(text.to_string())).ok_or(LinkError)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl TryFrom<String> for Link {
    type Error = LinkError;

    fn try_from(text: String) -> Result<Link, LinkError> {
        Link::parse(&text)
    }
}

impl From<Link> for String {
    fn from(link: Link) -> String {
        link.0
    }
}

/// The code of a mail that people type. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code(String);

impl Code {
    pub fn new(code: String) -> Code {
        Code(code)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What a mailed code is for; its template says it in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodeUse {
    SignIn,
    VerifyEmail,
    ResetPassword,
    ChangeEmail,
    SecondFactor,
}

impl CodeUse {
    const ALL: [CodeUse; 5] = [
        CodeUse::SignIn,
        CodeUse::VerifyEmail,
        CodeUse::ResetPassword,
        CodeUse::ChangeEmail,
        CodeUse::SecondFactor,
    ];

    /// As templates compare it.
    pub fn name(self) -> &'static str {
        match self {
            CodeUse::SignIn => "sign-in",
            CodeUse::VerifyEmail => "verify-email",
            CodeUse::ResetPassword => "reset-password",
            CodeUse::ChangeEmail => "change-email",
            CodeUse::SecondFactor => "second-factor",
        }
    }
}

/// What a mail is there to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    Link(&'a Link),
    Code(&'a Code),
}

/// A mail that Tollgate sends. The stored form is the JSON of this type: a variant or a field that was released keeps
/// its name, because mails written by the older program wait for the newer one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Message {
    /// To a new user: prove that the address is yours.
    VerifyEmail { url: Link },
    /// To whoever asked for it: choose a new password.
    ResetPassword { url: Link },
    /// To the present address: allow the change to another one.
    ConfirmEmailChange { new_email: Address, url: Link },
    /// To the new address of an existing user: prove that it is yours.
    VerifyNewEmail { url: Link },
    /// To the user: allow the deletion of the account.
    DeleteAccount { url: Link },
    /// To the owner of an address that somebody tried to sign up with. The link is the sign-in page and holds no token.
    AddressTaken { url: Link },
    /// To whoever asked to sign in by mail.
    MagicLink { url: Link },
    /// To whoever asked for a code instead of a link.
    Code { code: Code, purpose: CodeUse },
    /// To an address that was asked to join an organization. The link is a page of the app.
    Invitation { organization: String, url: Link },
    /// To a user whose balance has just become low.
    CreditsLow { available: i64, unit: String, url: Link },
    /// To a user of whose credits some end soon.
    CreditsEnding { amount: i64, unit: String, ends_at: String, url: Link },
    /// To a user whose automatic top-up was switched off after payments that failed.
    TopUpOff { pack: String, url: Link },
}

impl Message {
    /// The file name of the template without its ending, and the name in the table.
    pub fn template(&self) -> &'static str {
        match self {
            Message::VerifyEmail { .. } => "verify-email",
            Message::ResetPassword { .. } => "reset-password",
            Message::ConfirmEmailChange { .. } => "confirm-email-change",
            Message::VerifyNewEmail { .. } => "verify-new-email",
            Message::DeleteAccount { .. } => "delete-account",
            Message::AddressTaken { .. } => "address-taken",
            Message::MagicLink { .. } => "magic-link",
            Message::Code { .. } => "code",
            Message::Invitation { .. } => "invitation",
            Message::CreditsLow { .. } => "credits-low",
            Message::CreditsEnding { .. } => "credits-ending",
            Message::TopUpOff { .. } => "top-up-off",
        }
    }

    pub fn content(&self) -> Content<'_> {
        match self {
            Message::Code { code, .. } => Content::Code(code),
            Message::VerifyEmail { url }
            | Message::ResetPassword { url }
            | Message::ConfirmEmailChange { url, .. }
            | Message::VerifyNewEmail { url }
            | Message::DeleteAccount { url }
            | Message::AddressTaken { url }
            | Message::MagicLink { url }
            | Message::Invitation { url, .. }
            | Message::CreditsLow { url, .. }
            | Message::CreditsEnding { url, .. }
            | Message::TopUpOff { url, .. } => Content::Link(url),
        }
    }

    /// What its templates may name besides what all may.
    pub(crate) fn values(&self) -> Vec<(&'static str, String)> {
        match self {
            Message::ConfirmEmailChange { new_email, .. } => vec![("new_email", new_email.as_str().into())],
            Message::CreditsLow { available, unit, .. } => {
                vec![("available", available.to_string()), ("unit", unit.clone())]
            }
            Message::CreditsEnding { amount, unit, ends_at, .. } => {
                vec![("amount", amount.to_string()), ("unit", unit.clone()), ("ends_at", ends_at.clone())]
            }
            Message::TopUpOff { pack, .. } => vec![("pack", pack.clone())],
            Message::Invitation { organization, .. } => vec![("organization", organization.clone())],
            Message::Code { purpose, .. } => vec![("purpose", purpose.name().into())],
            Message::VerifyEmail { .. }
            | Message::ResetPassword { .. }
            | Message::VerifyNewEmail { .. }
            | Message::DeleteAccount { .. }
            | Message::AddressTaken { .. }
            | Message::MagicLink { .. } => Vec::new(),
        }
    }

    /// One of each, to try the templates with.
    pub(crate) fn samples() -> Vec<Message> {
        let url = || Link("https://app.example.com/sample?token=abc&callbackURL=%2Fhome".into());
        let new_email = Address::parse("new.address@example.com").expect("a plain address passes");
        let mut samples = vec![
            Message::VerifyEmail { url: url() },
            Message::ResetPassword { url: url() },
            Message::ConfirmEmailChange { new_email, url: url() },
            Message::VerifyNewEmail { url: url() },
            Message::DeleteAccount { url: url() },
            Message::AddressTaken { url: url() },
            Message::CreditsLow { available: 7, unit: "credits".into(), url: url() },
            Message::CreditsEnding {
                amount: 250,
                unit: "credits".into(),
                ends_at: "2026-11-24 18:00 UTC".into(),
                url: url(),
            },
            Message::TopUpOff { pack: "small".into(), url: url() },
            Message::MagicLink { url: url() },
            Message::Invitation { organization: "Acme Inc.".into(), url: url() },
        ];
        samples.extend(CodeUse::ALL.map(|purpose| Message::Code { code: Code("482913".into()), purpose }));
        samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn debug_of_a_message_shows_no_link_and_no_code() {
        for message in Message::samples() {
            let shown = format!("{message:?}");
            assert!(!["token", "http", "482913"].iter().any(|secret| shown.contains(secret)), "{shown}");
        }
    }

    #[test]
    fn stored_messages_read_back_and_carry_their_template_as_kind() {
        for message in Message::samples() {
            let json = serde_json::to_value(&message).unwrap();
            assert_eq!(json["kind"], message.template());
            assert_eq!(serde_json::from_value::<Message>(json).unwrap(), message);
        }
    }

    #[test]
    fn links_that_are_none_are_refused() {
        for text in [
            "",
            "/relative",
            "//example.com/x",
            "javascript:alert(1)",
            "ftp://example.com",
            "https://",
            "https://user:pw@example.com/",
            "https://example.com/a b",
            "https://example.com/\r\nX: y",
            "https://example.com/\"><b>",
            "https://exämple.com/",
            "HTTPS://example.com\n",
        ] {
            assert_eq!(Link::parse(text), Err(LinkError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_is_exactly_one_link(text in "https?://[a-z0-9.:/?=&%'\"<> \r\n]{0,30}|\\PC{0,30}") {
            if let Ok(link) = Link::parse(&text) {
                prop_assert_eq!(crate::links_in(&format!("a {} b", link.as_str())), vec![text]);
            }
        }
    }
}
