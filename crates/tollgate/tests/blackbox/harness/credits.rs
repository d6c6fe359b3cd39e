//! An app's backend as the credits door sees it: a service key, owners, and keys under which an effect happens once; and
//! what the tables must add up to, whatever was done.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kernel::{Clock as _, Millis, SystemClock};
use serde_json::{Value, json};

use super::database::{Database, Row, quoted};
use super::http::{Connection, Failure, Request, Response};
use super::server::Server;
use super::wait::until;

/// A storm on a busy test machine takes its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// In milliseconds.
pub const DAY: i64 = 24 * 3_600 * 1_000;

/// One caller on one connection, which is kept and replaced when the server ends it.
pub struct Backend {
    address: SocketAddr,
    key: String,
    connection: Option<Connection>,
}

impl Backend {
    /// With a service key of its own that has all scopes.
    pub fn of(server: &Server) -> Backend {
        Backend::with_key(server, &server.service_key())
    }

    pub fn with_key(server: &Server, key: &str) -> Backend {
        Backend { address: server.address, key: key.to_owned(), connection: None }
    }

    /// The same backend on another connection.
    pub fn another(&self) -> Backend {
        Backend { address: self.address, key: self.key.clone(), connection: None }
    }

    /// The same backend asking another node.
    pub fn at(&self, node: &Server) -> Backend {
        Backend { address: node.address, ..self.another() }
    }

    /// A POST under `/api/credits`. After a failure the next call connects anew.
    pub fn try_post(&mut self, path: &str, key: Option<&str>, body: &Value) -> Result<Response, Failure> {
        let request = Request::post(&format!("/api/credits/{path}"), body);
        self.exchange(match key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        })
    }

    #[track_caller]
    pub fn post(&mut self, path: &str, key: &str, body: &Value) -> Response {
        let answer = self.try_post(path, Some(key), body);
        answer.unwrap_or_else(|failure| panic!("POST {path}: no answer: {failure:?}"))
    }

    #[track_caller]
    pub fn put(&mut self, path: &str, body: &Value) -> Response {
        self.send(Request::new("PUT", &format!("/api/credits/{path}")).json(body))
    }

    #[track_caller]
    pub fn get(&mut self, path: &str) -> Response {
        self.send(Request::get(&format!("/api/credits/{path}")))
    }

    /// With the service key, unless the request names another authority.
    #[track_caller]
    pub fn send(&mut self, request: Request) -> Response {
        let (method, target) = (request.method.clone(), request.target.clone());
        self.exchange(request).unwrap_or_else(|failure| panic!("{method} {target}: no answer: {failure:?}"))
    }

    fn exchange(&mut self, mut request: Request) -> Result<Response, Failure> {
        if !request.headers.iter().any(|(name, _)| name == "Authorization") {
            request = request.header("Authorization", &format!("Bearer {}", self.key));
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.address)?,
        };
        connection.set_timeout(PATIENCE);
        let response = connection.exchange(&request)?;
        if !response.closes() {
            self.connection = Some(connection);
        }
        Ok(response)
    }

    /// Bought credits that never end; the answer's body.
    #[track_caller]
    pub fn grant(&mut self, user: &str, amount: i64) -> Value {
        self.grant_with(user, amount, json!({"source": "paid"}))
    }

    /// Members of `more` are added to the body.
    #[track_caller]
    pub fn grant_with(&mut self, user: &str, amount: i64, more: Value) -> Value {
        let body = json!({"user_id": user, "amount": amount, "source": "promo", "reason": "a test"});
        self.post("grants", &fresh_key(), &merged(body, more)).expect(201).json()
    }

    #[track_caller]
    pub fn debit(&mut self, user: &str, amount: i64) -> Response {
        self.post("debits", &fresh_key(), &json!({"user_id": user, "amount": amount}))
    }

    /// Its id.
    #[track_caller]
    pub fn hold(&mut self, user: &str, amount: i64) -> String {
        let body = json!({"user_id": user, "amount": amount, "expires_in": 3_600});
        let made = self.post("holds", &fresh_key(), &body).expect(201).json();
        text(&made["hold"]["id"])
    }

    #[track_caller]
    pub fn balance(&mut self, user: &str) -> Value {
        self.get(&format!("balance?user_id={user}")).expect(200).json()
    }

    /// All entries, oldest first.
    #[track_caller]
    pub fn entries(&mut self, user: &str) -> Vec<Value> {
        let mut entries = pages(self, &format!("entries?user_id={user}&limit=200"));
        entries.reverse();
        entries
    }
}

