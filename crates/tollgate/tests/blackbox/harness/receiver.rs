//! An app's endpoint for outgoing events: it keeps what it is given and answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kernel::{Clock as _, Secret, SystemClock};
use serde_json::Value;

use super::server::Server;
use super::wait::until;

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Status(u16),
    /// A status with this line among its headers.
    With(u16, String),
    /// The connection ends without an answer.
    HangUp,
    /// Nothing, until something else is chosen.
    Silence,
}

pub struct Receiver {
    pub address: SocketAddr,
    /// Of the endpoint, once it was added.
    pub id: String,
    pub secret: Secret<String>,
    shared: Arc<Shared>,
}

struct Shared {
    received: Mutex<Vec<Received>>,
    answer: Mutex<Answer>,
}

/// One try of a delivery.
#[derive(Debug, Clone)]
pub struct Received {
    /// Name, in small letters, and value.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Received {
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap_or_default().to_owned()
    }
}

impl Receiver {
    /// Listens, and is no endpoint yet.
    pub fn listen() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Shared { received: Mutex::default(), answer: Mutex::new(Answer::Status(200)) };
        let shared = Arc::new(shared);
        let for_clients = Arc::clone(&shared);
        // Both end with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&for_clients);
                // A sender that goes away has its reasons.
                std::thread::spawn(move || _ = take(stream, &shared));
            }
        });
        Receiver { address, id: String::new(), secret: Secret::new(String::new()), shared }
    }

    /// An endpoint of this server, for all events.
    #[track_caller]
    pub fn of(server: &Server) -> Receiver {
        Receiver::for_events(server, &[])
    }

    #[track_caller]
    pub fn for_events(server: &Server, events: &[&str]) -> Receiver {
        let mut receiver = Receiver::listen();
        receiver.add_to(server, events);
        receiver
    }

    #[track_caller]
    pub fn add_to(&mut self, server: &Server, events: &[&str]) {
        let (url, names) = (self.url(), events.join(","));
        let mut command = vec!["hooks", "add", &url, "--json"];
        if !events.is_empty() {
            command.extend(["--events", &names]);
        }
        let made = server.command(&command).expect_done().json();
        self.id = made["id"].as_str().expect("an id").to_owned();
        self.secret = Secret::new(made["secret"].as_str().expect("a secret").to_owned());
    }

    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    pub fn answer(&self, answer: Answer) {
        *lock(&self.shared.answer) = answer;
    }

    /// Every try so far.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    pub fn kinds(&self) -> Vec<String> {
        let mut kinds: Vec<String> = self.received().iter().map(Received::kind).collect();
        kinds.sort();
        kinds
    }

    /// Waits until so many have come.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        until(PATIENCE, &format!("{count} deliveries"), || {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
    }

    /// Waits for the first one of a kind, whose signature must be good; its data.
    #[track_caller]
    pub fn told(&self, kind: &str) -> Value {
        let found = until(PATIENCE, kind, || self.received().into_iter().find(|it| it.kind() == kind));
        self.expect_signed(&found);
        found.json()["data"].clone()
    }

    #[track_caller]
    pub fn expect_signed(&self, received: &Received) {
        let headers =
            (received.id(), received.header("webhook-timestamp"), received.header("webhook-signature"));
        let verified = hooks::verify(&self.secret, headers, received.body.as_bytes(), SystemClock.now());
        assert_eq!(verified, Ok(()), "{received:?}");
    }
}

/// Until nothing waits to be delivered.
#[track_caller]
pub fn all_delivered(server: &Server) {
    until(PATIENCE, "all deliveries", || {
        let sql = "SELECT COUNT(*) FROM hook_deliveries WHERE state = 'waiting'";
        (server.database.integer(sql) == 0).then_some(())
    });
}

/// The time of what waits comes at once.
pub fn hurry(server: &Server) {
    server
        .database
        .execute("UPDATE hook_deliveries SET due_at = 0, leased_until = 0 WHERE state = 'waiting'");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take(stream: TcpStream, shared: &Shared) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    lock(&shared.received).push(Received { headers, body });
    let answer = loop {
        match lock(&shared.answer).clone() {
            Answer::Silence => {}
            answer => break answer,
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let (status, line) = match answer {
        Answer::Status(status) => (status, String::new()),
        Answer::With(status, line) => (status, format!("{line}\r\n")),
        Answer::HangUp | Answer::Silence => return None,
    };
    let body = format!("answer {status}");
    let head =
        format!("HTTP/1.1 {status} x\r\n{line}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    writer.write_all(format!("{head}{body}").as_bytes()).ok()
}
