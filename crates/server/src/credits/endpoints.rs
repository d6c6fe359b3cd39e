//! What changes the ledger: each path with how its body is read, and what the OpenAPI document says of it.

use super::change::{Read, serve};
use super::{BASE, batch, request};
use crate::app::App;
use crate::openapi::{Auth, Door, Field, Kind, RouteDoc};
use crate::service::idempotency::Key;
use axum::Router;
use axum::extract::{Request, State};
use axum::routing::{MethodFilter, MethodRouter, on};
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<App>> {
    let post = |key, read| change(MethodFilter::POST, key, read);
    let put = |read| change(MethodFilter::PUT, Key::None, read);
    let routes = [
        ("/grants", post(Key::Required, request::grant)),
        ("/debits", post(Key::Required, request::debit)),
        ("/holds", post(Key::Required, request::hold)),
        ("/holds/{id}/capture", post(Key::Required, request::capture)),
        ("/holds/{id}/release", post(Key::Required, request::release)),
        ("/holds/{id}/extend", post(Key::Optional, request::extend)),
        ("/refunds", post(Key::Required, request::refund)),
        ("/transfers", post(Key::Required, request::transfer)),
        ("/accounts", put(request::account)),
        ("/limits", put(request::limit)),
        ("/debits/batch", axum::routing::post(batch::serve)),
    ];
    let add = |router: Router<_>, (path, route)| router.route(&format!("{BASE}{path}"), route);
    routes.into_iter().fold(Router::new(), add)
}

fn change(method: MethodFilter, key: Key, read: Read) -> MethodRouter<Arc<App>> {
    on(method, move |State(app): State<Arc<App>>, request: Request| serve(app, key, read, request))
}

const USER: Field = Field::text("user_id").optional().note("The owner; or `organization_id`, never both");
const ORGANIZATION: Field = Field::text("organization_id").optional();
const GUEST: Field =
    Field::text("guest_id").optional().note("The owner, when it is a visitor without an account");
const UNIT: Field = Field::text("unit").optional().note("Default: the first of the configuration");
const AMOUNT: Field = Field::integer("amount").note("1 to 9007199254740991");
const REASON: Field = Field::text("reason").note("At most 500 characters");
const METADATA: Field =
    Field::new("metadata", Kind::Object).optional().note("Kept on the entry, at most 4 KiB");
const FEATURE: Field =
    Field::text("feature").optional().note("In place of `amount`: priced by the configuration");
const QUANTITY: Field = Field::integer("quantity").optional().note("Of the feature; default 1");
const MODEL: Field = Field::text("model").optional().note("In place of `amount`: priced by its tokens");
const TOKENS: Field =
    Field::new("tokens", Kind::Object).optional().note("`input`, `output`, `cached`, `reasoning`: counts");
const EXPIRES_IN: Field = Field::integer("expires_in").note("Seconds, 1 to 86400");

const KEYED: &str = "Needs the header `Idempotency-Key` (1 to 255 visible ASCII characters). The same key with the same \
    request gets the first answer again, with `Idempotent-Replayed: true`; with another request 409 `idempotency_mismatch`.";
const MAY_BE_KEYED: &str = "Takes the header `Idempotency-Key`.";
const SPENDS: &[(u16, &str)] = &[
    (201, "Done"),
    (402, "`insufficient_credits`: with `balance`, `available`, `required`, `unit`, `buy_url`"),
    (404, "There is no such owner"),
    (409, "`idempotency_mismatch`: with `field`"),
    (422, "`invalid_request`: with `field`"),
    (429, "`limit_reached`: with `limit` and `resets_at`"),
];
const GIVES: &[(u16, &str)] = &[
    (201, "Done"),
    (404, "There is no such owner or entry"),
    (409, "`idempotency_mismatch` with `field`, or `conflict`"),
    (422, "`invalid_request`: with `field`"),
];
const CAPTURES: &[(u16, &str)] = &[
    (200, "Done"),
    (402, "`insufficient_credits`: what goes beyond the hold is not there"),
    (404, "There is no such hold"),
    (409, "`conflict`: the hold has ended already, or is of less; or `idempotency_mismatch`"),
    (422, "`invalid_request`: with `field`"),
    (429, "`limit_reached`: with `limit` and `resets_at`"),
];
const MOVES: &[(u16, &str)] = &[
    (201, "Done"),
    (402, "`insufficient_credits`: with `balance`, `available`, `required`, `unit`, `buy_url`"),
    (404, "There is no such owner: `field` is `from` or `to`"),
    (409, "`idempotency_mismatch`: with `field`"),
    (422, "`invalid_request`: with `field`"),
];
const ON_HOLDS: &[(u16, &str)] = &[
    (200, "Done"),
    (404, "There is no such hold"),
    (409, "`conflict`: the hold has ended already; or `idempotency_mismatch`"),
    (422, "`invalid_request`: with `field`"),
];
const SETS: &[(u16, &str)] =
    &[(200, "Done"), (404, "There is no such owner"), (422, "`invalid_request`: with `field`")];

