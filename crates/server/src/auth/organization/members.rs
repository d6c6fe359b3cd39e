//! Members: look at them, change their roles, part from them.

use super::codes::*;
use super::shapes::MemberBody;
use super::{most_members, one_of, told, told_members};
use crate::auth::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use crate::auth::error::Failure;
use crate::auth::fields::Fields;
use crate::settings::Switch;
use http::StatusCode;
use identity::listing::{Filter, Operator};
use identity::organizations::members::{self, Column, Listing};
use identity::organizations::{self, Refusal};
use kernel::{MemberId, OrganizationId, UserId};
use serde_json::json;

pub struct ListMembers;
pub struct GetActiveMember;
pub struct GetActiveMemberRole;
pub struct UpdateMemberRole;
pub struct RemoveMember;
pub struct Leave;

/// Which organization a list is of.
pub struct Of {
    id: Option<String>,
    slug: Option<String>,
}

impl Of {
    fn read(fields: &mut Fields) -> Of {
        Of { id: fields.maybe_query("organizationId"), slug: fields.maybe_query("organizationSlug") }
    }

    /// A slug goes before an id, and both before the active one.
    async fn find(self, call: &Call) -> Result<OrganizationId, Failure> {
        let Some(slug) = self.slug.filter(|slug| !slug.is_empty()) else {
            return one_of(call.signed_in()?, self.id.as_deref());
        };
        let found = call.app.store.read(move |tx| organizations::by_slug(tx, &slug)).await?;
        Ok(found.ok_or_else(|| ORGANIZATION_NOT_FOUND.bad())?.id)
    }
}

pub struct ListInput {
    of: Of,
    listing: Listing,
}

impl Endpoint for ListMembers {
    type Input = ListInput;
    const SPEC: Spec =
        Spec::get("/organization/list-members", Access::SignedIn, "The members of an organization")
            .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> ListInput {
        let count =
            |text: Option<String>| text.and_then(|text| text.parse::<usize>().ok()).filter(|n| *n > 0);
        let (limit, offset) = (count(fields.maybe_query("limit")), count(fields.maybe_query("offset")));
        let downwards = fields.maybe_query_of("sortDirection", &["asc", "desc"]).as_deref() == Some("desc");
        let sort = column(fields, "sortBy").map(|column| (column, downwards));
        let field = column(fields, "filterField");
        let values = fields.query_list("filterValue");
        let operator = match fields.maybe_query("filterOperator") {
            None => Operator::Equal,
            Some(name) => Operator::parse(&name).unwrap_or_else(|| {
                fields
                    .query_problem("filterOperator", "Invalid option: expected a comparison such as \"eq\"");
                Operator::Equal
            }),
        };
        let filter = field.map(|field| (field, Filter { operator, values }));
        let listing = Listing { limit, offset: offset.unwrap_or(0), sort, filter };
        ListInput { of: Of::read(fields), listing }
    }

    async fn run(call: Call, input: ListInput) -> Outcome {
        let user = call.signed_in()?.user.id.clone();
        let most = most_members(&call);
        let organization = input.of.find(&call).await?;
        let found = call.app.store.scan(move |tx| {
            members::of_user(tx, &organization, &user)?.ok_or(Refusal::NotAMember)?;
            Ok(members::list(tx, &organization, most)?)
        });
        let no_member = YOU_ARE_NOT_A_MEMBER_OF_THIS_ORGANIZATION.forbidden();
        let found = found.await.map_err(|refusal| told(refusal, &no_member, &no_member))?;
        let (page, total) = input.listing.of(found, usize::try_from(most).unwrap_or(usize::MAX));
        Ok(Reply::json(&json!({ "members": MemberBody::list(&page), "total": total })))
    }
}

/// A column by its name: never a text that reaches a statement.
fn column(fields: &mut Fields, name: &'static str) -> Option<Column> {
    let text = fields.maybe_query(name).filter(|text| !text.is_empty())?;
    let column = Column::parse(&text);
    if column.is_none() {
        fields.query_problem(name, "Invalid option: expected a field of a member");
    }
    column
}

impl Endpoint for GetActiveMember {
    type Input = ();
    const SPEC: Spec = Spec::get(
        "/organization/get-active-member",
        Access::SignedIn,
        "One's own place in the active organization",
    )
    .of(Switch::Organizations);

    fn read(_: &mut Fields) {}

    async fn run(call: Call, (): ()) -> Outcome {
        let live = call.signed_in()?;
        let (organization, user) = (one_of(live, None)?, live.user.id.clone());
        let found = call.app.store.read(move |tx| members::with_person(tx, &organization, &user)).await?;
        let (member, person) = found.ok_or_else(|| MEMBER_NOT_FOUND.bad())?;
        Ok(Reply::json(&MemberBody::new(&member, Some(&person))))
    }
}

