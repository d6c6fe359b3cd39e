//! Usernames: what one may look like, and that nobody else has it.

use crate::users;
use kernel::{Millis, UserId};
use store::{Error, Tx, params};

/// In UTF-16 code units, as JavaScript counts.
const SHORTEST: usize = 3;
const LONGEST: usize = 30;

const SET: &str = "UPDATE users SET username = $2, display_username = COALESCE($3, display_username), updated_at = $4 WHERE id = $1";
const SET_DISPLAY: &str = "UPDATE users SET display_username = $2, updated_at = $3 WHERE id = $1";

/// What is wrong with a username.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    TooShort,
    TooLong,
    Invalid,
}

/// A username as it is stored and compared: in small letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username(String);

impl Username {
    pub fn parse(text: &str) -> Result<Username, Fault> {
        let length = text.encode_utf16().count();
        if length < SHORTEST {
            Err(Fault::TooShort)
        } else if length > LONGEST {
            Err(Fault::TooLong)
        } else if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.') {
            Ok(Username(text.to_ascii_lowercase()))
        } else {
            Err(Fault::Invalid)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Takes a name for a user, so that of several who want it at once each waits for the one before. False when somebody
/// else has it.
pub fn take(tx: &mut Tx<'_>, name: &Username, user: Option<&UserId>) -> Result<bool, Error> {
    tx.lock("username", &[name.as_str()])?;
    let holder = users::by_username(tx, name.as_str())?;
    Ok(holder.is_none_or(|holder| user == Some(&holder.id)))
}

/// Gives a user a name that was [taken](take) in the same transaction. Without a `display` the spelling to show stays.
pub fn set(
    tx: &mut Tx<'_>,
    id: &UserId,
    name: &Username,
    display: Option<&str>,
    now: Millis,
) -> Result<(), Error> {
    tx.execute(SET, params![id.as_str(), name.as_str(), display, now]).map(|_| ())
}

pub fn set_display(tx: &mut Tx<'_>, id: &UserId, display: &str, now: Millis) -> Result<(), Error> {
    tx.execute(SET_DISPLAY, params![id.as_str(), display, now]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_username_has_three_to_thirty_plain_characters() {
        for (text, expected) in [
            ("", Err(Fault::TooShort)),
            ("ab", Err(Fault::TooShort)),
            ("é", Err(Fault::TooShort)),
            ("abc", Ok("abc")),
            ("Ada.Lovelace_1", Ok("ada.lovelace_1")),
            ("...", Ok("...")),
            ("a b", Err(Fault::Invalid)),
            ("ada-l", Err(Fault::Invalid)),
            ("ada\n", Err(Fault::Invalid)),
            ("ad\0a", Err(Fault::Invalid)),
            ("ＡＤＡ", Err(Fault::Invalid)),
            ("🦀🦀", Err(Fault::Invalid)),
        ] {
            assert_eq!(
                Username::parse(text).as_ref().map(Username::as_str),
                expected.as_ref().copied(),
                "{text}"
            );
        }
        assert!(Username::parse(&"a".repeat(30)).is_ok());
        assert_eq!(Username::parse(&"a".repeat(31)), Err(Fault::TooLong));
        assert_eq!(Username::parse(&" ".repeat(31)), Err(Fault::TooLong), "the length is looked at first");
    }
}
