//! An SMTP server that keeps what it is given.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::mail::Mail;
use super::wait::until;

pub struct MailSink {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    mails: Mutex<Vec<Mail>>,
    refusing: AtomicBool,
    closed: AtomicBool,
}

impl MailSink {
    pub fn start() -> MailSink {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port for the mail sink");
        let address = listener.local_addr().expect("the mail sink is bound");
        let shared = Arc::new(Shared::default());
        let for_clients = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if for_clients.closed.load(Ordering::Acquire) {
                    return;
                }
                let shared = Arc::clone(&for_clients);
                // A client that goes away in the middle has simply not delivered.
                std::thread::spawn(move || drop(converse(stream, &shared)));
            }
        });
        MailSink { address, shared }
    }

    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// Waits for the next mail to this address and takes it out.
    #[track_caller]
    pub fn take(&self, to: &str, timeout: Duration) -> Mail {
        until(timeout, &format!("a mail to {to}"), || {
            let mut mails = self.mails();
            let position = mails.iter().position(|mail| mail.to.iter().any(|address| address == to))?;
            Some(mails.remove(position))
        })
    }

    /// How many mails to this address lie here, not yet taken.
    pub fn count(&self, to: &str) -> usize {
        self.mails().iter().filter(|mail| mail.to.iter().any(|address| address == to)).count()
    }

    /// Answers every mail with a temporary failure (451), or takes mail again.
    pub fn refuse(&self, refusing: bool) {
        self.shared.refusing.store(refusing, Ordering::Release);
    }

    fn mails(&self) -> std::sync::MutexGuard<'_, Vec<Mail>> {
        self.shared.mails.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for MailSink {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        // Wakes the listener, so that it sees the mark.
        let _ = TcpStream::connect(self.address);
    }
}

fn converse(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let (mut from, mut to) = (String::new(), Vec::new());
    stream.write_all(b"220 sink ESMTP\r\n")?;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let command = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let answer: &[u8] = match command.as_str() {
            "EHLO" => b"250-sink\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n",
            "HELO" | "NOOP" => b"250 ok\r\n",
            "MAIL" if shared.refusing.load(Ordering::Acquire) => b"451 try again later\r\n",
            "MAIL" => {
                from = address_in(&line);
                to.clear();
                b"250 ok\r\n"
            }
            "RCPT" => {
                to.push(address_in(&line));
                b"250 ok\r\n"
            }
            "RSET" => {
                to.clear();
                b"250 ok\r\n"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                let data = read_data(&mut lines)?;
                let mail = Mail::read(std::mem::take(&mut from), std::mem::take(&mut to), &data);
                shared.mails.lock().unwrap_or_else(PoisonError::into_inner).push(mail);
                b"250 kept\r\n"
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n")?;
                return Ok(());
            }
            _ => b"502 not here\r\n",
        };
        stream.write_all(answer)?;
    }
}

/// Lines up to a lone dot; a dot that begins a line was doubled by the sender.
fn read_data(lines: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(data);
        }
        data.extend(line.strip_prefix(b".").unwrap_or(&line));
    }
}

fn address_in(line: &str) -> String {
    let inside = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inside.map(|(address, _)| address.to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliver(sink: &MailSink, script: &str) -> String {
        let mut stream = TcpStream::connect(sink.address).expect("the sink listens");
        stream.write_all(script.as_bytes()).expect("the sink reads");
        let mut answers = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answers).expect("the sink answers and closes");
        answers
    }

    #[test]
    fn a_delivered_mail_can_be_taken_once() {
        let sink = MailSink::start();
        let script = "EHLO x\r\nMAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\nSubject: Hi\r\n\r\n..dot\r\n.\r\nQUIT\r\n";
        deliver(&sink, script);
        let mail = sink.take("b@x.example", Duration::from_secs(5));
        assert_eq!((mail.from.as_str(), mail.text()), ("a@x.example", ".dot\r\n"));
        assert_eq!(sink.count("b@x.example"), 0);
    }

    #[test]
    fn a_refusing_sink_keeps_nothing() {
        let sink = MailSink::start();
        sink.refuse(true);
        assert!(deliver(&sink, "HELO x\r\nMAIL FROM:<a@x.example>\r\nQUIT\r\n").contains("451"));
    }
}
