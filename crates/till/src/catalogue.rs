//! Products and their prices.

use crate::api::{Answer, Call};
use crate::books::Books;
use crate::form::{Fields, Metadata};
use crate::lists::{self, Created};
use crate::refusal::Refusal;
use crate::shelf::Kept;
use serde_json::{Value, json};

pub(crate) const PRODUCT: &[&str] =
    &["active", "description", "id", "metadata", "metadata.*", "name", "tax_code"];

pub(crate) const PRICE: &[&str] = &[
    "active",
    "currency",
    "custom_unit_amount.enabled",
    "custom_unit_amount.maximum",
    "custom_unit_amount.minimum",
    "custom_unit_amount.preset",
    "lookup_key",
    "metadata",
    "metadata.*",
    "nickname",
    "product",
    "product_data.name",
    "recurring.interval",
    "recurring.interval_count",
    "tax_behavior",
    "unit_amount",
];

const CURRENCIES: &[&str] = &[
    "aud", "bhd", "brl", "cad", "chf", "czk", "dkk", "eur", "gbp", "hkd", "huf", "inr", "jpy", "krw", "kwd",
    "mxn", "nok", "nzd", "pln", "ron", "sek", "sgd", "usd", "zar",
];

#[derive(Debug, Clone)]
pub(crate) struct Product {
    pub(crate) id: String,
    created: i64,
    updated: i64,
    pub(crate) active: bool,
    pub(crate) name: String,
    description: Option<String>,
    tax_code: Option<String>,
    metadata: Metadata,
}

#[derive(Debug, Clone)]
pub(crate) struct Price {
    pub(crate) id: String,
    created: i64,
    pub(crate) active: bool,
    pub(crate) product: String,
    pub(crate) currency: String,
    /// None: the buyer names the amount.
    pub(crate) unit_amount: Option<i64>,
    pub(crate) custom: Option<CustomAmount>,
    pub(crate) recurring: Option<Recurring>,
    nickname: Option<String>,
    lookup_key: Option<String>,
    tax_behavior: String,
    metadata: Metadata,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CustomAmount {
    pub(crate) minimum: Option<i64>,
    pub(crate) maximum: Option<i64>,
    pub(crate) preset: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recurring {
    pub(crate) interval: &'static str,
    pub(crate) count: i64,
}

/// A price that is there from the beginning, under an id that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceSeed {
    pub id: String,
    /// The product's name, as the Checkout page shows it.
    pub name: String,
    /// In the currency's smallest unit; with `custom` the amount that the page suggests.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// `day`, `week`, `month` or `year` for a subscription's price.
    pub interval: Option<String>,
    /// The least and the most that a buyer may choose to pay.
    pub custom: Option<(i64, i64)>,
}

impl Kept for Product {
    const KIND: &'static str = "product";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Kept for Price {
    const KIND: &'static str = "price";

    fn id(&self) -> &str {
        &self.id
    }
}

impl Product {
    pub(crate) fn shown(&self) -> Value {
        json!({
            "id": self.id,
            "object": "product",
            "active": self.active,
            "created": self.created,
            "default_price": null,
            "description": self.description,
            "images": [],
            "livemode": false,
            "marketing_features": [],
            "metadata": self.metadata,
            "name": self.name,
            "package_dimensions": null,
            "shippable": null,
            "statement_descriptor": null,
            "tax_code": self.tax_code,
            "tax_details": null,
            "type": "service",
            "unit_label": null,
            "updated": self.updated,
            "url": null,
        })
    }
}

impl Price {
    pub(crate) fn shown(&self) -> Value {
        json!({
            "id": self.id,
            "object": "price",
            "active": self.active,
            "billing_scheme": "per_unit",
            "created": self.created,
            "currency": self.currency,
            "custom_unit_amount": self.custom.map(|custom| json!({
                "maximum": custom.maximum, "minimum": custom.minimum, "preset": custom.preset,
            })),
            "livemode": false,
            "lookup_key": self.lookup_key,
            "metadata": self.metadata,
            "nickname": self.nickname,
            "product": self.product,
            "recurring": self.recurring.map(|recurring| json!({
                "interval": recurring.interval,
                "interval_count": recurring.count,
                "meter": null,
                "trial_period_days": null,
                "usage_type": "licensed",
            })),
            "tax_behavior": self.tax_behavior,
            "tiers_mode": null,
            "transform_quantity": null,
            "type": if self.recurring.is_some() { "recurring" } else { "one_time" },
            "unit_amount": self.unit_amount,
            "unit_amount_decimal": self.unit_amount.map(|amount| amount.to_string()),
        })
    }

