//! Who passes, in the fixed order: session, ban, user match, role, payer, entitlement; then the allowance or the charge.
//!
//! Nothing is remembered between calls: the door reads the session from the store each time and asks here with its row at
//! hand.

use credits::{KeyScope, Owner, Spender};
use identity::api_keys::ApiKey;
use identity::users::Standing;
use identity::{UserView, organizations};
use kernel::{Millis, OrganizationId, UserId};
use serde_json::{Map, Value};
use store::{Error, Tx};

/// What is asked of whoever comes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Demand {
    /// The session must be this user's.
    pub user_id: Option<String>,
    /// One of the user's roles must be this.
    pub role: Option<String>,
    /// Who pays, when it is not the user.
    pub payer: Option<Owner>,
    /// The plan of whoever pays must turn this on.
    pub entitlement: Option<String>,
    /// What an API key must permit; a person is asked for roles instead.
    pub permissions: Option<Map<String, Value>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    Banned,
    OtherUser,
    LacksRole,
    /// The API key does not permit it.
    LacksPermission,
    /// The user may not spend what belongs to the payer.
    ForeignPayer,
}

/// Who passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    User(String),
    /// A program with the key of a user or an organization.
    ApiKey {
        id: String,
        holder: Owner,
    },
}

impl Subject {
    /// Who pays when nobody else does.
    pub fn own(&self) -> Owner {
        match self {
            Subject::User(id) => Owner::User(id.clone()),
            Subject::ApiKey { holder, .. } => holder.clone(),
        }
    }

    /// The user who acts, directly or by a key.
    pub fn user(&self) -> Option<&str> {
        match self {
            Subject::User(id) | Subject::ApiKey { holder: Owner::User(id), .. } => Some(id),
            Subject::ApiKey { .. } => None,
        }
    }

    /// As it stands on entries.
    pub fn actor(&self) -> String {
        match self {
            Subject::User(id) => format!("user:{id}"),
            Subject::ApiKey { id, .. } => format!("key:{id}"),
        }
    }

    /// Within which idempotency keys are its own, whoever pays.
    pub fn scope(&self) -> KeyScope {
        match self {
            Subject::User(id) => KeyScope::Owner(Owner::User(id.clone())),
            Subject::ApiKey { id, .. } => KeyScope::ApiKey(id.clone()),
        }
    }

    /// Whose limits count beside those of the payer.
    pub fn spender(&self, payer: &Owner) -> Option<Spender> {
        let key = match self {
            Subject::User(_) => None,
            Subject::ApiKey { id, .. } => Some(id.clone()),
        };
        let member =
            matches!(payer, Owner::Organization(_)).then(|| self.user().map(str::to_owned)).flatten();
        Spender::of(key, member)
    }
}

/// Who pays for a subject: whom the call names, else the active organization where it says that it does, else the subject
/// itself. `None`: the subject may not spend what belongs to whom it names.
pub fn payer(
    tx: &mut Tx<'_>,
    named: Option<&Owner>,
    subject: &Subject,
    active: Option<&str>,
) -> Result<Option<Owner>, Error> {
    let own = subject.own();
    match named {
        Some(named) if *named == own => Ok(Some(own)),
        Some(Owner::Organization(id)) => {
            let Some(user) = subject.user() else { return Ok(None) };
            let (id, user) = (OrganizationId::from_text(id.as_str()), UserId::from_text(user));
            let is_member = organizations::member_role(tx, &id, &user)?.is_some();
            Ok(is_member.then(|| Owner::Organization(id.into_string())))
        }
        Some(_) => Ok(None),
        None => {
            let (Some(id), Some(user)) = (active, subject.user()) else { return Ok(Some(own)) };
            let (id, user) = (OrganizationId::from_text(id), UserId::from_text(user));
            let pays = organizations::find(tx, &id)?.is_some_and(|found| pays(found.metadata.as_deref()))
                && organizations::member_role(tx, &id, &user)?.is_some();
            Ok(Some(if pays { Owner::Organization(id.into_string()) } else { own }))
        }
    }
}

/// Whether an organization's metadata says that it pays for its members.
fn pays(metadata: Option<&str>) -> bool {
    let metadata: Option<Value> = metadata.and_then(|text| serde_json::from_str(text).ok());
    metadata.is_some_and(|metadata| metadata["pays"] == true)
}

