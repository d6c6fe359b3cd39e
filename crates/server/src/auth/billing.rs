//! What the person who is signed in may buy and has bought. The browser names an item of the catalogue; prices, credits and owners
//! never come from it.

use super::endpoint::{Access, Call, Endpoint, Outcome, Reply, Spec};
use super::error::{Code, Failure};
use super::fields::Fields;
use crate::billing::shapes::{self, Case};
use crate::billing::{AFTER_CANCEL, after_success, return_url};
use crate::settings::Switch;
use billing::Problem;
use billing::checkouts::Wish;
use billing::desk::{Desk, Error};
use billing::selling::{Buyer, NotSold, Returns};
use billing::stripe::Trouble;
use billing::topups::Wanted;
use credits::{MAX_AMOUNT, Owner};
use identity::organizations::{self, permissions};
use kernel::OrganizationId;
use serde_json::json;

pub struct BillingCatalog;
pub struct BillingCheckout;
pub struct BillingCheckoutStatus;
pub struct BillingPortal;
pub struct BillingSubscription;
pub struct BillingChange;
pub struct BillingCancel;
pub struct BillingResume;
pub struct BillingInvoices;
pub struct BillingTopUp;
pub struct BillingSetTopUp;

impl Endpoint for BillingCatalog {
    type Input = ();
    const SPEC: Spec = Spec::get("/billing/catalog", Access::Anyone, "What is sold");

    fn read(_: &mut Fields) {}

    async fn run(call: Call, (): ()) -> Outcome {
        Ok(Reply::json(&shapes::catalogue(&desk(&call)?.tools().terms.catalogue, Case::Camel)))
    }
}

pub struct CheckoutInput {
    wish: Wish,
    success: Option<String>,
    cancel: Option<String>,
    organization: Option<String>,
}

impl Endpoint for BillingCheckout {
    type Input = CheckoutInput;
    const SPEC: Spec = Spec::post("/billing/checkout", Access::SignedIn, "Opens a checkout at Stripe");

    fn read(fields: &mut Fields) -> CheckoutInput {
        fields.need_object();
        CheckoutInput {
            wish: Wish {
                item: fields.some_text("price"),
                quantity: fields.maybe_amount("quantity"),
                amount: fields.maybe_amount("amount"),
                keep_method: fields.maybe_flag("savePaymentMethod").unwrap_or_default(),
            },
            success: fields.maybe_text("successUrl"),
            cancel: fields.maybe_text("cancelUrl"),
            organization: fields.maybe_text("organizationId"),
        }
    }

    async fn run(call: Call, input: CheckoutInput) -> Outcome {
        let desk = desk(&call)?;
        let returns = Returns {
            success_url: target(&call, input.success.as_deref(), &after_success())?,
            cancel_url: target(&call, input.cancel.as_deref(), AFTER_CANCEL)?,
        };
        let buyer = buyer(&call, input.organization.as_deref()).await?;
        let opened = desk.checkout(&buyer, &input.wish, &returns).await.map_err(not_sold)?;
        Ok(Reply::json(&json!({ "url": opened.url, "redirect": true })))
    }
}

impl Endpoint for BillingCheckoutStatus {
    type Input = (String, Option<String>);
    const SPEC: Spec =
        Spec::get("/billing/checkout-status", Access::SignedIn, "What has become of one's own checkout");

    fn read(fields: &mut Fields) -> (String, Option<String>) {
        (fields.query("session"), fields.maybe_query("organizationId"))
    }

    async fn run(call: Call, (session, organization): (String, Option<String>)) -> Outcome {
        let owner = buyer(&call, organization.as_deref()).await?.owner;
        let found = desk(&call)?.checkout_status(&owner, &session).await.map_err(failed)?;
        Ok(Reply::json(&shapes::checkout(&found.ok_or(Code::NotFound)?)))
    }
}

impl Endpoint for BillingPortal {
    type Input = (Option<String>, Option<String>);
    const SPEC: Spec = Spec::post("/billing/portal", Access::SignedIn, "Opens Stripe's portal");

    fn read(fields: &mut Fields) -> (Option<String>, Option<String>) {
        fields.maybe_object();
        (fields.maybe_text("returnUrl"), fields.maybe_text("organizationId"))
    }

