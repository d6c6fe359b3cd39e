//! The mail that tells an address of its invitation.

use crate::app::{App, may_mail, promise_mail};
use identity::organizations::Organization;
use identity::organizations::invitations::Invitation;
use kernel::Millis;
use mail::{Link, Message};
use store::{Error, Tx};

/// A name in a mail is no place for a novel.
const NAME_LENGTH: usize = 64;

/// Promises the mail in the transaction of the invitation. An address that was mailed too often gets none; the invitation
/// stands all the same, and can be sent again later.
pub fn tell(
    tx: &mut Tx<'_>,
    app: &App,
    invitation: &Invitation,
    organization: &Organization,
    now: Millis,
) -> Result<(), Error> {
    if !may_mail(tx, app, &invitation.email, "invitation", now)? {
        return Ok(());
    }
    let url = Link::parse(&address(app, invitation)).map_err(|error| Error::Fault(error.to_string()))?;
    let message = Message::Invitation { organization: plain(&organization.name), url };
    promise_mail(tx, app, &invitation.email, "", &message, now)
}

/// Where the app asks whether one accepts.
fn address(app: &App, invitation: &Invitation) -> String {
    match &app.settings.organizations.invitation_url {
        Some(url) => url.replace("{id}", invitation.id.as_str()),
        None => format!("{}/accept/{}", app.settings.base_url, invitation.id),
    }
}

/// An organization's name as it may stand in a mail to somebody who never heard of it: anybody can found one, so its name
/// must not become a link.
fn plain(name: &str) -> String {
    let mut text = String::new();
    for word in name.split_whitespace() {
        let is_address = |at: usize| {
            let rest = &word[at + 1..];
            rest.starts_with(|next: char| next.is_alphanumeric())
        };
        let link = word.char_indices().any(|(at, c)| match c {
            '.' => is_address(at),
            '/' | '\\' | '@' | ':' => true,
            c => c.is_control(),
        });
        if link {
            continue;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.extend(word.chars().filter(|c| !c.is_control()));
    }
    let cut: String = text.chars().take(NAME_LENGTH).collect();
    if cut.is_empty() { "an organization".into() } else { cut }
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_name_never_becomes_a_link() {
        assert_eq!(plain("Open  Org"), "Open Org");
        assert_eq!(plain("Acme Inc."), "Acme Inc.");
        assert_eq!(plain("win at evil.example now"), "win at now");
        for name in ["https://evil.example", "evil.example/x", "me@evil.example", "\u{7}", " ", "a:b"] {
            assert_eq!(plain(name), "an organization", "{name:?}");
        }
        assert_eq!(plain(&"é".repeat(100)).chars().count(), 64);
    }
}