impl Demand {
    /// What is demanded and not among the features that a plan turns on.
    pub fn lacks<'d>(&'d self, features: &[String]) -> Option<&'d str> {
        self.entitlement.as_deref().filter(|wanted| !features.iter().any(|feature| feature == wanted))
    }

    /// Judges a user whose session is alive. Who pays is asked [for itself](payer).
    pub fn judge(&self, user: &UserView<'_>, now: Millis) -> Result<(), Denied> {
        if user.standing(now) == Standing::Banned {
            return Err(Denied::Banned);
        }
        if self.user_id.as_deref().is_some_and(|id| id != user.id) {
            return Err(Denied::OtherUser);
        }
        if self.role.as_deref().is_some_and(|role| !user.roles().any(|own| own == role)) {
            return Err(Denied::LacksRole);
        }
        Ok(())
    }

    /// Judges a key that was used just now, with the row of its user if it is a user's.
    pub fn judge_key(&self, key: &ApiKey, user: Option<&UserView<'_>>, now: Millis) -> Result<(), Denied> {
        match user {
            Some(user) => self.judge(user, now)?,
            None if self.user_id.is_some() => return Err(Denied::OtherUser),
            None if self.role.is_some() => return Err(Denied::LacksRole),
            None => {}
        }
        match &self.permissions {
            Some(asked) if !key.permits(asked) => Err(Denied::LacksPermission),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use identity::EmailAddress;
    use identity::users::{NewUser, User};
    use kernel::random;

    const NOW: Millis = Millis(1_800_000_000_000);

    fn user(role: Option<&str>) -> User {
        let email = EmailAddress::parse("ada@example.com").unwrap();
        let new =
            NewUser { name: "Ada".into(), email, email_verified: true, image: None, role: "user".into() };
        User { role: role.map(str::to_owned), ..User::fresh(&new, NOW, &mut random::secure()) }
    }

    #[test]
    fn a_role_is_one_of_the_users_roles_and_never_a_part_of_one() {
        let judge = |own: Option<&str>, asked: &str| {
            let demand = Demand { role: Some(asked.into()), ..Demand::default() };
            demand.judge(&user(own).view(), NOW)
        };
        for (own, asked) in [("admin", "admin"), ("user,admin", "admin"), (" user , admin ", "user")] {
            assert_eq!(judge(Some(own), asked), Ok(()), "{own} {asked}");
        }
        for (own, asked) in
            [("admin", "adm"), ("adm", "admin"), ("Admin", "admin"), ("user,admin", "user,admin"), ("", "")]
        {
            assert_eq!(judge(Some(own), asked), Err(Denied::LacksRole), "{own} {asked}");
        }
        assert_eq!(judge(None, "user"), Err(Denied::LacksRole));
    }

    #[test]
    fn refusals_come_in_their_order() {
        let mut ada = user(Some("user"));
        let mut demand = Demand {
            user_id: Some("other".into()),
            role: Some("admin".into()),
            payer: Some(Owner::Organization("acme".into())),
            entitlement: Some("export".into()),
            permissions: None,
        };
        (ada.banned, ada.ban_expires) = (true, Some(NOW.plus(1)));
        assert_eq!(demand.judge(&ada.view(), NOW), Err(Denied::Banned));
        assert_eq!(demand.judge(&ada.view(), NOW.plus(1)), Err(Denied::OtherUser), "the ban has ended");
        demand.user_id = Some(ada.id.as_str().into());
        ada.banned = false;
        assert_eq!(demand.judge(&ada.view(), NOW), Err(Denied::LacksRole));
        demand.role = None;
        assert_eq!(demand.judge(&ada.view(), NOW), Ok(()));
        assert_eq!(demand.lacks(&[]), Some("export"));
        assert_eq!(demand.lacks(&["exports".into(), "Export".into()]), Some("export"));
        assert_eq!(demand.lacks(&["priority".into(), "export".into()]), None);
    }

    #[test]
    fn an_organization_pays_when_its_metadata_says_so_and_not_otherwise() {
        for (metadata, expected) in [
            (Some(r#"{"pays":true}"#), true),
            (Some(r#"{"pays":true,"plan":"x"}"#), true),
            (Some(r#"{"pays":"true"}"#), false),
            (Some(r#"{"pays":1}"#), false),
            (Some(r#"[true]"#), false),
            (Some("pays"), false),
            (None, false),
        ] {
            assert_eq!(pays(metadata), expected, "{metadata:?}");
        }
    }

    #[test]
    fn members_and_keys_spend_in_their_own_name_beside_the_payers() {
        let acme = Owner::Organization("acme".into());
        let ada = Subject::User("ada".into());
        assert_eq!(ada.spender(&ada.own()), None);
        assert_eq!(ada.spender(&acme).map(|spender| spender.to_string()).as_deref(), Some("user:ada"));
        let key = Subject::ApiKey { id: "k".into(), holder: Owner::User("ada".into()) };
        assert_eq!(key.spender(&key.own()).map(|spender| spender.to_string()).as_deref(), Some("key:k"));
        assert_eq!(key.spender(&acme).map(|spender| spender.to_string()).as_deref(), Some("key:k user:ada"));
        let program = Subject::ApiKey { id: "k".into(), holder: acme.clone() };
        assert_eq!(program.spender(&acme).map(|spender| spender.to_string()).as_deref(), Some("key:k"));
        assert_eq!((program.user(), program.actor()), (None, "key:k".to_owned()));
    }
}
