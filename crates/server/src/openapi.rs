//! What each door offers, as data: the source of `/openapi.json` and of the route names in `/metrics` and the log.
//!
//! Each door exports a `&'static [RouteDoc]` beside its router. A route without an entry is missing from the document
//! and counted as `unmatched`.

use serde_json::{Map, Value, json};

/// One method of one path.
#[derive(Debug, Clone, Copy)]
pub struct RouteDoc {
    /// In capitals.
    pub method: &'static str,
    /// As in the router: `/api/credits/holds/{id}/capture`.
    pub path: &'static str,
    pub summary: &'static str,
    pub door: Door,
    pub auth: Auth,
    pub query: &'static [Field],
    /// Members of the JSON body; none for a route without one.
    pub body: &'static [Field],
    /// Status and meaning; empty for a plain 200. Refusals common to the door need no mention.
    pub answers: &'static [(u16, &'static str)],
    /// More than fits the summary: Markdown.
    pub notes: &'static str,
}

/// Whose path it is: decides tag, dialect of errors, and whether unknown members are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `/api/auth`: Better Auth's protocol.
    Auth,
    Gate,
    Credits,
    Billing,
    Guest,
    /// `/api/internal/auth`: the adapter for Auth.js.
    Adapter,
    Pages,
    Admin,
    Operations,
}

/// What a caller has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    None,
    /// The signed session cookie or its bearer form.
    Session,
    /// A session helps, but is not needed.
    OptionalSession,
    ServiceKey,
    AdapterSecret,
    StripeSignature,
    GuestCookie,
}

/// A member of a body, or a parameter of a query.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
    pub note: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
    Boolean,
    Object,
    List,
    Any,
}

impl RouteDoc {
    pub const fn new(method: &'static str, path: &'static str, summary: &'static str) -> RouteDoc {
        RouteDoc {
            method,
            path,
            summary,
            door: Door::Auth,
            auth: Auth::None,
            query: &[],
            body: &[],
            answers: &[],
            notes: "",
        }
    }

    pub const fn get(path: &'static str, summary: &'static str) -> RouteDoc {
        RouteDoc::new("GET", path, summary)
    }

    pub const fn post(path: &'static str, summary: &'static str) -> RouteDoc {
        RouteDoc::new("POST", path, summary)
    }

    pub const fn door(mut self, door: Door) -> RouteDoc {
        self.door = door;
        self
    }

    pub const fn auth(mut self, auth: Auth) -> RouteDoc {
        self.auth = auth;
        self
    }

    pub const fn query(mut self, query: &'static [Field]) -> RouteDoc {
        self.query = query;
        self
    }

    pub const fn body(mut self, body: &'static [Field]) -> RouteDoc {
        self.body = body;
        self
    }

    pub const fn answers(mut self, answers: &'static [(u16, &'static str)]) -> RouteDoc {
        self.answers = answers;
        self
    }

    pub const fn notes(mut self, notes: &'static str) -> RouteDoc {
        self.notes = notes;
        self
    }
}

impl Field {
    pub const fn new(name: &'static str, kind: Kind) -> Field {
        Field { name, kind, required: true, note: "" }
    }

    pub const fn text(name: &'static str) -> Field {
        Field::new(name, Kind::Text)
    }

    pub const fn integer(name: &'static str) -> Field {
        Field::new(name, Kind::Integer)
    }

    pub const fn boolean(name: &'static str) -> Field {
        Field::new(name, Kind::Boolean)
    }

    pub const fn optional(mut self) -> Field {
        self.required = false;
        self
    }

    pub const fn note(mut self, note: &'static str) -> Field {
        self.note = note;
        self
    }

    fn schema(&self) -> Value {
        let mut schema = match self.kind {
            Kind::Text => json!({ "type": "string" }),
            Kind::Integer => json!({ "type": "integer" }),
            Kind::Boolean => json!({ "type": "boolean" }),
            Kind::Object => json!({ "type": "object" }),
            Kind::List => json!({ "type": "array" }),
            Kind::Any => json!({}),
        };
        if !self.note.is_empty() {
            schema["description"] = json!(self.note);
        }
        schema
    }
}

impl Door {
    const ALL: [Door; 9] = [
        Door::Auth,
        Door::Gate,
        Door::Credits,
        Door::Billing,
        Door::Guest,
        Door::Adapter,
        Door::Pages,
        Door::Admin,
        Door::Operations,
    ];

