//! The pages of `dev` on the running binary: there in `dev`, missing in `serve`. They need no database but SQLite, so
//! they stand apart from the other black-box tests: `cargo test -p tollgate --test dev_pages`.

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const SECRET: &str = "dev-pages-5fQ2vW8rT1yU4iO7pA0sD3gH6jK9lZ";
const PATIENCE: Duration = Duration::from_secs(20);
const PATHS: [&str; 8] = [
    "/",
    "/dev",
    "/dev/",
    "/dev/start",
    "/dev/mail",
    "/dev/mail.json",
    "/dev/mail/0/html",
    "/dev/assets/tollgate.css",
];

struct Server {
    address: SocketAddr,
    process: Child,
    _folder: TempDir,
}

impl Server {
    /// Any free port; the first line of `--json` says which.
    fn start(arguments: &[&str], settings: &[(&str, &str)]) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("sqlite://{}", folder.path().join("tollgate.db").display());
        let mut process = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(arguments)
            .arg("--json")
            .env_clear()
            .env("TOLLGATE_DATABASE_URL", database)
            .envs(settings.iter().copied())
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        let address = told["listening"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
        Server { address, process, _folder: folder }
    }

    fn send(&self, head: &str, host: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        write!(
            stream,
            "{head} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer[9..12].parse().unwrap(), answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.send(&format!("GET {path}"), &format!("localhost:{}", self.address.port()), "")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_requested_mail_is_in_the_inbox_at_once() {
    let server = Server::start(&["dev", "--listen", "127.0.0.1:0"], &[]);
    let (status, start) = server.get("/dev");
    assert_eq!(status, 200, "{start}");
    assert!(start.contains("TOLLGATE_KEY=tg_sk_") && start.contains("ada@example.test"), "{start}");
    let asked = json!({"email": "ada@example.test"}).to_string();
    let (status, _) = server.send("POST /api/auth/request-password-reset", "localhost", &asked);
    assert_eq!(status, 200);
    let (status, list) = server.get("/dev/mail.json");
    assert_eq!(status, 200);
    let list: Value = serde_json::from_str(&list).unwrap();
    let mail = &list["items"][0];
    assert_eq!(mail["to"], "ada@example.test");
    let link = mail["links"][0].as_str().unwrap();
    assert!(
        link.starts_with(&format!("http://localhost:{}/api/auth/reset-password/", server.address.port())),
        "{link}"
    );
    let (status, part) = server.get(&format!("/dev/mail/{}/html", mail["id"].as_str().unwrap()));
    assert!(status == 200 && part.contains("<base target=\"_blank\">"), "{part}");
    // A name that was pointed at this machine.
    for path in PATHS {
        assert_eq!(server.send(&format!("GET {path}"), "rebound.example", "").0, 403, "{path}");
    }
}

#[test]
fn serve_knows_none_of_the_pages() {
    let settings = [
        ("TOLLGATE_BASE_URL", "http://localhost:8655"),
        ("TOLLGATE_LISTEN", "127.0.0.1:0"),
        ("TOLLGATE_SECRET", SECRET),
        ("TOLLGATE_MAIL__SMTP_URL", "none"),
    ];
    let server = Server::start(&["serve"], &settings);
    assert_eq!(server.get("/healthz").0, 200);
    for path in PATHS {
        assert_eq!(server.get(path).0, 404, "{path}");
    }
    let (_, document) = server.get("/openapi.json");
    // Not `/device`, which is everybody's.
    assert!(!document.contains("\"/dev\"") && !document.contains("\"/dev/"), "the document names them");
}
