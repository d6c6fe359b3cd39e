//! A server under test, from its start to its first answer.

use crate::answer;
use crate::people;
use crate::process::{self, Process};
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// What its database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// The schema and nothing else.
    Empty,
    Seeded,
}

/// One of those that are compared.
pub trait Side {
    /// As the command line and machines name it.
    fn key(&self) -> &'static str;
    fn title(&self) -> &'static str;
    /// Makes its databases, or finds them in the cache.
    fn prepare(&mut self) -> Result<(), String>;
    fn start(&mut self, contents: Contents) -> Result<Server, String>;
    fn versions(&self) -> String;

    fn signs_in(&self) -> bool {
        true
    }
}

pub struct Server {
    process: Process,
    pub address: SocketAddr,
    /// From the start of the process to its first answer.
    pub started_in: Duration,
    /// The whole first answer.
    pub first_answer: Vec<u8>,
    /// A database server that works for this one.
    pub database_process: Option<u32>,
}

impl Server {
    /// Starts the program and asks for a session until it answers.
    pub fn start(
        name: &str,
        command: &mut Command,
        address: SocketAddr,
        contents: Contents,
        log: &Path,
    ) -> Result<Server, String> {
        let person = (contents == Contents::Seeded).then_some(0);
        let request = people::one_session_check(address, person);
        let expected: &[u8] = if person.is_some() { b"{\"session\"" } else { b"null" };
        Server::start_asking(name, command, address, &request, expected, log)
    }

    /// The same for programs that are asked something else: the body of the answer has to begin like this.
    pub fn start_asking(
        name: &str,
        command: &mut Command,
        address: SocketAddr,
        request: &[u8],
        expected: &[u8],
        log: &Path,
    ) -> Result<Server, String> {
        let began = Instant::now();
        let mut process = Process::start(name, command, Signal::TERM, log)?;
        let first_answer = loop {
            if let Some(bytes) = ask(address, request) {
                break bytes;
            }
            process.check_alive()?;
            if began.elapsed() > ANSWERS_WITHIN {
                let end = process.log_end();
                return Err(format!(
                    "{name} did not answer in {} s; its log ends:\n{end}",
                    ANSWERS_WITHIN.as_secs()
                ));
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let started_in = began.elapsed();
        let parsed = answer::parse(&first_answer)?.ok_or("half an answer")?;
        if parsed.status != 200 || !parsed.body.starts_with(expected) {
            return Err(format!(
                "{name} is up and answers wrong: {} {}\n{}",
                parsed.status,
                answer::shown(&parsed.body),
                process.log_end()
            ));
        }
        Ok(Server { process, address, started_in, first_answer, database_process: None })
    }

    /// What went wrong, and what the server said about it.
    pub fn explain(&self, error: String) -> String {
        match self.process.log_end() {
            log if log.is_empty() => error,
            log => format!("{error}\nthe server's log ends:\n{log}"),
        }
    }

    pub fn check_alive(&mut self) -> Result<(), String> {
        self.process.check_alive()
    }

    pub fn resident_mib(&self) -> f64 {
        process::resident_mib(&process::family(self.process.id()))
    }

    pub fn database_mib(&self) -> Option<f64> {
        self.database_process.map(|root| process::proportional_mib(&process::family(root)))
    }

    /// Of the server and of the database server behind it.
    pub fn processor_time(&self) -> Duration {
        let mut processes = process::family(self.process.id());
        processes.extend(self.database_process.into_iter().flat_map(process::family));
        process::processor_time(&processes)
    }
}

/// One request on a connection of its own; `None` when the server is not there yet.
fn ask(address: SocketAddr, request: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(request).ok()?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).ok()?;
        bytes.extend_from_slice(&buffer[..count]);
        match answer::parse(&bytes) {
            Ok(None) if count > 0 => {}
            _ => return Some(bytes),
        }
    }
}

pub fn free_address() -> Result<SocketAddr, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("no free port on 127.0.0.1: {error}"))
}