    /// Tag and what the tag stands for.
    fn tag(self) -> (&'static str, &'static str) {
        match self {
            Door::Auth => ("auth", "Browsers and apps with the official better-auth client"),
            Door::Gate => ("gate", "May this request pass, and what does it cost?"),
            Door::Credits => ("credits", "Grants, debits, holds and balances, for the app's backend"),
            Door::Billing => ("billing", "Stripe: checkouts, subscriptions and the webhook"),
            Door::Guest => ("guest", "Visitors without an account"),
            Door::Adapter => ("adapter", "The HTTP adapter for Auth.js"),
            Door::Pages => ("pages", "HTML for people"),
            Door::Admin => ("admin", "The console"),
            Door::Operations => ("operations", "Health, metrics and this document"),
        }
    }

    /// Where unknown members of a body are refused.
    fn is_strict(self) -> bool {
        matches!(self, Door::Gate | Door::Credits | Door::Billing | Door::Admin)
    }

    fn error_schema(self) -> &'static str {
        match self {
            Door::Auth => "#/components/schemas/BetterAuthError",
            _ => "#/components/schemas/Error",
        }
    }
}

impl Auth {
    fn security(self) -> Value {
        match self {
            Auth::None => json!([]),
            Auth::Session => json!([{ "session": [] }, { "bearer": [] }]),
            Auth::OptionalSession => json!([{ "session": [] }, { "bearer": [] }, {}]),
            Auth::ServiceKey => json!([{ "serviceKey": [] }]),
            Auth::AdapterSecret => json!([{ "adapterSecret": [] }]),
            Auth::StripeSignature => json!([{ "stripeSignature": [] }]),
            Auth::GuestCookie => json!([{ "guest": [] }]),
        }
    }
}

/// The names of cookies, which depend on the configuration.
#[derive(Debug, Clone)]
pub struct CookieNames {
    pub session: String,
    pub guest: String,
}

/// The OpenAPI 3.1 document of all doors.
pub fn document(base_url: &str, cookies: &CookieNames, doors: &[&[RouteDoc]]) -> String {
    let mut paths: Map<String, Value> = Map::new();
    for route in doors.iter().copied().flatten() {
        let path = plain_path(route.path);
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[route.method.to_ascii_lowercase()] = operation(route);
    }
    let used = |door: &Door| doors.iter().copied().flatten().any(|route| route.door == *door);
    let tag = |door: Door| json!({ "name": door.tag().0, "description": door.tag().1 });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Accounts, sessions, credits and Stripe billing for an app, behind six doors.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": base_url }],
        "tags": Door::ALL.into_iter().filter(used).map(tag).collect::<Vec<_>>(),
        "paths": paths,
        "components": { "schemas": error_schemas(), "securitySchemes": security_schemes(cookies) },
    })
    .to_string()
}

fn operation(route: &RouteDoc) -> Value {
    let mut operation = json!({
        "operationId": operation_id(route),
        "tags": [route.door.tag().0],
        "summary": route.summary,
        "security": route.auth.security(),
        "responses": responses(route),
    });
    if !route.notes.is_empty() {
        operation["description"] = json!(route.notes);
    }
    let parameters: Vec<Value> =
        path_names(route.path).map(path_parameter).chain(route.query.iter().map(query_parameter)).collect();
    if !parameters.is_empty() {
        operation["parameters"] = json!(parameters);
    }
    if !route.body.is_empty() {
        operation["requestBody"] = json!({
            "required": route.body.iter().any(|field| field.required),
            "content": { "application/json": { "schema": body_schema(route) } },
        });
    }
    operation
}

fn body_schema(route: &RouteDoc) -> Value {
    let members: Map<String, Value> =
        route.body.iter().map(|field| (field.name.to_string(), field.schema())).collect();
    let required: Vec<&str> =
        route.body.iter().filter(|field| field.required).map(|field| field.name).collect();
    let mut schema = json!({ "type": "object", "properties": members });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if route.door.is_strict() {
        schema["additionalProperties"] = json!(false);
    }
    schema
}

fn responses(route: &RouteDoc) -> Value {
    let plain: &[(u16, &str)] = &[(200, "Done")];
    let listed = if route.answers.is_empty() { plain } else { route.answers };
    let mut responses: Map<String, Value> = listed
        .iter()
        .map(|(status, meaning)| (status.to_string(), json!({ "description": meaning })))
        .collect();
    responses.insert(
        "default".into(),
        json!({
            "description": "Refused or failed",
            "content": { "application/json": { "schema": { "$ref": route.door.error_schema() } } },
        }),
    );
    Value::Object(responses)
}

