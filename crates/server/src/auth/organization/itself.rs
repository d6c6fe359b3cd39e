//! `/organization/create`, `check-slug`, `update`, `delete`, `list`, `has-permission`.

use super::codes::*;
use super::shapes::{MemberBody, OrganizationBody};
use super::{named_or_active, one_of, told};
use crate::auth::endpoint::{Access, Call, Endpoint, Outcome, Reply, SignedOut, Spec};
use crate::auth::fields::{Fields, Nullable};
use crate::settings::Switch;
use gate::departure::close_organization;
use http::StatusCode;
use identity::organizations::{self, Changes, NewOrganization, Refusal, permissions};
use identity::sessions;
use kernel::{OrganizationId, random};
use serde::Serialize;
use serde_json::{Value, json};

pub struct Create;
pub struct CheckSlug;
pub struct Update;
pub struct Delete;
pub struct List;
pub struct HasPermission;

/// As long as an index on both engines takes one.
const SLUG_LENGTH: usize = 255;

pub struct CreateInput {
    new: NewOrganization,
    keeps_active: bool,
}

#[derive(Serialize)]
struct Created<'a> {
    #[serde(flatten)]
    organization: OrganizationBody<'a>,
    members: [MemberBody<'a>; 1],
}

impl Endpoint for Create {
    type Input = CreateInput;
    const SPEC: Spec = Spec::post(
        "/organization/create",
        Access::SignedIn,
        "Makes an organization of which one is the owner",
    )
    .of(Switch::Organizations)
    .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> CreateInput {
        fields.need_object();
        fields.storable(&["name", "slug", "logo"]);
        fields.at_most("slug", SLUG_LENGTH);
        let new = NewOrganization {
            name: fields.some_text("name"),
            slug: fields.some_text("slug"),
            logo: match fields.nullable_text("logo") {
                Nullable::Text(logo) => Some(logo),
                Nullable::Absent | Nullable::Null => None,
            },
            metadata: fields.maybe_record("metadata").as_ref().map(Value::to_string),
        };
        CreateInput { new, keeps_active: fields.maybe_flag("keepCurrentActiveOrganization") == Some(true) }
    }

    async fn run(call: Call, input: CreateInput) -> Outcome {
        let live = call.signed_in()?;
        let (user, session, now) = (live.user.id.clone(), live.session.id.clone(), call.now);
        let limits = call.app.settings.organizations.limits;
        let made = call.app.store.write(move |tx| {
            let made = organizations::found(tx, &user, &input.new, &limits, now, &mut random::secure())?;
            if !input.keeps_active {
                sessions::set_active_organization(tx, &session, Some(&made.organization.id))?;
                sessions::set_active_team(tx, &session, Some(&made.team.id))?;
            }
            Ok::<_, Refusal>(made)
        });
        let made = made.await.map_err(|refusal| match refusal {
            Refusal::SlugTaken => ORGANIZATION_ALREADY_EXISTS.bad(),
            refusal => super::told_members(refusal),
        })?;
        Ok(Reply::json(&Created {
            organization: OrganizationBody::opened(&made.organization),
            members: [MemberBody::new(&made.owner, None)],
        }))
    }
}

impl Endpoint for CheckSlug {
    type Input = String;
    const SPEC: Spec =
        Spec::post("/organization/check-slug", Access::SignedIn, "Tells whether a slug is still free")
            .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> String {
        fields.need_object();
        fields.text("slug")
    }

    async fn run(call: Call, slug: String) -> Outcome {
        match call.app.store.read(move |tx| organizations::by_slug(tx, &slug)).await? {
            None => Ok(Reply::json(&json!({ "status": true }))),
            Some(_) => Err(ORGANIZATION_SLUG_ALREADY_TAKEN.bad()),
        }
    }
}

impl Endpoint for Update {
    type Input = (Option<String>, Changes);
    const SPEC: Spec = Spec::post("/organization/update", Access::SignedIn, "Changes an organization")
        .of(Switch::Organizations)
        .signed_out(SignedOut::Says("User not found"));