    /// The older form of a recurring price, which subscription items still carry.
    pub(crate) fn as_plan(&self) -> Value {
        json!({
            "id": self.id,
            "object": "plan",
            "active": self.active,
            "amount": self.unit_amount,
            "amount_decimal": self.unit_amount.map(|amount| amount.to_string()),
            "billing_scheme": "per_unit",
            "created": self.created,
            "currency": self.currency,
            "interval": self.recurring.map_or("month", |recurring| recurring.interval),
            "interval_count": self.recurring.map_or(1, |recurring| recurring.count),
            "livemode": false,
            "metadata": self.metadata,
            "meter": null,
            "nickname": self.nickname,
            "product": self.product,
            "tiers_mode": null,
            "transform_usage": null,
            "trial_period_days": null,
            "usage_type": "licensed",
        })
    }

    pub(crate) fn amount(&self) -> i64 {
        self.unit_amount.or(self.custom.and_then(|custom| custom.preset)).unwrap_or(0)
    }
}

pub(crate) fn currency_of(fields: &Fields<'_>) -> Result<String, Refusal> {
    let code = fields.required("currency")?.to_lowercase();
    if CURRENCIES.contains(&code.as_str()) {
        return Ok(code);
    }
    let message = format!("Invalid currency: {code}. The till knows {}.", CURRENCIES.join(", "));
    Err(Refusal::invalid(fields.name("currency"), message))
}

pub(crate) fn recurring_of(fields: &Fields<'_>) -> Result<Option<Recurring>, Refusal> {
    let Some(recurring) = fields.object("recurring") else { return Ok(None) };
    let interval = recurring
        .one_of("interval", &["day", "week", "month", "year"])?
        .ok_or_else(|| Refusal::missing(recurring.name("interval")))?;
    let count = recurring.integer_from("interval_count", 1)?.unwrap_or(1);
    Ok(Some(Recurring { interval, count }))
}

impl Books {
    pub(crate) fn create_product(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let id = match fields.filled("id") {
            Some(id) if self.products.get(id).is_some() => {
                let message = format!("Product already exists: {id}");
                return Err(Refusal::invalid("id", message).code("resource_already_exists"));
            }
            Some(id) => id.to_owned(),
            None => self.ids.next("prod"),
        };
        let mut product = self.new_product(id.clone(), fields.required("name")?);
        write_product(&mut product, &fields)?;
        self.products.put(product)?;
        self.emit("product.created", &id);
        self.answer(&id)
    }

    fn new_product(&self, id: String, name: &str) -> Product {
        Product {
            id,
            created: self.seconds(),
            updated: self.seconds(),
            active: true,
            name: name.to_owned(),
            description: None,
            tax_code: None,
            metadata: Metadata::new(),
        }
    }

    pub(crate) fn retrieve_product(&mut self, call: &Call) -> Answer {
        Ok(self.products.at(call.id())?.shown())
    }

    pub(crate) fn update_product(&mut self, call: &Call) -> Answer {
        let mut product = self.products.at(call.id())?.clone();
        write_product(&mut product, &call.fields())?;
        product.updated = self.seconds();
        *self.products.at_mut(call.id())? = product;
        self.emit("product.updated", call.id());
        self.answer(call.id())
    }

    pub(crate) fn list_products(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let active = fields.boolean("active")?;
        let ids = fields.texts("ids");
        let created = Created::read(&fields)?;
        let found = self
            .products
            .newest_first()
            .filter(|product| created.holds(product.created))
            .filter(|product| active.is_none_or(|active| product.active == active))
            .filter(|product| ids.is_empty() || ids.contains(&product.id.as_str()))
            .map(|product| (product.id.clone(), product));
        lists::page(&fields, "/v1/products", found, Product::shown)
    }