fn error_schemas() -> Value {
    json!({
        "Error": {
            "type": "object",
            "properties": {
                "error_code": { "type": "string" },
                "message": { "type": "string" },
                "detail": { "type": ["string", "null"] },
            },
            "required": ["error_code", "message", "detail"],
        },
        "BetterAuthError": {
            "type": "object",
            "properties": { "message": { "type": "string" }, "code": { "type": "string" } },
        },
    })
}

fn security_schemes(cookies: &CookieNames) -> Value {
    let cookie = |name: &str| json!({ "type": "apiKey", "in": "cookie", "name": name });
    let header = |name: &str| json!({ "type": "apiKey", "in": "header", "name": name });
    json!({
        "session": cookie(&cookies.session),
        "guest": cookie(&cookies.guest),
        "bearer": { "type": "http", "scheme": "bearer", "description": "A session's signed token" },
        "serviceKey": { "type": "http", "scheme": "bearer", "description": "A service key: tg_sk_…" },
        "adapterSecret": header("X-Adapter-Secret"),
        "stripeSignature": header("Stripe-Signature"),
    })
}

fn path_parameter(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
}

fn query_parameter(field: &Field) -> Value {
    json!({ "name": field.name, "in": "query", "required": field.required, "schema": field.schema() })
}

/// `{*rest}` of the router is `{rest}` here.
fn plain_path(path: &str) -> String {
    path.replace("{*", "{")
}

fn path_names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| name.trim_start_matches('*'))
}

/// Unique, since method and path are: `post_api_auth_sign-in_email`.
fn operation_id(route: &RouteDoc) -> String {
    let words = route.path.split('/').filter(|word| !word.is_empty());
    let words = words.map(|word| word.trim_matches(['{', '}', '*'])).collect::<Vec<_>>().join("_");
    format!("{}_{words}", route.method.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &[RouteDoc] = &[
        RouteDoc::post("/api/auth/sign-in/email", "Signs in with e-mail address and password")
            .body(&[
                Field::text("email"),
                Field::text("password"),
                Field::boolean("rememberMe").optional().note("Default true"),
            ])
            .answers(&[(200, "Signed in"), (401, "Wrong address or password")]),
        RouteDoc::get("/api/auth/reset-password/{token}", "Opens a reset link")
            .query(&[Field::text("callbackURL")]),
        RouteDoc::post("/api/credits/holds/{id}/capture", "Spends a hold")
            .door(Door::Credits)
            .auth(Auth::ServiceKey)
            .body(&[Field::integer("amount").optional()]),
        RouteDoc::get("/files/{*rest}", "Serves a file").door(Door::Pages),
        RouteDoc::new("DELETE", "/files/{*rest}", "Deletes a file").door(Door::Pages).auth(Auth::Session),
    ];

    fn parsed() -> Value {
        let cookies =
            CookieNames { session: "better-auth.session_token".into(), guest: "tollgate.guest".into() };
        serde_json::from_str(&document("http://localhost:8655", &cookies, &[ROUTES])).unwrap()
    }

    #[test]
    fn every_route_stands_in_the_document() {
        let document = parsed();
        for route in ROUTES {
            let operation = &document["paths"][plain_path(route.path)][route.method.to_ascii_lowercase()];
            assert_eq!(operation["summary"], route.summary);
            assert!(operation["responses"]["default"]["description"].is_string());
        }
        assert_eq!(document["paths"].as_object().unwrap().len(), 4);
    }

    #[test]
    fn bodies_and_parameters_are_described() {
        let document = parsed();
        let sign_in = &document["paths"]["/api/auth/sign-in/email"]["post"];
        let schema = &sign_in["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(schema["required"], json!(["email", "password"]));
        assert_eq!(schema["properties"]["rememberMe"]["type"], "boolean");
        assert_eq!(schema.get("additionalProperties"), None);
        let capture = &document["paths"]["/api/credits/holds/{id}/capture"]["post"];
        assert_eq!(capture["parameters"][0], path_parameter("id"));
        assert_eq!(capture["security"], json!([{ "serviceKey": [] }]));
        let schema = &capture["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(schema["additionalProperties"], false);
    }

    #[test]
    fn references_security_and_parameters_all_lead_somewhere() {
        let document = parsed();
        let text = document.to_string();
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        let mut ids = std::collections::BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for operation in methods.as_object().unwrap().values() {
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_string()));
                for scheme in operation["security"].as_array().unwrap() {
                    for name in scheme.as_object().unwrap().keys() {
                        assert!(document["components"]["securitySchemes"][name].is_object(), "{name}");
                    }
                }
                for name in path_names(path) {
                    let parameters = operation["parameters"].as_array().unwrap();
                    assert!(parameters.iter().any(|p| p["name"] == name && p["in"] == "path"), "{path}");
                }
            }
        }
    }
}
