//! A server that sells one pack at a till.

use super::options::{Options, SideName};
use crate::cache::Cache;
use crate::credits::over_http::{Client, make_key, write_post};
use crate::people;
use crate::server::{Contents, Server, Side};
use crate::tollgate::{OnPostgres, OnSqlite};
use kernel::{Clock as _, Secret, SystemClock};
use serde_json::Value;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use till::{PriceSeed, Till, TillOptions};

const WEBHOOK_SECRET: &str = "whsec_bench";
/// Credits of the pack.
pub const CREDITS: i64 = 500;
/// People who buy at the same time.
const BUYERS: usize = 16;

pub struct Shop {
    pub till: Till,
    // Ends before its database does.
    pub server: Server,
    side: Box<dyn Side>,
    pub backend: Backend,
}

/// An app's backend, which opens checkouts for people.
pub struct Backend {
    pub address: SocketAddr,
    service_key: String,
}

impl Shop {
    pub fn open(options: &Options, cache: &Rc<Cache>, name: SideName) -> Result<Shop, String> {
        let prices = vec![PriceSeed {
            id: "price_small".into(),
            name: "A pack".into(),
            amount: 1_000,
            currency: "usd".into(),
            interval: None,
            custom: None,
        }];
        let till = Till::start(TillOptions { prices, most_objects: 1_000_000, ..TillOptions::new(7) });
        let till = till.map_err(|error| format!("the till does not open: {error}"))?;
        let settings = format!(
            r#"[stripe]
secret_key = "{}"
webhook_secrets = ["{WEBHOOK_SECRET}"]
api_base = "{}"
[stripe.packs.small]
price = "price_small"
credits = {CREDITS}
amount = 1000
currency = "usd"
"#,
            till.secret_key().expose(),
            till.base_url()
        );
        let (program, rows) = (options.program()?, options.rows());
        let mut side: Box<dyn Side> = match name {
            SideName::TollgateSqlite => {
                Box::new(OnSqlite::new(cache.clone(), program.clone(), rows).with(&settings))
            }
            SideName::TollgatePostgres => {
                Box::new(OnPostgres::new(cache.clone(), program.clone(), rows).with(&settings))
            }
        };
        side.prepare()?;
        let server = side.start(Contents::Seeded)?;
        let service_key = make_key(&program, &cache.run_file(&format!("{}.toml", side.key())))?;
        let backend = Backend { address: server.address, service_key };
        Ok(Shop { till, server, side, backend })
    }

    pub fn versions(&self) -> String {
        self.side.versions()
    }

    pub fn explain(&self, error: String) -> String {
        self.server.explain(error)
    }
}

impl Backend {
    /// Each of these people opens a checkout; their sessions, in order.
    pub fn checkouts(&self, count: u32) -> Result<Vec<String>, String> {
        let next = AtomicU32::new(0);
        let buy = || {
            let mut client = Client::connect(self.address)?;
            let mut opened = Vec::new();
            loop {
                let person = next.fetch_add(1, Ordering::Relaxed);
                if person >= count {
                    return Ok::<_, String>(opened);
                }
                let answer: Value = serde_json::from_slice(&client.ask(&self.checkout(person), 200)?)
                    .map_err(|error| format!("a checkout is not JSON: {error}"))?;
                let session = answer["session_id"].as_str().ok_or("a checkout without a session")?;
                opened.push((person, session.to_owned()));
            }
        };
        let mut opened = Vec::new();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..BUYERS).map(|_| scope.spawn(buy)).collect();
            for thread in threads {
                opened.extend(thread.join().unwrap_or_else(|_| Err("a buyer panicked".into()))?);
            }
            Ok::<_, String>(())
        })?;
        opened.sort_unstable();
        Ok(opened.into_iter().map(|(_, session)| session).collect())
    }

    /// The request of a backend that opens a checkout for a person.
    pub fn checkout(&self, person: u32) -> Vec<u8> {
        let body = format!(r#"{{"user_id":"{}","price":"small"}}"#, people::user_id(person));
        let mut request = Vec::new();
        write_post(&mut request, self.address, "/api/billing/checkout", &self.service_key, "none", &body);
        request
    }

    /// A GET with the service key.
    pub fn get(&self, client: &mut Client, path: &str) -> Result<Value, String> {
        let (address, key) = (self.address, &self.service_key);
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n\r\n");
        let body = client.ask(request.as_bytes(), 200)?;
        serde_json::from_slice(&body).map_err(|error| format!("{path}: not JSON: {error}"))
    }
}

/// The header of a delivery that is made now.
pub fn signature(body: &[u8]) -> String {
    till::signature::sign(&[Secret::new(WEBHOOK_SECRET.to_owned())], SystemClock.now().0 / 1_000, body)
}