    async fn run(call: Call, (back, organization): (Option<String>, Option<String>)) -> Outcome {
        let back = target(&call, back.as_deref(), AFTER_CANCEL)?;
        let buyer = buyer(&call, organization.as_deref()).await?;
        let url = desk(&call)?.portal(&buyer, &back).await.map_err(failed)?;
        Ok(Reply::json(&json!({ "url": url, "redirect": true })))
    }
}

impl Endpoint for BillingSubscription {
    type Input = Option<String>;
    const SPEC: Spec = Spec::get("/billing/subscription", Access::SignedIn, "One's own subscription");

    fn read(fields: &mut Fields) -> Option<String> {
        fields.maybe_query("organizationId")
    }

    async fn run(call: Call, organization: Option<String>) -> Outcome {
        let owner = buyer(&call, organization.as_deref()).await?.owner;
        let running = desk(&call)?.subscription_of(&owner).await?;
        Ok(Reply::json(&shapes::subscription(running.as_ref(), Case::Camel)))
    }
}

pub struct ChangeInput {
    plan: String,
    preview: bool,
    organization: Option<String>,
}

impl Endpoint for BillingChange {
    type Input = ChangeInput;
    const SPEC: Spec = Spec::post(
        "/billing/subscription/change",
        Access::SignedIn,
        "Changes the plan, or shows what it costs",
    );

    fn read(fields: &mut Fields) -> ChangeInput {
        fields.need_object();
        ChangeInput {
            plan: fields.some_text("plan"),
            preview: fields.maybe_flag("preview").unwrap_or_default(),
            organization: fields.maybe_text("organizationId"),
        }
    }

    async fn run(call: Call, input: ChangeInput) -> Outcome {
        let desk = desk(&call)?;
        let owner = buyer(&call, input.organization.as_deref()).await?.owner;
        if input.preview {
            let preview = desk.preview_change(&owner, &input.plan).await.map_err(not_sold)?;
            return Ok(Reply::json(&shapes::preview(&preview, Case::Camel)));
        }
        let running = desk.change_plan(&owner, &input.plan).await.map_err(not_sold)?;
        Ok(Reply::json(&shapes::subscription(Some(&running), Case::Camel)))
    }
}

impl Endpoint for BillingCancel {
    type Input = Option<String>;
    const SPEC: Spec = Spec::post(
        "/billing/subscription/cancel",
        Access::SignedIn,
        "Ends the subscription with the paid period",
    );

    fn read(fields: &mut Fields) -> Option<String> {
        fields.maybe_object();
        fields.maybe_text("organizationId")
    }

    async fn run(call: Call, organization: Option<String>) -> Outcome {
        let owner = buyer(&call, organization.as_deref()).await?.owner;
        let running = desk(&call)?.cancel(&owner).await.map_err(not_sold)?;
        Ok(Reply::json(&shapes::subscription(Some(&running), Case::Camel)))
    }
}

impl Endpoint for BillingResume {
    type Input = Option<String>;
    const SPEC: Spec =
        Spec::post("/billing/subscription/resume", Access::SignedIn, "Takes a cancellation back");

    fn read(fields: &mut Fields) -> Option<String> {
        fields.maybe_object();
        fields.maybe_text("organizationId")
    }

    async fn run(call: Call, organization: Option<String>) -> Outcome {
        let owner = buyer(&call, organization.as_deref()).await?.owner;
        let running = desk(&call)?.resume(&owner).await.map_err(not_sold)?;
        Ok(Reply::json(&shapes::subscription(Some(&running), Case::Camel)))
    }
}

impl Endpoint for BillingInvoices {
    type Input = Option<String>;
    const SPEC: Spec = Spec::get("/billing/invoices", Access::SignedIn, "One's own invoices, newest first");

    fn read(fields: &mut Fields) -> Option<String> {
        fields.maybe_query("organizationId")
    }

    async fn run(call: Call, organization: Option<String>) -> Outcome {
        let owner = buyer(&call, organization.as_deref()).await?.owner;
        let invoices = desk(&call)?.invoices(&owner).await.map_err(failed)?;
        let items: Vec<_> = invoices.iter().map(|invoice| shapes::invoice(invoice, Case::Camel)).collect();
        Ok(Reply::json(&json!({ "items": items, "nextCursor": null })))
    }
}

impl Endpoint for BillingTopUp {
    type Input = Option<String>;
    const SPEC: Spec =
        Spec::get("/billing/auto-topup", Access::SignedIn, "What is bought automatically, and how that goes");

    fn read(fields: &mut Fields) -> Option<String> {
        fields.maybe_query("organizationId")
    }

