//! The app's webhook endpoint: keeps what arrives and answers as it is told.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Clone)]
pub struct Arrival {
    pub signature: String,
    pub body: String,
}

impl Arrival {
    pub fn event(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("an event is JSON")
    }
}

#[derive(Default)]
struct Shared {
    arrivals: Vec<Arrival>,
    /// The statuses of the next answers; 200 after them.
    statuses: VecDeque<u16>,
}

pub struct Listener {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

impl Listener {
    pub fn start() -> Listener {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("an address");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let for_clients = Arc::clone(&shared);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in socket.incoming().flatten() {
                let shared = Arc::clone(&for_clients);
                // A sender that goes away has not delivered.
                std::thread::spawn(move || drop(take(stream, &shared)));
            }
        });
        Listener { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}/api/billing/webhook", self.address)
    }

    pub fn answer_next(&self, statuses: &[u16]) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).statuses.extend(statuses);
    }

    pub fn arrivals(&self) -> Vec<Arrival> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).arrivals.clone()
    }

    /// The types of what arrived, in order.
    pub fn kinds(&self) -> Vec<String> {
        let kind = |arrival: &Arrival| arrival.event()["type"].as_str().unwrap_or_default().to_owned();
        self.arrivals().iter().map(kind).collect()
    }
}

fn take(stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut length, mut signature) = (0, String::new());
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        if let Some((name, value)) = line.trim_end().split_once(": ") {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap_or(0),
                "stripe-signature" => signature = value.to_owned(),
                _ => {}
            }
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let status = {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let body = String::from_utf8_lossy(&body).into_owned();
        shared.arrivals.push(Arrival { signature, body });
        shared.statuses.pop_front().unwrap_or(200)
    };
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}")
}
