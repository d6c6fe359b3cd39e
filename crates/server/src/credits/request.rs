//! What a body at the credits door asks for, and that same request in the one spelling by which replays are judged.

use crate::service::Failure;
use crate::service::json::{Json, Members, REASON_CHARS};
use credits::{
    Above, Action, Charge, Item, NewGrant, NoPrice, Owner, Period, Settings, Source, Spender, SpentBy,
    Target, Tokens, push_text,
};
use kernel::time;
use std::borrow::Cow;

/// Seconds that a hold may last.
const HOLD_SECONDS: i64 = 86_400;
const DEFAULT_PRIORITY: i64 = 50;

/// What every reader knows besides the body.
pub(crate) struct Desk<'a> {
    pub settings: &'a Settings,
    pub price_version: i64,
    /// The id in the path; empty where there is none.
    pub id: &'a str,
}

/// A request as it was understood.
pub(crate) struct Order {
    pub target: Target,
    pub action: Action,
    /// See [`credits::Idempotency`].
    pub spelling: String,
}

/// The members of a request that were not left at their defaults.
#[derive(Default)]
struct Spelling<'a>(Vec<(&'static str, Said<'a>)>);

enum Said<'a> {
    Number(i64),
    Text(&'a str),
    Raw(Cow<'a, str>),
}

impl<'a> Spelling<'a> {
    fn new() -> Spelling<'a> {
        Spelling(Vec::with_capacity(8))
    }

    fn number(&mut self, name: &'static str, value: i64) {
        self.0.push((name, Said::Number(value)));
    }

    fn text(&mut self, name: &'static str, value: &'a str) {
        self.0.push((name, Said::Text(value)));
    }

    fn maybe(&mut self, name: &'static str, value: Option<&'a str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn raw(&mut self, name: &'static str, value: Option<&'a str>) {
        if let Some(value) = value {
            self.0.push((name, Said::Raw(value.into())));
        }
    }

    fn owner(&mut self, owner: &'a Owner) {
        self.text(owner.field(), owner.id());
    }

    fn unit(&mut self, settings: &Settings, unit: &'a str) {
        if unit != settings.default_unit() {
            self.text("unit", unit);
        }
    }

    fn end(mut self) -> String {
        self.0.sort_unstable_by_key(|(name, _)| *name);
        let mut out = String::with_capacity(160);
        out.push('{');
        for (name, said) in &self.0 {
            if out.len() > 1 {
                out.push(',');
            }
            out.push('"');
            out.push_str(name);
            out.push_str("\":");
            match said {
                Said::Number(number) => out.push_str(&number.to_string()),
                Said::Text(text) => push_text(&mut out, text),
                Said::Raw(json) => out.push_str(json),
            }
        }
        out.push('}');
        out
    }
}

pub(super) fn grant(members: &mut Members<'_>, desk: &Desk<'_>) -> Result<Order, Failure> {
    let owner = members.owner()?;
    let amount = members.amount("amount")?;
    let amount = members.required("amount", amount)?;
    let unit = unit_or_default(members, desk)?;
    let source = chosen(members, "source", Source::parse, "promo, signup, adjustment, plan or paid")?;
    let source = members.required("source", source)?;
    let expires_at = members.time("expires_at")?;
    let priority = members.integer("priority", 0..=100)?.unwrap_or(DEFAULT_PRIORITY);
    let reason = needed_reason(members)?;
    let metadata = members.metadata("metadata")?;

    let until = expires_at.map(|at| at.iso());
    let mut spelling = Spelling::new();
    spelling.owner(&owner);
    spelling.number("amount", amount);
    spelling.unit(desk.settings, &unit);
    spelling.text("source", source.name());
    spelling.maybe("expires_at", until.as_deref());
    if priority != DEFAULT_PRIORITY {
        spelling.number("priority", priority);
    }
    spelling.text("reason", &reason);
    spelling.raw("metadata", metadata.as_deref());
    let spelling = spelling.end();
    let reason = Some(reason);
    let (source_ref, rollover) = (None, None);
    let grant = NewGrant { amount, source, expires_at, priority, reason, metadata, source_ref, rollover };
    Ok(Order { target: Target::Owner { owner, unit }, action: Action::Grant(grant), spelling })
}

pub(super) fn debit(members: &mut Members<'_>, desk: &Desk<'_>) -> Result<Order, Failure> {
    let owner = members.owner()?;
    let price = price(members, desk)?;
    let reason = reason(members)?;
    let metadata = members.metadata("metadata")?;
    let allow_negative = members.flag("allow_negative")?;
    let spend = Spend { price, hold_seconds: None, reason, metadata, allow_negative };
    let named = owner.clone();
    Ok(spend.order(owner, &named, desk.settings))
}

pub(super) fn hold(members: &mut Members<'_>, desk: &Desk<'_>) -> Result<Order, Failure> {
    let owner = members.owner()?;
    let price = price(members, desk)?;
    let seconds = hold_seconds(members, "expires_in")?;
    let seconds = members.required("expires_in", seconds)?;
    let reason = reason(members)?;
    let metadata = members.metadata("metadata")?;
    let spend = Spend { price, hold_seconds: Some(seconds), reason, metadata, allow_negative: false };
    let named = owner.clone();
    Ok(spend.order(owner, &named, desk.settings))
}

/// What is to be spent or reserved, whoever will pay. The gate spells it as this door does, so that a key means the same
/// through both.
pub(crate) struct Spend<'a> {
    pub price: Priced<'a>,
    /// It is reserved for so long, not spent.
    pub hold_seconds: Option<i64>,
    pub reason: Option<String>,
    pub metadata: Option<String>,
    pub allow_negative: bool,
}

