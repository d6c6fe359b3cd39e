//! A small blocking HTTP/1.1 client: the bytes that leave are exactly those of the request, and nothing is retried,
//! followed or decoded behind the test's back.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// No door keeps an honest caller waiting longer.
pub const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Request {
        Request { method: method.into(), target: target.into(), headers: Vec::new(), body: Vec::new() }
    }

    pub fn get(target: &str) -> Request {
        Request::new("GET", target)
    }

    pub fn post(target: &str, json: &Value) -> Request {
        Request::new("POST", target).json(json)
    }

    /// As a browser sends a form.
    pub fn form(target: &str, fields: &[(&str, &str)]) -> Request {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        Request::new("POST", target).header("Content-Type", "application/x-www-form-urlencoded").body(body)
    }

    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn json(self, json: &Value) -> Request {
        self.header("Content-Type", "application/json").body(json.to_string())
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }

    /// `Host` and `Content-Length` are added unless the request names them.
    pub fn bytes(&self, host: &str) -> Vec<u8> {
        let named = |wanted: &str| self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !named("Host") {
            head.push_str(&format!("Host: {host}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let framed = named("Content-Length") || named("Transfer-Encoding");
        if !framed && (!self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT" | "PATCH")) {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend(&self.body);
        bytes
    }

    /// One request on a connection of its own.
    pub fn send(&self, address: SocketAddr) -> Result<Response, Failure> {
        Connection::open(address)?.exchange(self)
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens.
    Refused,
    /// The connection ended before the first byte of an answer.
    Closed,
    TimedOut,
    /// An answer began and did not end well.
    Broken(String),
}

impl Failure {
    fn before_answer(error: &std::io::Error) -> Failure {
        match error.kind() {
            ErrorKind::ConnectionRefused => Failure::Refused,
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Failure::TimedOut,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => Failure::Closed,
            _ => Failure::Broken(error.to_string()),
        }
    }

    fn within_answer(error: &std::io::Error) -> Failure {
        match Failure::before_answer(error) {
            Failure::TimedOut => Failure::TimedOut,
            _ => Failure::Broken(error.to_string()),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// In the order they came, repeated ones too.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let first = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        first.map(|(_, value)| value.as_str())
    }

    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.headers.iter().filter(move |(found, _)| found.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{} answer is not JSON ({error}): {}", self.status, self.text()),
        }
    }

    /// The `code` of an error; empty when there is none.
    pub fn code(&self) -> String {
        let body: Option<Value> = serde_json::from_slice(&self.body).ok();
        body.and_then(|body| Some(body.get("code")?.as_str()?.to_owned())).unwrap_or_default()
    }

    /// Asserts status and `code`.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Response {
        assert_eq!((self.status, self.code().as_str()), (status, code), "{}", self.text());
        self
    }

    /// Asserts the status, showing the body when it is another one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Whether the server has said that this connection ends here.
    pub fn closes(&self) -> bool {
        self.all("Connection")
            .any(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("close")))
    }
}

/// One connection, kept alive as long as both sides want it.
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Result<Connection, Failure> {
        let stream =
            TcpStream::connect_timeout(&address, TIMEOUT).map_err(|error| Failure::before_answer(&error))?;
        // Small requests go out at once.
        stream.set_nodelay(true).map_err(|error| Failure::before_answer(&error))?;
        let mut connection = Connection { stream: BufReader::new(stream), host: address.to_string() };
        connection.set_timeout(TIMEOUT);
        Ok(connection)
    }

    /// How long each read and write may take.
    pub fn set_timeout(&mut self, timeout: Duration) {
        let stream = self.stream.get_ref();
        stream.set_read_timeout(Some(timeout)).expect("a positive time limit can be set");
        stream.set_write_timeout(Some(timeout)).expect("a positive time limit can be set");
    }

    pub fn exchange(&mut self, request: &Request) -> Result<Response, Failure> {
        self.send(&request.bytes(&self.host))?;
        self.receive(&request.method)
    }

    /// Exactly these bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.get_mut().write_all(bytes).map_err(|error| Failure::before_answer(&error))
    }

    /// The final answer to a request with that method; interim ones (1xx) are passed over.
    pub fn receive(&mut self, method: &str) -> Result<Response, Failure> {
        loop {
            let mut response = self.receive_head()?;
            if response.status < 200 {
                continue;
            }
            if method != "HEAD" && !matches!(response.status, 204 | 304) {
                response.body = self.receive_body(&response)?;
            }
            return Ok(response);
        }
    }

    /// Status line and headers of the next answer, be it an interim one.
    pub fn receive_head(&mut self) -> Result<Response, Failure> {
        match self.stream.fill_buf() {
            Ok([]) => return Err(Failure::Closed),
            Ok(_) => {}
            Err(error) => return Err(Failure::before_answer(&error)),
        }
        let status_line = self.line()?;
        let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| Failure::Broken(format!("status line {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Response { status, headers, body: Vec::new() });
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| Failure::Broken(format!("header {line:?}")))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// Everything until the other side closes: for answers that are not HTTP.
    pub fn receive_rest(&mut self) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            // A server that refuses a request without reading all of it resets the connection.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(bytes),
            Err(error) => Err(Failure::within_answer(&error)),
        }
    }

    fn receive_body(&mut self, head: &Response) -> Result<Vec<u8>, Failure> {
        if head.header("Transfer-Encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return self.chunks();
        }
        let Some(length) = head.header("Content-Length") else { return self.receive_rest() };
        let length = length.parse().map_err(|_| Failure::Broken(format!("Content-Length {length:?}")))?;
        self.exactly(length)
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        loop {
            let size = self.line()?;
            let digits = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16)
                .map_err(|_| Failure::Broken(format!("chunk size {size:?}")))?;
            if size == 0 {
                // Trailers, up to the empty line.
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(size)?);
            self.line()?;
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).map_err(|error| Failure::within_answer(&error))?;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).map_err(|error| Failure::within_answer(&error))?;
        let text =
            line.strip_suffix(b"\r\n").ok_or_else(|| Failure::Broken("the answer was cut off".into()))?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one connection with these bytes and closes it.
    fn answering(bytes: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the test connects");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            stream.write_all(bytes).expect("the test reads");
        });
        address
    }

    #[test]
    fn chunks_repeated_headers_and_interim_answers_are_read() {
        let address = answering(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n\
              Transfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4;x=y\r\n\":1}\r\n0\r\n\r\n",
        );
        let response = Request::get("/").send(address).expect("an answer").expect(200);
        assert_eq!(response.all("Set-Cookie").collect::<Vec<_>>(), ["a=1", "b=2"]);
        assert_eq!(response.json()["a"], 1);
    }

    #[test]
    fn an_answer_that_is_cut_off_is_broken_and_none_at_all_is_closed() {
        let short = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        assert!(matches!(Request::get("/").send(short), Err(Failure::Broken(_))));
        assert_eq!(Request::get("/").send(answering(b"")).err(), Some(Failure::Closed));
    }

    #[test]
    fn the_request_is_written_as_it_stands() {
        let request = Request::post("/x", &serde_json::json!({})).header("Origin", "https://a.example");
        let expected = "POST /x HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
                        Origin: https://a.example\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(String::from_utf8_lossy(&request.bytes("h")), expected);
    }
}
