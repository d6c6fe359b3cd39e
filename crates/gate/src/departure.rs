//! What happens when somebody leaves for good: personal data goes, what was paid and spent stays under the bare id.

use credits::{Owner, Settings, close_owner};
use identity::users;
use kernel::UserId;
use store::{Error, Tx};

/// False when there is no such user.
pub fn delete_user(tx: &mut Tx<'_>, terms: &Settings, id: &UserId) -> Result<bool, Error> {
    let deleted = users::delete(tx, id)?;
    close_owner(tx, terms, &Owner::User(id.as_str().to_owned()))?;
    Ok(deleted)
}