impl Spend<'_> {
    /// `named` stands in the spelling: whom the request names, or would have named, as the one who pays.
    pub fn order(self, owner: Owner, named: &Owner, settings: &Settings) -> Order {
        let Spend { price, hold_seconds, reason, metadata, allow_negative } = self;
        let mut spelling = Spelling::new();
        spelling.owner(named);
        price.spell(&mut spelling, settings);
        if let Some(seconds) = hold_seconds {
            spelling.number("expires_in", seconds);
        }
        spelling.maybe("reason", reason.as_deref());
        spelling.raw("metadata", metadata.as_deref());
        if allow_negative {
            spelling.raw("allow_negative", Some("true"));
        }
        let spelling = spelling.end();
        let (charge, unit) = price.done();
        let action = match hold_seconds {
            None => Action::Debit { charge, reason, metadata, allow_negative },
            Some(seconds) => Action::Hold { charge, expires_in: seconds * time::SECOND, reason, metadata },
        };
        Order { target: Target::Owner { owner, unit }, action, spelling }
    }
}

pub(super) fn capture(members: &mut Members<'_>, desk: &Desk<'_>) -> Result<Order, Failure> {
    let (account, hold) = item(desk.id, Item::Hold, None)?;
    let amount = members.amount("amount")?;
    let above =
        chosen(members, "above", |text| Above::parse(text).map(|above| (above, text.to_owned())), ABOVE)?;

    let mut spelling = Spelling::new();
    spelling.text("hold_id", desk.id);
    if let Some(amount) = amount {
        spelling.number("amount", amount);
    }
    if let Some((_, name)) = above.as_ref().filter(|(above, _)| *above != Above::default()) {
        spelling.text("above", name);
    }
    let spelling = spelling.end();
    let above = above.map(|(above, _)| above).unwrap_or_default();
    Ok(Order { target: Target::Account(account), action: Action::Capture { hold, amount, above }, spelling })
}

const ABOVE: &str = "refuse, cap, balance or floor";

pub(super) fn release(_: &mut Members<'_>, desk: &Desk<'_>) -> Result<Order, Failure> {
    let (account, hold) = item(desk.id, Item::Hold, None)?;
    let mut spelling = Spelling::new();
    spelling.text("hold_id", desk.id);
    Ok(Order { target: Target::Account(account), action: Action::Release { hold }, spelling: spelling.end() })
}

pub(super) fn extend(members: &mut Members<'_>, desk: &Desk<'_>) -> Result<Order, Failure> {
    let (account, hold) = item(desk.id, Item::Hold, None)?;
    let seconds = hold_seconds(members, "expires_in")?;
    let seconds = members.required("expires_in", seconds)?;
    let mut spelling = Spelling::new();
    spelling.text("hold_id", desk.id);
    spelling.number("expires_in", seconds);
    let action = Action::Extend { hold, expires_in: seconds * time::SECOND };
    Ok(Order { target: Target::Account(account), action, spelling: spelling.end() })
}

pub(super) fn refund(members: &mut Members<'_>, _: &Desk<'_>) -> Result<Order, Failure> {
    let id = members.id("entry_id")?;
    let id = members.required("entry_id", id)?;
    let amount = members.amount("amount")?;
    let reason = needed_reason(members)?;
    let (account, entry) = item(&id, Item::Entry, Some("entry_id"))?;

    let mut spelling = Spelling::new();
    spelling.text("entry_id", &id);
    if let Some(amount) = amount {
        spelling.number("amount", amount);
    }
    spelling.text("reason", &reason);
    let spelling = spelling.end();
    Ok(Order { target: Target::Account(account), action: Action::Refund { entry, amount, reason }, spelling })
}

