//! Copies of a SQLite database: made under load, restored into its place, and refused when they cannot be trusted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::commands::{object, refused_in_words};
use crate::harness::{Browser, Engine, Server, until};

const PATIENCE: Duration = Duration::from_secs(15);

#[test]
fn a_backup_under_load_holds_everything_that_was_answered_before_it() {
    let mut server = Server::start(Engine::Sqlite);
    let (count, stop, answered) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(Vec::new()));
    let copy = server.folder().join("copy.db");
    let copy = copy.to_str().expect("a plain path").to_owned();
    let before = std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut browser = Browser::new(&server);
                    browser.sign_up(&format!("person-{}@example.com", count.fetch_add(1, Ordering::Relaxed)));
                    answered.lock().expect("nobody panics").push(browser);
                }
            });
        }
        let number = || answered.lock().expect("nobody panics").len();
        until(PATIENCE, "some sign-ups", || (number() >= 20).then_some(()));
        let before = number();
        let made = object(&server.command(&["backup", "create", &copy, "--json"]), 0);
        assert!(made["users"].as_u64().is_some_and(|users| users >= before as u64), "{made}");
        // Sign-ups went on, and some come after the backup.
        let after = number();
        until(PATIENCE, "a sign-up after the backup", || (number() > after).then_some(()));
        stop.store(true, Ordering::Relaxed);
        before
    });
    let mut people = answered.into_inner().expect("nobody panics");

    let again = server.command(&["backup", "create", &copy]);
    refused_in_words(&again, &["exists already"]);
    refused_in_words(&server.command(&["backup", "restore", &copy]), &["in use", "stop the server"]);
    let last = people.last_mut().expect("people signed up");
    assert_ne!(last.session(), Value::Null, "the refused restore changed nothing");

    // As after a crash: the journal of the database that is replaced must not reach the restored one.
    server.kill();
    let restored = object(&server.command(&["backup", "restore", &copy, "--json"]), 0);
    assert!(restored["users"].as_u64().is_some_and(|users| users >= before as u64), "{restored}");
    server.restart();
    for person in &mut people[..before] {
        assert_ne!(person.session(), Value::Null);
    }
    assert_eq!(people.last_mut().expect("people signed up").session(), Value::Null, "came after the backup");
    Browser::new(&server).sign_up("new@example.com");
    assert_eq!(server.database.value("PRAGMA integrity_check").as_deref(), Some("ok"));
}

#[test]
fn a_damaged_or_foreign_file_is_not_restored() {
    let mut server = Server::start(Engine::Sqlite);
    let mut ada = Browser::new(&server);
    ada.sign_up("ada@example.com");
    let folder = server.folder().to_owned();
    let path = |name: &str| folder.join(name).to_str().expect("a plain path").to_owned();
    let (copy, damaged, foreign, newer) =
        (path("copy.db"), path("damaged.db"), path("foreign.db"), path("newer.db"));
    object(&server.command(&["backup", "create", &copy, "--json"]), 0);
    server.stop();
    let mut bytes = std::fs::read(&copy).expect("the copy is there");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4_096].fill(0x5a);
    std::fs::write(&damaged, bytes).expect("the folder is ours");
    std::fs::write(&foreign, "no database at all").expect("the folder is ours");
    std::fs::copy(&copy, &newer).expect("the folder is ours");
    let opened = rusqlite::Connection::open(&newer).expect("the copy opens");
    opened.execute("UPDATE schema_version SET version = 99", []).expect("a statement");
    drop(opened);
    for file in [&damaged, &foreign, &newer, &path("absent.db")] {
        object(&server.command(&["backup", "restore", file, "--json"]), 1);
    }
    server.restart();
    assert_eq!(ada.session()["user"]["email"], "ada@example.com");
}

#[test]
fn postgres_is_left_to_its_own_tools_for_backups() {
    let server = Server::start(Engine::Postgres);
    for command in ["create", "restore"] {
        refused_in_words(&server.command(&["backup", command, "copy.db"]), &["pg_dump"]);
    }
}