const fn of(doc: RouteDoc) -> RouteDoc {
    doc.door(Door::Credits).auth(Auth::ServiceKey)
}

pub(super) const ROUTES: &[RouteDoc] = &[
    of(RouteDoc::post("/api/credits/grants", "Gives credits"))
        .body(&[
            USER,
            ORGANIZATION,
            GUEST,
            AMOUNT,
            UNIT,
            Field::text("source").note("`promo`, `signup`, `adjustment`, `plan` or `paid`"),
            Field::text("expires_at").optional().note("RFC 3339; default never"),
            Field::integer("priority").optional().note("0 to 100, low is spent first; default 50"),
            REASON,
            METADATA,
        ])
        .answers(GIVES)
        .notes(KEYED),
    of(RouteDoc::post("/api/credits/debits", "Spends credits"))
        .body(&[
            USER,
            ORGANIZATION,
            GUEST,
            AMOUNT.optional(),
            UNIT,
            FEATURE,
            QUANTITY,
            MODEL,
            TOKENS,
            REASON.optional(),
            METADATA,
            Field::boolean("allow_negative").optional().note("Down to the owner's floor"),
        ])
        .answers(SPENDS)
        .notes(KEYED),
    of(RouteDoc::post("/api/credits/debits/batch", "Spends credits many times"))
        .body(&[
            Field::new("debits", Kind::List)
                .note("1 to 1000 debits, each with an `idempotency_key` of its own"),
            Field::boolean("atomic").optional().note("All or none"),
        ])
        .answers(&[(200, "`results` in the order of `debits`, each with the `status` of its own")])
        .notes("Takes up to 1 MiB."),
    of(RouteDoc::post("/api/credits/holds", "Reserves credits"))
        .body(&[
            USER,
            ORGANIZATION,
            GUEST,
            AMOUNT.optional(),
            UNIT,
            FEATURE,
            QUANTITY,
            MODEL,
            TOKENS,
            EXPIRES_IN,
            REASON.optional(),
            METADATA,
        ])
        .answers(SPENDS)
        .notes(KEYED),
    of(RouteDoc::post("/api/credits/holds/{id}/capture", "Spends what a hold reserved"))
        .body(&[
            AMOUNT.optional().note("Default: all of it; less frees the rest"),
            Field::text("above")
                .optional()
                .note("For more than was held: `refuse` (default), `cap`, `balance`, `floor`"),
        ])
        .answers(CAPTURES)
        .notes(KEYED),
    of(RouteDoc::post("/api/credits/holds/{id}/release", "Frees what a hold reserved"))
        .answers(ON_HOLDS)
        .notes(KEYED),
    of(RouteDoc::post("/api/credits/holds/{id}/extend", "Lets a hold last longer"))
        .body(&[EXPIRES_IN])
        .answers(ON_HOLDS)
        .notes(MAY_BE_KEYED),
    of(RouteDoc::post("/api/credits/refunds", "Gives back what was spent"))
        .body(&[
            Field::text("entry_id").note("Of a debit or capture"),
            AMOUNT.optional().note("Default: all that was not given back yet"),
            REASON,
        ])
        .answers(GIVES)
        .notes(KEYED),
    of(RouteDoc::post("/api/credits/transfers", "Moves credits to another owner"))
        .body(&[
            Field::new("from", Kind::Object).note("An owner: `user_id` or `organization_id`"),
            Field::new("to", Kind::Object).note("An owner"),
            AMOUNT,
            UNIT,
            REASON,
        ])
        .answers(MOVES)
        .notes(KEYED),
    of(RouteDoc::new("PUT", "/api/credits/accounts", "Sets how far below zero an owner may go"))
        .body(&[USER, ORGANIZATION, GUEST, UNIT, Field::integer("negative_floor").note("0 or below")])
        .answers(SETS),
    of(RouteDoc::new("PUT", "/api/credits/limits", "Sets or takes away a limit on spending"))
        .body(&[
            USER,
            ORGANIZATION,
            GUEST,
            UNIT,
            Field::text("window").note("`day` or `month`"),
            Field::integer("max").note("`null` takes the limit away"),
            Field::text("key_id").optional(),
            Field::text("member_user_id").optional(),
        ])
        .answers(SETS),
];
