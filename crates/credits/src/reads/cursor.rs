//! Where a list goes on: opaque to the caller, and good for the question that it was given for only.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::Vault;

/// A cursor that this question did not give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this cursor was not given for this list")]
pub struct BadCursor;

const PURPOSE: &str = "list cursor";
/// Of the signature: 128 bits, so that cursors stay short.
const SIGNATURE: usize = 22;

/// `question` says all that the cursor hangs on, with the position in it.
pub(super) fn seal_cursor(vault: &Vault, position: &str, question: impl Fn(&str) -> String) -> String {
    let signature = signature(vault, &question(position));
    URL_SAFE_NO_PAD.encode(format!("{position}.{signature}"))
}

/// The position.
pub(super) fn open_cursor(vault: &Vault, cursor: &str, question: impl Fn(&str) -> String) -> Option<String> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (position, given) = text.rsplit_once('.')?;
    let expected = signature(vault, &question(position));
    kernel::secret::same_secret(given.as_bytes(), expected.as_bytes()).then(|| position.to_string())
}

fn signature(vault: &Vault, question: &str) -> String {
    let mut text = vault.hash(PURPOSE, question);
    text.truncate(SIGNATURE);
    text
}