    pub(crate) fn create_price(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let product = match (fields.filled("product"), fields.object("product_data")) {
            (Some(id), None) => self.products.named(id, "product")?.id.clone(),
            (None, Some(data)) => {
                let id = self.ids.next("prod");
                let product = self.new_product(id.clone(), data.required("name")?);
                self.products.put(product)?;
                self.emit("product.created", &id);
                id
            }
            (Some(_), Some(_)) => {
                return Err(Refusal::invalid(
                    "product",
                    "You may pass only one of product and product_data.",
                ));
            }
            (None, None) => return Err(Refusal::missing("product")),
        };
        let id = self.ids.next("price");
        let price = self.price_of(&fields, id.clone(), product)?;
        self.prices.put(price)?;
        self.emit("price.created", &id);
        self.answer(&id)
    }

    fn price_of(&self, fields: &Fields<'_>, id: String, product: String) -> Result<Price, Refusal> {
        let unit_amount = fields.integer_from("unit_amount", 0)?;
        let custom = match fields.object("custom_unit_amount") {
            Some(custom) if custom.boolean("enabled")? == Some(true) => Some(CustomAmount {
                minimum: custom.integer_from("minimum", 0)?,
                maximum: custom.integer_from("maximum", 0)?,
                preset: custom.integer_from("preset", 0)?,
            }),
            _ => None,
        };
        if unit_amount.is_some() == custom.is_some() {
            let message = "You must pass either unit_amount or custom_unit_amount[enabled]=true.";
            return Err(Refusal::invalid(fields.name("unit_amount"), message));
        }
        let mut price = Price {
            id,
            created: self.seconds(),
            active: fields.boolean("active")?.unwrap_or(true),
            product,
            currency: currency_of(fields)?,
            unit_amount,
            custom,
            recurring: recurring_of(fields)?,
            nickname: None,
            lookup_key: None,
            tax_behavior: "unspecified".to_owned(),
            metadata: Metadata::new(),
        };
        if price.custom.is_some() && price.recurring.is_some() {
            let message = "Prices whose amount the buyer names cannot be recurring.";
            return Err(Refusal::invalid(fields.name("recurring"), message));
        }
        self.write_price(&mut price, fields)?;
        Ok(price)
    }

    fn write_price(&self, price: &mut Price, fields: &Fields<'_>) -> Result<(), Refusal> {
        if let Some(active) = fields.boolean("active")? {
            price.active = active;
        }
        if let Some(nickname) = fields.text("nickname") {
            price.nickname = (!nickname.is_empty()).then(|| nickname.to_owned());
        }
        if let Some(key) = fields.filled("lookup_key") {
            let taken = |other: &&Price| other.lookup_key.as_deref() == Some(key) && other.id != price.id;
            if let Some(other) = self.prices.oldest_first().find(taken) {
                let message = format!("The price {} has the lookup key {key} already.", other.id);
                return Err(Refusal::invalid(fields.name("lookup_key"), message));
            }
            price.lookup_key = Some(key.to_owned());
        }
        if let Some(behavior) = fields.one_of("tax_behavior", &["exclusive", "inclusive", "unspecified"])? {
            if behavior == "inclusive" {
                let message = "The till adds taxes on top: it knows exclusive prices only.";
                return Err(Refusal::invalid(fields.name("tax_behavior"), message));
            }
            price.tax_behavior = behavior.to_owned();
        }
        fields.update_metadata(&mut price.metadata)
    }