    fn read(fields: &mut Fields) -> (Option<String>, Changes) {
        fields.need_object();
        fields.record("data");
        fields.storable(&["data.name", "data.slug", "data.logo"]);
        fields.at_most("data.slug", SLUG_LENGTH);
        let changes = Changes {
            name: fields.maybe_some_text("data.name"),
            slug: fields.maybe_some_text("data.slug"),
            logo: match fields.nullable_text("data.logo") {
                Nullable::Absent => None,
                Nullable::Null => Some(None),
                Nullable::Text(logo) => Some(Some(logo)),
            },
            metadata: fields.maybe_record("data.metadata").as_ref().map(Value::to_string),
        };
        (fields.maybe_text("organizationId"), changes)
    }

    async fn run(call: Call, (id, changes): (Option<String>, Changes)) -> Outcome {
        let live = call.signed_in()?;
        let id = named_or_active(live, id.as_deref()).ok_or_else(|| ORGANIZATION_NOT_FOUND.bad())?;
        let user = live.user.id.clone();
        let changed = call.app.store.write(move |tx| organizations::change(tx, &id, &user, &changes)).await;
        let organization = changed.map_err(|refusal| {
            let to_members = YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_ORGANIZATION.forbidden();
            told(refusal, &USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION.bad(), &to_members)
        })?;
        Ok(Reply::json(&OrganizationBody::opened(&organization)))
    }
}

impl Endpoint for Delete {
    type Input = String;
    const SPEC: Spec = Spec::post(
        "/organization/delete",
        Access::SignedIn,
        "Deletes an organization with all that is in it",
    )
    .of(Switch::Organizations)
    .signed_out(SignedOut::Bare);

    fn read(fields: &mut Fields) -> String {
        fields.need_object();
        fields.text("organizationId")
    }

    async fn run(call: Call, id: String) -> Outcome {
        if id.is_empty() {
            return Err(ORGANIZATION_NOT_FOUND.bad());
        }
        let (app, user) = (call.app.clone(), call.signed_in()?.user.id.clone());
        let id = OrganizationId::from_text(id);
        let deleted = call.app.store.write(move |tx| {
            let organization = organizations::dissolve(tx, &id, &user)?;
            close_organization(tx, app.ledger.settings(), &id)?;
            Ok::<_, Refusal>(organization)
        });
        let organization = deleted.await.map_err(|refusal| {
            let to_members = YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_ORGANIZATION.forbidden();
            told(refusal, &USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION.bad(), &to_members)
        })?;
        Ok(Reply::json(&OrganizationBody::stored(&organization)))
    }
}

impl Endpoint for List {
    type Input = ();
    const SPEC: Spec =
        Spec::get("/organization/list", Access::SignedIn, "The organizations that one belongs to")
            .of(Switch::Organizations);

    fn read(_: &mut Fields) {}

    async fn run(call: Call, (): ()) -> Outcome {
        let user = call.signed_in()?.user.id.clone();
        let found = call.app.store.scan(move |tx| organizations::of_user(tx, &user));
        let found: Vec<organizations::Organization> = found.await.map_err(|error: store::Error| error)?;
        Ok(Reply::json(&found.iter().map(OrganizationBody::stored).collect::<Vec<_>>()))
    }
}

impl Endpoint for HasPermission {
    type Input = (Option<String>, Option<Vec<(String, Vec<String>)>>);
    const SPEC: Spec = Spec::post(
        "/organization/has-permission",
        Access::SignedIn,
        "Tells whether one's role in an organization allows something",
    )
    .of(Switch::Organizations);

    fn read(fields: &mut Fields) -> Self::Input {
        fields.need_object();
        (fields.maybe_text("organizationId"), fields.permissions())
    }

    async fn run(call: Call, (id, asked): Self::Input) -> Outcome {
        let live = call.signed_in()?;
        let (id, user) = (one_of(live, id.as_deref())?, live.user.id.clone());
        let role = call.app.store.read(move |tx| organizations::member_role(tx, &id, &user));
        let role: Option<String> = role.await.map_err(|error: store::Error| error)?;
        let role =
            role.ok_or_else(|| USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION.with(StatusCode::UNAUTHORIZED))?;
        let asked = asked.unwrap_or_default();
        let asked = asked.iter().map(|(name, verbs)| (name.as_str(), verbs.iter().map(String::as_str)));
        let success = permissions::allows_all(&role, asked);
        Ok(Reply::json(&json!({ "error": null, "success": success })))
    }
}