    async fn run(call: Call, organization: Option<String>) -> Outcome {
        let owner = buyer(&call, organization.as_deref()).await?.owner;
        Ok(Reply::json(&shapes::top_up(&desk(&call)?.top_up_of(&owner).await?, Case::Camel)))
    }
}

impl Endpoint for BillingSetTopUp {
    type Input = (Wanted, Option<String>);
    const SPEC: Spec =
        Spec::post("/billing/auto-topup", Access::SignedIn, "Buys a pack whenever little is left");

    fn read(fields: &mut Fields) -> (Wanted, Option<String>) {
        fields.need_object();
        let wanted = Wanted {
            below: fields.maybe_amount("below"),
            pack: fields.maybe_text("pack"),
            monthly_max: fields.maybe_amount("monthlyMax"),
            enabled: fields.maybe_flag("enabled"),
        };
        (wanted, fields.maybe_text("organizationId"))
    }

    async fn run(call: Call, (wanted, organization): (Wanted, Option<String>)) -> Outcome {
        let owner = buyer(&call, organization.as_deref()).await?.owner;
        let too_many = |amount: Option<i64>| amount.is_some_and(|amount| amount > MAX_AMOUNT);
        if too_many(wanted.below) || too_many(wanted.monthly_max) {
            return Err(Failure::Validation(format!("[body] Too big: expected amounts up to {MAX_AMOUNT}")));
        }
        let shown = desk(&call)?.set_top_up(&owner, wanted).await?;
        let shown = shown.map_err(|wrong| {
            let field = if wrong.field == "monthly_max" { "monthlyMax" } else { wrong.field };
            Failure::Validation(format!("[body.{field}] Invalid input: {}", wrong.message))
        })?;
        Ok(Reply::json(&shapes::top_up(&shown, Case::Camel)))
    }
}

fn desk(call: &Call) -> Result<Desk, Failure> {
    call.app.billing.clone().ok_or(Code::BillingOff.into())
}

/// Who buys: the session's user, or an organization for those of its members who may buy for it. An address goes to Stripe
/// only when it was proved.
async fn buyer(call: &Call, organization: Option<&str>) -> Result<Buyer, Failure> {
    let user = &call.signed_in()?.user;
    let email = user.email_verified.then(|| user.email.clone());
    let Some(organization) = organization.filter(|id| !id.is_empty()) else {
        return Ok(Buyer { owner: Owner::User(user.id.as_str().to_owned()), email });
    };
    if !call.app.settings.methods.has(Switch::Organizations) {
        return Err(Code::NotAMember.into());
    }
    let (id, user) = (OrganizationId::from_text(organization), user.id.clone());
    let role = call.app.store.read(move |tx| organizations::member_role(tx, &id, &user));
    let role: Option<String> = role.await.map_err(|error: store::Error| error)?;
    if !permissions::may_buy(&role.ok_or(Code::NotAMember)?) {
        return Err(Code::MayNotBuy.into());
    }
    Ok(Buyer { owner: Owner::Organization(organization.to_owned()), email })
}

fn target(call: &Call, given: Option<&str>, otherwise: &str) -> Result<String, Failure> {
    return_url(&call.app, given, otherwise).ok_or(Code::InvalidRedirectUrl.into())
}

fn not_sold(error: NotSold) -> Failure {
    match error {
        NotSold::Unsellable(wrong) => {
            Failure::Validation(format!("[body.{}] Invalid input: {}", wrong.field, wrong.message))
        }
        NotSold::Subscribed => Code::AlreadySubscribed.into(),
        NotSold::UnderWay => Code::CheckoutUnderWay.into(),
        NotSold::NotSubscribed => Code::NotSubscribed.into(),
        NotSold::Declined(_) => Code::PaymentDeclined.into(),
        NotSold::Error(error) => failed(error),
    }
}

fn failed(error: Error) -> Failure {
    match error {
        Error::Problem(Problem::Store(error)) => Failure::Store(error),
        Error::Problem(problem) => Failure::Store(store::Error::Fault(problem.to_string())),
        Error::Stripe(Trouble::Unavailable(reason)) => {
            tracing::warn!(reason, "Stripe does not answer");
            Code::StripeSilent.into()
        }
        Error::Stripe(trouble) => {
            tracing::error!(%trouble, "a call to Stripe failed");
            Code::StripeRefused.into()
        }
    }
}