pub(super) fn transfer(members: &mut Members<'_>, desk: &Desk<'_>) -> Result<Order, Failure> {
    let from = party(members, "from")?;
    let to = party(members, "to")?;
    let amount = members.amount("amount")?;
    let amount = members.required("amount", amount)?;
    let unit = unit_or_default(members, desk)?;
    let reason = needed_reason(members)?;

    let (sender, receiver) = (spelled(&from), spelled(&to));
    let mut spelling = Spelling::new();
    spelling.raw("from", Some(&sender));
    spelling.raw("to", Some(&receiver));
    spelling.number("amount", amount);
    spelling.unit(desk.settings, &unit);
    spelling.text("reason", &reason);
    let spelling = spelling.end();
    let action = Action::Transfer { to, amount, reason };
    Ok(Order { target: Target::Owner { owner: from, unit }, action, spelling })
}

fn party(members: &mut Members<'_>, name: &str) -> Result<Owner, Failure> {
    let party = members.object(name)?;
    let mut party = members.required(name, party)?;
    let owner = party.owner()?;
    party.finish()?;
    Ok(owner)
}

fn spelled(owner: &Owner) -> String {
    let mut spelling = Spelling::new();
    spelling.owner(owner);
    spelling.end()
}

pub(super) fn account(members: &mut Members<'_>, desk: &Desk<'_>) -> Result<Order, Failure> {
    let owner = members.owner()?;
    let unit = unit_or_default(members, desk)?;
    let floor = members.integer("negative_floor", -credits::MAX_AMOUNT..=0)?;
    let floor = members.required("negative_floor", floor)?;
    Ok(Order {
        target: Target::Owner { owner, unit },
        action: Action::SetFloor { floor },
        spelling: String::new(),
    })
}

pub(super) fn limit(members: &mut Members<'_>, desk: &Desk<'_>) -> Result<Order, Failure> {
    let owner = members.owner()?;
    let unit = unit_or_default(members, desk)?;
    let period = chosen(members, "window", Period::parse, "day or month")?;
    let period = members.required("window", period)?;
    let max = limit_max(members)?;
    let key = members.id("key_id")?.map(|id| SpentBy::Key(id.into_owned()));
    let member = members.id("member_user_id")?.map(|id| SpentBy::Member(id.into_owned()));
    if key.is_some() && member.is_some() {
        return Err(members.invalid("member_user_id", "a limit is for a key or for a member, not for both"));
    }
    Ok(Order {
        target: Target::Owner { owner, unit },
        action: Action::SetLimit { of: key.or(member), period, max },
        spelling: String::new(),
    })
}

/// `null` takes the limit away, so it has to be written.
fn limit_max(members: &mut Members<'_>) -> Result<Option<i64>, Failure> {
    match members.take_null("max")? {
        None => Err(Failure::missing(members.field("max"))),
        Some(Json::Null) => Ok(None),
        Some(Json::Number(number))
            if number.as_i64().is_some_and(|max| (0..=credits::MAX_AMOUNT).contains(&max)) =>
        {
            Ok(number.as_i64())
        }
        Some(_) => Err(members.invalid("max", "it must be an integer from 0 to 9007199254740991, or null")),
    }
}

// ---- what several bodies have in common

fn unit_or_default(members: &mut Members<'_>, desk: &Desk<'_>) -> Result<String, Failure> {
    let unit = members.unit(desk.settings)?;
    Ok(unit.map_or_else(|| desk.settings.default_unit().to_owned(), Cow::into_owned))
}

fn chosen<T>(
    members: &mut Members<'_>,
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
    choices: &str,
) -> Result<Option<T>, Failure> {
    let Some(text) = members.id(name)? else { return Ok(None) };
    parse(&text).map(Some).ok_or_else(|| members.invalid(name, format!("it must be {choices}")))
}

pub(crate) fn reason(members: &mut Members<'_>) -> Result<Option<String>, Failure> {
    Ok(members.text("reason", REASON_CHARS)?.map(Cow::into_owned))
}

fn needed_reason(members: &mut Members<'_>) -> Result<String, Failure> {
    let reason = reason(members)?.filter(|reason| !reason.trim().is_empty());
    members.required("reason", reason)
}

pub(crate) fn hold_seconds(members: &mut Members<'_>, name: &str) -> Result<Option<i64>, Failure> {
    members.integer(name, 1..=HOLD_SECONDS)
}

fn item(id: &str, kind: Item, field: Option<&str>) -> Result<(credits::AccountId, i64), Failure> {
    credits::parse_item(id, kind).ok_or_else(|| Failure::NotFound {
        what: if kind == Item::Hold { "hold" } else { "entry" },
        field: field.map(str::to_owned),
    })
}

/// What is to be paid, and how the caller said it.
pub(crate) struct Priced<'a> {
    charge: Charge,
    unit: String,
    /// The model, when tokens are paid for.
    model: Option<(Cow<'a, str>, Tokens)>,
}