    /// A price that is made for one line of one Checkout session or subscription.
    pub(crate) fn inline_price(&mut self, data: &Fields<'_>) -> Result<String, Refusal> {
        let product = match (data.filled("product"), data.object("product_data")) {
            (Some(id), None) => self.products.named(id, &data.name("product"))?.id.clone(),
            (None, Some(named)) => {
                let id = self.ids.next("prod");
                let mut product = self.new_product(id.clone(), named.required("name")?);
                product.description = named.filled("description").map(str::to_owned);
                product.metadata = named.metadata()?;
                product.active = false;
                self.products.put(product)?;
                id
            }
            (Some(_), Some(_)) => {
                let message = "You may pass only one of product and product_data.";
                return Err(Refusal::invalid(data.name("product"), message));
            }
            (None, None) => return Err(Refusal::missing(data.name("product"))),
        };
        let id = self.ids.next("price");
        let mut price = self.price_of(data, id.clone(), product)?;
        price.active = false;
        self.prices.put(price)?;
        Ok(id)
    }

    pub(crate) fn retrieve_price(&mut self, call: &Call) -> Answer {
        Ok(self.prices.at(call.id())?.shown())
    }

    pub(crate) fn update_price(&mut self, call: &Call) -> Answer {
        let mut price = self.prices.at(call.id())?.clone();
        self.write_price(&mut price, &call.fields())?;
        *self.prices.at_mut(call.id())? = price;
        self.emit("price.updated", call.id());
        self.answer(call.id())
    }

    pub(crate) fn list_prices(&mut self, call: &Call) -> Answer {
        let fields = call.fields();
        let active = fields.boolean("active")?;
        let created = Created::read(&fields)?;
        let (product, currency, kind) =
            (fields.filled("product"), fields.filled("currency"), fields.filled("type"));
        let keys = fields.texts("lookup_keys");
        let found = self
            .prices
            .newest_first()
            .filter(|price| created.holds(price.created))
            .filter(|price| active.is_none_or(|active| price.active == active))
            .filter(|price| product.is_none_or(|product| price.product == product))
            .filter(|price| currency.is_none_or(|currency| price.currency == currency))
            .filter(|price| kind.is_none_or(|kind| (kind == "recurring") == price.recurring.is_some()))
            .filter(|price| {
                keys.is_empty() || price.lookup_key.as_deref().is_some_and(|key| keys.contains(&key))
            })
            .map(|price| (price.id.clone(), price));
        lists::page(&fields, "/v1/prices", found, Price::shown)
    }

    /// Puts a price under an id of the caller's choice; one that is there already stays.
    pub(crate) fn seed_price(&mut self, seed: &PriceSeed) -> Result<(), Refusal> {
        if self.prices.get(&seed.id).is_some() {
            return Ok(());
        }
        let mut pairs = vec![("currency", seed.currency.to_lowercase())];
        match seed.custom {
            Some((minimum, maximum)) => pairs.extend([
                ("custom_unit_amount[enabled]", "true".to_owned()),
                ("custom_unit_amount[minimum]", minimum.to_string()),
                ("custom_unit_amount[maximum]", maximum.to_string()),
                ("custom_unit_amount[preset]", seed.amount.to_string()),
            ]),
            None => pairs.push(("unit_amount", seed.amount.to_string())),
        }
        pairs.extend(seed.interval.iter().map(|interval| ("recurring[interval]", interval.clone())));
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let form = crate::form::Form::of(&pairs)?;
        let product = self.ids.next("prod");
        let price = self.price_of(&form.fields(), seed.id.clone(), product.clone())?;
        let product = self.new_product(product, &seed.name);
        self.products.put(product)?;
        self.prices.put(price)
    }

    pub(crate) fn product_name(&self, product: &str) -> String {
        self.products.get(product).map_or_else(String::new, |product| product.name.clone())
    }
}

fn write_product(product: &mut Product, fields: &Fields<'_>) -> Result<(), Refusal> {
    if let Some(name) = fields.filled("name") {
        product.name = name.to_owned();
    }
    if let Some(active) = fields.boolean("active")? {
        product.active = active;
    }
    if let Some(description) = fields.text("description") {
        product.description = (!description.is_empty()).then(|| description.to_owned());
    }
    if let Some(code) = fields.text("tax_code") {
        product.tax_code = (!code.is_empty()).then(|| code.to_owned());
    }
    fields.update_metadata(&mut product.metadata)
}