impl Endpoint for GetActiveMemberRole {
    type Input = (Option<String>, Of);
    const SPEC: Spec = Spec::get(
        "/organization/get-active-member-role",
        Access::SignedIn,
        "One's own role in an organization, or another member's",
    )
    .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> (Option<String>, Of) {
        (fields.maybe_query("userId"), Of::read(fields))
    }

    async fn run(call: Call, (other, of): (Option<String>, Of)) -> Outcome {
        let user = call.signed_in()?.user.id.clone();
        let organization = of.find(&call).await?;
        let found = call.app.store.read(move |tx| {
            let own = members::of_user(tx, &organization, &user)?.ok_or(Refusal::NotAMember)?;
            match other.as_deref().filter(|id| !id.is_empty()) {
                None => Ok(own.role),
                Some(id) => organizations::member_role(tx, &organization, &UserId::from_text(id))?
                    .ok_or(Refusal::NotAMember),
            }
        });
        let no_member = YOU_ARE_NOT_A_MEMBER_OF_THIS_ORGANIZATION.forbidden();
        let role = found.await.map_err(|refusal| told(refusal, &no_member, &no_member))?;
        Ok(Reply::json(&json!({ "role": role })))
    }
}

pub struct RoleInput {
    member: MemberId,
    roles: Vec<String>,
    organization: Option<String>,
}

/// The names in what was sent, be it one text or several.
pub(super) fn names(texts: &[String]) -> Vec<String> {
    let names = texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

impl Endpoint for UpdateMemberRole {
    type Input = RoleInput;
    const SPEC: Spec =
        Spec::post("/organization/update-member-role", Access::SignedIn, "Gives a member another role")
            .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> RoleInput {
        fields.need_object();
        RoleInput {
            roles: names(&fields.texts("role")),
            member: MemberId::from_text(fields.text("memberId")),
            organization: fields.maybe_text("organizationId"),
        }
    }

    async fn run(call: Call, input: RoleInput) -> Outcome {
        let live = call.signed_in()?;
        if input.roles.is_empty() {
            return Err(Failure::Empty(StatusCode::BAD_REQUEST));
        }
        let (organization, user) = (one_of(live, input.organization.as_deref())?, live.user.id.clone());
        let changed = call
            .app
            .store
            .write(move |tx| members::set_role(tx, &organization, &user, &input.member, &input.roles))
            .await;
        let member = changed.map_err(|refusal| match refusal {
            Refusal::OwnersOnly => YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_MEMBER.forbidden(),
            Refusal::LastOwner => YOU_CANNOT_LEAVE_THE_ORGANIZATION_WITHOUT_AN_OWNER.bad(),
            Refusal::UnknownRole(names) => Failure::Named {
                status: StatusCode::BAD_REQUEST,
                code: Some(ROLE_NOT_FOUND.code),
                message: format!("{}: {names}", ROLE_NOT_FOUND.code),
            },
            refusal => {
                let to_members = YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_MEMBER.forbidden();
                told(refusal, &MEMBER_NOT_FOUND.bad(), &to_members)
            }
        })?;
        Ok(Reply::json(&MemberBody::new(&member, None)))
    }
}

impl Endpoint for RemoveMember {
    type Input = (String, Option<String>);
    const SPEC: Spec =
        Spec::post("/organization/remove-member", Access::SignedIn, "Removes a member by id or address")
            .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> (String, Option<String>) {
        fields.need_object();
        (fields.text("memberIdOrEmail"), fields.maybe_text("organizationId"))
    }

    async fn run(call: Call, (who, organization): (String, Option<String>)) -> Outcome {
        let live = call.signed_in()?;
        let (organization, user) = (one_of(live, organization.as_deref())?, live.user.id.clone());
        let removed = call.app.store.write(move |tx| members::remove(tx, &organization, &user, &who)).await;
        let (member, person) = removed.map_err(|refusal| {
            let to_members = YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_MEMBER.with(StatusCode::UNAUTHORIZED);
            told(refusal, &MEMBER_NOT_FOUND.bad(), &to_members)
        })?;
        Ok(Reply::json(&json!({ "member": MemberBody::new(&member, person.as_ref()) })))
    }
}

impl Endpoint for Leave {
    type Input = String;
    const SPEC: Spec = Spec::post("/organization/leave", Access::SignedIn, "Leaves an organization")
        .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> String {
        fields.need_object();
        fields.text("organizationId")
    }

    async fn run(call: Call, organization: String) -> Outcome {
        let (organization, user) =
            (OrganizationId::from_text(organization), call.signed_in()?.user.id.clone());
        let left = call.app.store.write(move |tx| members::leave(tx, &organization, &user)).await;
        let (member, person) = left.map_err(told_members)?;
        Ok(Reply::json(&MemberBody::new(&member, Some(&person))))
    }
}
