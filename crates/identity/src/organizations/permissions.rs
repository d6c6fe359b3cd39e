//! What each role in an organization allows. The three roles are fixed.

/// A resource and what is done to it, as clients name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    UpdateOrganization,
    DeleteOrganization,
    UpdateMember,
    DeleteMember,
    CreateInvitation,
    CancelInvitation,
    CreateTeam,
    UpdateTeam,
    DeleteTeam,
}

impl Action {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Action::UpdateOrganization => ("organization", "update"),
            Action::DeleteOrganization => ("organization", "delete"),
            Action::UpdateMember => ("member", "update"),
            Action::DeleteMember => ("member", "delete"),
            Action::CreateInvitation => ("invitation", "create"),
            Action::CancelInvitation => ("invitation", "cancel"),
            Action::CreateTeam => ("team", "create"),
            Action::UpdateTeam => ("team", "update"),
            Action::DeleteTeam => ("team", "delete"),
        }
    }
}

pub const ROLES: [&str; 3] = ["admin", "owner", "member"];

const ALL: [&str; 3] = ["create", "update", "delete"];
const ROLES_THEMSELVES: [&str; 4] = ["create", "read", "update", "delete"];

/// What a role may do to a resource; `None` where the role or the resource is unknown.
fn granted(role: &str, resource: &str) -> Option<&'static [&'static str]> {
    Some(match (role, resource) {
        ("owner", "organization") => &["update", "delete"],
        ("admin", "organization") => &["update"],
        ("owner" | "admin", "member" | "team") => &ALL,
        ("owner" | "admin", "invitation") => &["create", "cancel"],
        ("owner" | "admin", "ac") => &ROLES_THEMSELVES,
        ("member", "ac") => &["read"],
        ("member", "organization" | "member" | "invitation" | "team") => &[],
        _ => return None,
    })
}

/// The names in a member's role.
pub fn names(role: &str) -> impl Iterator<Item = &str> {
    role.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// Whether a member buys for the organization and sees what it pays.
pub fn may_buy(role: &str) -> bool {
    names(role).any(|name| ["owner", "admin"].contains(&name))
}

pub fn allows(role: &str, action: Action) -> bool {
    let (resource, verb) = action.names();
    names(role).any(|name| granted(name, resource).is_some_and(|verbs| verbs.contains(&verb)))
}

/// Whether one of the roles allows all that is asked for: resources, each with what is to be done to it. Asking for
/// nothing is granted to nobody.
pub fn allows_all<'a, V>(role: &str, asked: impl Iterator<Item = (&'a str, V)> + Clone) -> bool
where
    V: Iterator<Item = &'a str>,
{
    names(role).any(|name| {
        let mut something = false;
        let all = asked.clone().all(|(resource, verbs)| {
            something = true;
            let (allowed, mut any) = (granted(name, resource), false);
            let each = allowed.is_some_and(|allowed| {
                verbs.inspect(|_| any = true).fold(true, |good, verb| good & allowed.contains(&verb))
            });
            each && any
        });
        all && something
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(role: &str, asked: &[(&str, &[&str])]) -> bool {
        allows_all(role, asked.iter().map(|(resource, verbs)| (*resource, verbs.iter().copied())))
    }

    #[test]
    fn owners_may_all_admins_all_but_delete_and_members_nothing() {
        assert!(allows("owner", Action::DeleteOrganization) && !allows("admin", Action::DeleteOrganization));
        assert!(allows("admin", Action::UpdateOrganization) && allows("admin", Action::DeleteMember));
        assert!(!allows("member", Action::CreateInvitation) && !allows("member", Action::UpdateOrganization));
        assert!(allows("member, owner", Action::DeleteTeam), "one of several roles suffices");
        for role in ["", "emperor", "Owner", "own", ",", "owner2"] {
            assert!(!allows(role, Action::UpdateTeam), "{role:?}");
        }
    }

    #[test]
    fn one_role_must_allow_everything_that_is_asked_for() {
        assert!(all("owner", &[("organization", &["delete", "update"]), ("ac", &["read"])]));
        assert!(!all("admin", &[("member", &["create"]), ("organization", &["delete"])]));
        assert!(!all("owner", &[]) && !all("owner", &[("team", &[])]));
        assert!(!all("owner", &[("billing", &["read"])]) && !all("member", &[("team", &["create"])]));
        assert!(all("member", &[("ac", &["read"])]));
    }
}
