//! Who passes, in the fixed order: session, ban, user match, role, payer, entitlement; then the allowance or the charge.
//!
//! Nothing is remembered between calls: the door reads the session from the store each time and asks here with its row at
//! hand.

use credits::Owner;
use identity::UserView;
use identity::users::Standing;
use kernel::Millis;

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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    Banned,
    OtherUser,
    LacksRole,
    /// The user may not spend what belongs to the payer.
    ForeignPayer,
}

impl Demand {
    /// What is demanded and not among the features that a plan turns on.
    pub fn lacks<'d>(&'d self, features: &[String]) -> Option<&'d str> {
        self.entitlement.as_deref().filter(|wanted| !features.iter().any(|feature| feature == wanted))
    }

    /// Judges a user whose session is alive.
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
        match &self.payer {
            None => Ok(()),
            Some(Owner::User(id)) if id == user.id => Ok(()),
            // An organization pays for its members; as long as there are no organizations nobody is one.
            Some(_) => Err(Denied::ForeignPayer),
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
        };
        (ada.banned, ada.ban_expires) = (true, Some(NOW.plus(1)));
        assert_eq!(demand.judge(&ada.view(), NOW), Err(Denied::Banned));
        assert_eq!(demand.judge(&ada.view(), NOW.plus(1)), Err(Denied::OtherUser), "the ban has ended");
        demand.user_id = Some(ada.id.as_str().into());
        ada.banned = false;
        assert_eq!(demand.judge(&ada.view(), NOW), Err(Denied::LacksRole));
        demand.role = None;
        for payer in
            [Owner::Organization("acme".into()), Owner::User("other".into()), Owner::Guest("g".into())]
        {
            demand.payer = Some(payer);
            assert_eq!(demand.judge(&ada.view(), NOW), Err(Denied::ForeignPayer));
        }
        demand.payer = Some(Owner::User(ada.id.as_str().into()));
        assert_eq!(demand.judge(&ada.view(), NOW), Ok(()));
        assert_eq!(demand.lacks(&[]), Some("export"));
        assert_eq!(demand.lacks(&["exports".into(), "Export".into()]), Some("export"));
        assert_eq!(demand.lacks(&["priority".into(), "export".into()]), None);
    }
}