impl Priced<'_> {
    /// Of one use of a feature; `None` when it stands in no price list.
    pub fn of_feature(settings: &Settings, price_version: i64, feature: &str) -> Option<Priced<'static>> {
        let (charge, unit) = settings.charge(feature, 1, price_version).ok()?;
        Some(Priced { charge, unit: unit.to_owned(), model: None })
    }

    fn spell<'s>(&'s self, spelling: &mut Spelling<'s>, settings: &Settings) {
        if let Some((model, tokens)) = &self.model {
            spelling.text("model", model);
            spelling.0.push(("tokens", Said::Raw(spelled_tokens(tokens).into())));
        } else if let Some(feature) = &self.charge.feature {
            spelling.text("feature", feature);
            if let Some(quantity) = self.charge.quantity.filter(|quantity| *quantity != 1) {
                spelling.number("quantity", quantity);
            }
        } else {
            spelling.number("amount", self.charge.amount);
            spelling.unit(settings, &self.unit);
        }
    }

    /// The same, spent by somebody who may have limits beside the owner's.
    pub fn by(mut self, spender: Option<Spender>) -> Self {
        self.charge.spender = spender;
        self
    }

    fn done(self) -> (Charge, String) {
        (self.charge, self.unit)
    }
}

fn spelled_tokens(tokens: &Tokens) -> String {
    let kinds = [
        ("input", tokens.input),
        ("output", tokens.output),
        ("cached", tokens.cached),
        ("reasoning", tokens.reasoning),
    ];
    let mut spelling = Spelling::new();
    kinds.into_iter().filter(|(_, count)| *count != 0).for_each(|(name, count)| spelling.number(name, count));
    spelling.end()
}

/// An amount, or a feature and how much of it, or a model and its tokens.
pub(crate) fn price<'a>(members: &mut Members<'a>, desk: &Desk<'_>) -> Result<Priced<'a>, Failure> {
    let amount = members.amount("amount")?;
    let feature = members.id("feature")?;
    let model = members.id("model")?;
    let quantity = members.amount("quantity")?;
    let tokens = members.object("tokens")?;
    let unit = members.unit(desk.settings)?;
    if quantity.is_some() && feature.is_none() {
        return Err(members.invalid("quantity", "it goes with a feature"));
    }
    if tokens.is_some() && model.is_none() {
        return Err(members.invalid("tokens", "they go with a model"));
    }
    let (settings, version) = (desk.settings, desk.price_version);
    match (amount, feature, model) {
        (Some(amount), None, None) => {
            let unit = unit.map_or_else(|| settings.default_unit().to_owned(), Cow::into_owned);
            Ok(Priced { charge: Charge { amount, ..Charge::default() }, unit, model: None })
        }
        (None, Some(feature), None) => {
            let priced = settings.charge(&feature, quantity.unwrap_or(1), version);
            let (charge, own) = priced.map_err(|why| no_price(members, why, "feature", "quantity"))?;
            same_unit(members, unit, own)?;
            Ok(Priced { charge, unit: own.to_owned(), model: None })
        }
        (None, None, Some(model)) => {
            let tokens = read_tokens(members.required("tokens", tokens)?)?;
            let priced = settings.charge_tokens(&model, tokens, version);
            let (charge, own) = priced.map_err(|why| no_price(members, why, "model", "tokens"))?;
            same_unit(members, unit, own)?;
            if charge.amount < 1 {
                return Err(members.invalid("tokens", "they cost nothing"));
            }
            Ok(Priced { charge, unit: own.to_owned(), model: Some((model, tokens)) })
        }
        (None, None, None) => Err(members.invalid("amount", "an amount, a feature or a model is required")),
        (Some(_), Some(_), _) => Err(members.invalid("feature", "it excludes an amount")),
        (_, _, Some(_)) => Err(members.invalid("model", "it excludes an amount and a feature")),
    }
}

fn read_tokens(mut tokens: Members<'_>) -> Result<Tokens, Failure> {
    let mut count = |name| tokens.integer(name, 0..=credits::MAX_AMOUNT).map(Option::unwrap_or_default);
    let read = Tokens {
        input: count("input")?,
        output: count("output")?,
        cached: count("cached")?,
        reasoning: count("reasoning")?,
    };
    tokens.finish()?;
    Ok(read)
}

fn same_unit(members: &Members<'_>, given: Option<Cow<'_, str>>, own: &str) -> Result<(), Failure> {
    match given {
        Some(given) if given != own => Err(members.invalid("unit", format!("this is paid in {own}"))),
        _ => Ok(()),
    }
}

fn no_price(members: &Members<'_>, why: NoPrice, unknown: &str, too_much: &str) -> Failure {
    match why {
        NoPrice::Unknown => members.invalid(unknown, "it stands in no price list"),
        NoPrice::TooMuch => members.invalid(too_much, "so much costs more than can be counted exactly"),
    }
}
