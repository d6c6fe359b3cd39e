//! `tollgate organization`: what an operator does to organizations.

use super::user::{look_up, unknown};
use crate::config::Loaded;
use crate::deployment::Deployment;
use crate::terminal::{Failure, Outcome, Terminal};
use identity::organizations::{self, Refusal, members};
use kernel::OrganizationId;
use serde_json::json;

/// Gives a member another role: for an organization whose last owner was deleted, above all.
pub fn appoint(loaded: Loaded, organization: &str, who: &str, role: &str, terminal: &Terminal) -> Outcome {
    let deployment = Deployment::open(loaded)?;
    let user = look_up(&deployment, who)?.ok_or_else(|| unknown(who))?;
    let (wanted, id) = (organization.to_owned(), user.id.clone());
    let roles: Vec<String> = role.split(',').map(|name| name.trim().to_owned()).collect();
    let appointed = deployment.write(move |tx| {
        let by_slug = organizations::by_slug(tx, &wanted)?;
        let found = match by_slug {
            Some(found) => Some(found),
            None => organizations::find(tx, &OrganizationId::from_text(wanted.as_str()))?,
        };
        let Some(found) = found else { return Ok(Err(Refusal::NoOrganization)) };
        match members::appoint(tx, &found.id, &id, &roles) {
            Err(Refusal::Store(error)) => Err(error),
            done => Ok(done.map(|member| (found, member))),
        }
    })?;
    let (found, member) = appointed.map_err(|refusal| refused(&refusal, organization, &user.email))?;
    let text = format!(
        "{} has the role {} in {} ({}) now. It counts from the next request on.",
        user.email, member.role, found.name, found.id
    );
    let json = json!({
        "organization_id": found.id.as_str(), "slug": found.slug, "user_id": user.id.as_str(), "email": user.email,
        "role": member.role,
    });
    terminal.result(&text, &json);
    Ok(())
}

fn refused(refusal: &Refusal, organization: &str, email: &str) -> Failure {
    match refusal {
        Refusal::NoOrganization => {
            Failure::new(format!("There is no organization `{organization}`."), "Give its slug or its id.")
        }
        Refusal::NoMember => Failure::new(
            format!("{email} does not belong to `{organization}`."),
            "Name one of its members, or let one of them invite this user.",
        ),
        Refusal::LastOwner => {
            Failure::new(format!("{email} is the only owner."), "Make another member an owner first.")
        }
        refusal => {
            Failure::new(format!("Nothing was changed: {refusal}."), "Roles are owner, admin and member.")
        }
    }
}