/// A key that was not used before.
pub fn fresh_key() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("key-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Users who never signed in: hashing passwords for hundreds would take the test's time.
pub fn make_users(server: &Server, count: usize) -> Vec<String> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let first = COUNT.fetch_add(count, Ordering::Relaxed);
    let ids: Vec<String> = (first..first + count).map(|number| format!("owner{number}")).collect();
    let mut sql = String::from(
        "INSERT INTO users (id, name, email, email_verified, two_factor_enabled, is_anonymous, banned, created_at, \
         updated_at) VALUES ",
    );
    for (at, id) in ids.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(
            sql,
            "{comma}('{id}', 'Owner', '{id}@example.com', TRUE, FALSE, FALSE, FALSE, 1000, 1000)"
        );
    }
    assert_eq!(server.database.execute(&sql), count as u64);
    ids
}

pub fn make_user(server: &Server) -> String {
    make_users(server, 1).remove(0)
}

/// The member as text.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

#[track_caller]
pub fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no integer"))
}

/// The members of `more` in place of or beside those of `body`.
pub fn merged(mut body: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("{more} is no object") };
    body.as_object_mut().expect("an object").extend(more);
    body
}

/// `balance`, `held`, `available`, `owed` of an object that has them.
#[track_caller]
pub fn figures(object: &Value) -> [i64; 4] {
    ["balance", "held", "available", "owed"].map(|name| number(&object[name]))
}

/// A POST with a fresh key.
pub fn post(backend: &mut Backend, path: &str, body: Value) -> Response {
    backend.post(path, &fresh_key(), &body)
}

pub fn is_replay(response: &Response) -> bool {
    response.header("Idempotent-Replayed") == Some("true")
}

/// Asserts status and `error_code` of the server doors.
#[track_caller]
pub fn refused(response: &Response, status: u16, code: &str) -> Value {
    assert_eq!(response.status, status, "{}", response.text());
    let body = response.json();
    assert_eq!(body["error_code"], code, "{body}");
    body
}

/// The entries of a list.
#[track_caller]
pub fn items(page: &Value) -> Vec<Value> {
    page["items"].as_array().unwrap_or_else(|| panic!("no list in {page}")).clone()
}

