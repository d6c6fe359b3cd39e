//! A mail server of the test's own: plain SMTP over TCP, with the bad manners a test asks for.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Polite,
    /// Accepts connections and says nothing.
    Silent,
    /// Answers the named command so; `.` is the content.
    Answer(&'static str, &'static str),
    /// Takes the content and answers only when the manner changes.
    HoldContent,
    /// Takes the content and hangs up without an answer.
    DropAfterContent,
}

#[derive(Debug, Clone)]
pub struct Received {
    pub recipients: Vec<String>,
    pub content: String,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.content.split("\r\n\r\n").next()?;
        head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

#[derive(Default)]
struct Seen {
    received: Vec<Received>,
    commands: Vec<String>,
}

pub struct Sink {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    manner: Mutex<Manner>,
    changed: Condvar,
    seen: Mutex<Seen>,
}

impl Sink {
    pub fn start(manner: Manner) -> Sink {
        Sink::at("127.0.0.1:0".parse().unwrap(), manner)
    }

    pub fn at(address: SocketAddr, manner: Manner) -> Sink {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared { manner: Mutex::new(manner), changed: Condvar::new(), seen: Mutex::default() };
        let shared = Arc::new(shared);
        let for_thread = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = for_thread.clone();
                std::thread::spawn(move || shared.serve(stream.unwrap()));
            }
        });
        Sink { address, shared }
    }

    /// An address where nobody listens.
    pub fn nowhere() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    pub fn behave(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
        self.shared.changed.notify_all();
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.seen.lock().unwrap().received.clone()
    }

    pub fn commands(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().commands.clone()
    }

    pub fn count(&self) -> usize {
        self.shared.seen.lock().unwrap().received.len()
    }
}

impl Shared {
    fn manner(&self) -> Manner {
        *self.manner.lock().unwrap()
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut stream = stream;
        let mut say = move |text: &str| stream.write_all(format!("{text}\r\n").as_bytes()).ok();
        self.wait_while(Manner::Silent);
        say(self.answer("connect").unwrap_or("220 sink.test ESMTP"))?;
        let mut recipients = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end_matches("\r\n").to_string();
            self.seen.lock().unwrap().commands.push(line.clone());
            let verb = line.split([' ', ':']).next().unwrap_or("").to_ascii_uppercase();
            // A server that takes no connections keeps none either.
            if self.answer("connect").is_some() {
                return None;
            }
            if let Some(answer) = self.answer(&verb) {
                say(answer)?;
                continue;
            }
            match verb.as_str() {
                "EHLO" => say("250-sink.test\r\n250 AUTH PLAIN LOGIN")?,
                "AUTH" => say("235 welcome")?,
                "RCPT" => {
                    recipients.push(line["RCPT TO:".len()..].to_string());
                    say("250 ok")?
                }
                "DATA" => {
                    say("354 go on")?;
                    let content = read_content(&mut reader)?;
                    if let Some(answer) = self.answer(".") {
                        say(answer)?;
                        continue;
                    }
                    let received = Received { recipients: std::mem::take(&mut recipients), content };
                    self.seen.lock().unwrap().received.push(received);
                    if self.manner() == Manner::DropAfterContent {
                        return None;
                    }
                    self.wait_while(Manner::HoldContent);
                    say("250 taken")?
                }
                "QUIT" => {
                    say("221 bye")?;
                    return None;
                }
                _ => say("250 ok")?,
            }
        }
    }

    fn answer(&self, to: &str) -> Option<&'static str> {
        match self.manner() {
            Manner::Answer(command, answer) if command == to => Some(answer),
            _ => None,
        }
    }

    fn wait_while(&self, manner: Manner) {
        let guard = self.manner.lock().unwrap();
        drop(self.changed.wait_while(guard, |now| *now == manner).unwrap());
    }
}

fn read_content(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut content = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == ".\r\n" {
            return Some(content);
        }
        content.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}
