//! The bare axum handler (`bench-bare-handler`), which answers the bytes of Tollgate from memory.

use crate::cache::Cache;
use crate::people::{Person, USER_AGENT};
use crate::server::{Contents, Server, Side, free_address};
use kernel::{Clock as _, SystemClock};
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;

pub struct BareHandler {
    pub cache: Rc<Cache>,
    pub program: PathBuf,
}

/// Where an answer of Tollgate is put for it.
pub fn answer_file(cache: &Cache) -> PathBuf {
    cache.run_file("answer.http")
}

impl Side for BareHandler {
    fn key(&self) -> &'static str {
        "bare-handler"
    }

    fn title(&self) -> &'static str {
        "bare axum handler"
    }

    fn signs_in(&self) -> bool {
        false
    }

    /// An answer of the right size, for runs without Tollgate; replaced by a real one as soon as there is one.
    fn prepare(&mut self) -> Result<(), String> {
        let file = answer_file(&self.cache);
        std::fs::write(&file, example()).map_err(|error| format!("{}: {error}", file.display()))
    }

    fn start(&mut self, _: Contents) -> Result<Server, String> {
        let address = free_address()?;
        let mut command = Command::new(&self.program);
        command.arg(address.to_string()).arg(answer_file(&self.cache));
        let log = self.cache.run_file("bare-handler.log");
        // It has one answer, whatever it is asked for.
        Server::start(self.title(), &mut command, address, Contents::Seeded, &log)
    }

    fn versions(&self) -> String {
        "axum 0.8".to_owned()
    }
}

fn example() -> String {
    let person = Person::new(0, SystemClock.now());
    let (created, expires) = (person.created_at.iso(), person.expires_at.iso());
    let body = format!(
        r#"{{"session":{{"expiresAt":"{expires}","token":"{}","createdAt":"{created}","updatedAt":"{created}","ipAddress":"{}","userAgent":"{USER_AGENT}","userId":"{}","id":"{}"}},"user":{{"name":"{}","email":"{}","emailVerified":false,"image":null,"createdAt":"{created}","updatedAt":"{created}","id":"{}"}}}}"#,
        person.token,
        person.ip_address,
        person.user_id,
        person.session_id,
        person.name,
        person.email,
        person.user_id
    );
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: no-store\r\npragma: no-cache\r\nx-content-type-options: nosniff\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::parse;

    #[test]
    fn the_example_is_a_session_check_as_the_load_generator_wants_it() {
        let example = example();
        let answer = parse(example.as_bytes()).unwrap().unwrap();
        assert_eq!((answer.status, answer.length), (200, example.len()));
        assert!(answer.body.starts_with(b"{\"session\""));
    }
}