/// All pages of a list, newest first.
#[track_caller]
pub fn pages(backend: &mut Backend, path: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = backend.get(&format!("{path}{cursor}")).expect(200).json();
        all.extend(items(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// Grant and amount of each part of an entry.
#[track_caller]
pub fn parts(entry: &Value) -> Vec<(String, i64)> {
    let parts = entry["parts"].as_array().unwrap_or_else(|| panic!("no parts in {entry}"));
    parts.iter().map(|part| (text(&part["grant_id"]), number(&part["amount"]))).collect()
}

/// How often each status came.
pub fn counted(statuses: impl IntoIterator<Item = u16>) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for status in statuses {
        *counts.entry(status).or_default() += 1;
    }
    counts
}

/// The field that such a refusal names.
#[track_caller]
pub fn field(response: &Response, status: u16, code: &str) -> String {
    text(&refused(response, status, code)["field"])
}

/// What the server's clock shows: it is this machine's.
pub fn now() -> Millis {
    SystemClock.now()
}

/// A time from now, as the door writes it.
pub fn in_milliseconds(time: i64) -> String {
    now().plus(time).iso()
}

/// Waits until that moment is over.
#[track_caller]
pub fn wait_until_past(moment: &str) {
    let end = Millis::parse_iso(moment).unwrap_or_else(|| panic!("{moment} is no time"));
    until(PATIENCE, "the end of its time", || (now() > end).then_some(()));
}

// ---- What the tables must add up to ----

fn cell(row: &Row, at: usize) -> &str {
    row[at].as_deref().unwrap_or_else(|| panic!("a column of {row:?} is empty"))
}

fn integer(row: &Row, at: usize) -> i64 {
    cell(row, at).parse().unwrap_or_else(|_| panic!("a column of {row:?} is no integer"))
}

/// Waits until a server that was killed has no statement under way: PostgreSQL ends what it has begun.
#[track_caller]
pub fn wait_for_quiet(database: &Database) {
    if matches!(database, Database::Sqlite { .. }) {
        return;
    }
    let busy = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
                AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND state <> 'idle'";
    until(PATIENCE, "the end of statements under way", || (database.integer(busy) == 0).then_some(()));
}

/// Every account is what its entries, lots and holds add up to; no entry is missing, and none but a debt the owner was
/// allowed lies below zero.
#[track_caller]
pub fn books_balance(database: &Database) {
    let mut entries: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let rows = database
        .rows("SELECT account_id, seq, amount, balance_after FROM credit_entries ORDER BY account_id, seq");
    for row in rows {
        let (seq, sum) = entries.entry(cell(&row, 0).to_owned()).or_default();
        *seq += 1;
        *sum += integer(&row, 2);
        assert_eq!((integer(&row, 1), integer(&row, 3)), (*seq, *sum), "{row:?}");
    }
    let sums = |sql: &str| -> BTreeMap<String, (i64, i64)> {
        let rows = database.rows(sql);
        rows.iter().map(|row| (cell(row, 0).to_owned(), (integer(row, 1), integer(row, 2)))).collect()
    };
    let mut lots = sums(
        "SELECT account_id, CAST(SUM(remaining) AS BIGINT), CAST(SUM(held) AS BIGINT) FROM credit_lots \
         GROUP BY account_id",
    );
    let holds = sums(
        "SELECT account_id, CAST(SUM(amount) AS BIGINT), COUNT(*) FROM credit_holds WHERE status = 'held' \
         GROUP BY account_id",
    );
    // What a few lots differ by from their rows stands on the account's: `number:remaining[:held]`.
    for row in database.rows("SELECT id, drawn FROM credit_accounts WHERE drawn <> ''") {
        let (remaining, held) = lots.entry(cell(&row, 0).to_owned()).or_default();
        for lot in cell(&row, 1).split(',') {
            let figures: Vec<i64> = lot.split(':').map(|figure| figure.parse().expect("a figure")).collect();
            *remaining += figures[1];
            *held += figures.get(2).unwrap_or(&0);
        }
    }
    let of = |sums: &BTreeMap<String, (i64, i64)>, id: &str| sums.get(id).copied().unwrap_or_default();
    for row in
        database.rows("SELECT id, seq, balance, held, owed, negative_floor FROM credit_accounts ORDER BY id")
    {
        let (id, balance, held, owed) = (cell(&row, 0), integer(&row, 2), integer(&row, 3), integer(&row, 4));
        assert_eq!((integer(&row, 1), balance), of(&entries, id), "entries of {row:?}");
        assert_eq!((balance + owed, held), of(&lots, id), "lots of {row:?}");
        assert_eq!(held, of(&holds, id).0, "holds of {row:?}");
        assert!(held >= 0 && owed >= 0 && balance - held >= integer(&row, 5), "{row:?}");
        entries.remove(id);
    }
    assert!(entries.is_empty(), "entries of no account: {entries:?}");
    let below =
        database.rows("SELECT * FROM credit_lots WHERE held < 0 OR remaining < held OR remaining > amount");
    assert!(below.is_empty(), "{below:?}");
}

/// How many entries of that kind the user has.
#[track_caller]
pub fn count_entries(database: &Database, user: &str, kind: &str) -> i64 {
    let owner = quoted(&format!("user:{user}"));
    database.integer(&format!(
        "SELECT COUNT(*) FROM credit_entries JOIN credit_accounts ON credit_accounts.id = account_id \
         WHERE owner = {owner} AND kind = {}",
        quoted(kind)
    ))
}

/// The ledger's own judgement.
#[track_caller]
pub fn ledger_verifies(server: &Server) {
    let verified = server.command(&["credits", "verify", "--json"]).expect_done().json();
    assert_eq!(verified["ok"], true, "{verified}");
}

/// All that lies in the ledger's tables, to see that nothing has been changed.
pub fn ledger_rows(database: &Database) -> String {
    let dump = database.dump();
    let lines = dump.lines().filter(|line| line.starts_with("credit_"));
    lines.collect::<Vec<_>>().join("\n")
}
