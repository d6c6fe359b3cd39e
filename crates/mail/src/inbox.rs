//! The inbox of `dev`: mails that were captured instead of sent, as their recipients would see them.

use crate::message::Content;
use crate::outbox;
use crate::templates::{Templates, links_in};
use kernel::{Millis, Vault};
use serde::Serialize;
use store::{Error, Tx, params};

/// No `Debug`: it holds links that work.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct CapturedMail {
    pub id: String,
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    /// The links of the text, in order; the first is what the mail is about.
    pub links: Vec<String>,
    /// The code to type in, for mails that carry one.
    pub code: Option<String>,
    /// As `2026-11-20T21:00:00.000Z`.
    pub created_at: String,
}

/// Waiting mails are listed, too: in `dev` they are about to be captured, and whoever looks right after signing up
/// finds the mail.
const NEWEST: &str = "
SELECT id, recipient, content_sealed, created_at FROM mails
WHERE state IN ('captured', 'waiting') AND id < $1 ORDER BY id DESC LIMIT $2";

/// Longer than every id, and after all of them in any collation.
const AFTER_ALL: &str = "ffffffffffffffffffffffffffffffffffff";
const LONGEST_PAGE: usize = 100;

/// The newest mails first; `before` is the id of the last one of the page before. A mail that cannot be opened or
/// rendered is left out.
pub fn captured(
    tx: &mut Tx<'_>,
    vault: &Vault,
    templates: &Templates,
    limit: usize,
    before: Option<&str>,
) -> Result<Vec<CapturedMail>, Error> {
    let limit = limit.clamp(1, LONGEST_PAGE) as i64;
    let rows = tx.query(NEWEST, params![before.unwrap_or(AFTER_ALL), limit], |row| {
        Ok((row.get::<String>(0)?, row.get::<String>(1)?, row.get::<String>(2)?, row.get::<Millis>(3)?))
    })?;
    let shown = |(id, to, sealed, created_at): (String, String, String, Millis)| {
        let (recipient, message) = outbox::open(vault, &to, &sealed)?;
        let mail = templates.render(&message, recipient.name.as_deref()).ok()?;
        let links = links_in(&mail.text);
        let code = match message.content() {
            Content::Code(code) => Some(code.as_str().to_owned()),
            Content::Link(_) => None,
        };
        let (subject, text, html) = (mail.subject, mail.text, mail.html);
        Some(CapturedMail { id, to, subject, text, html, links, code, created_at: created_at.iso() })
    };
    Ok(rows.into_iter().filter_map(shown).collect())
}
