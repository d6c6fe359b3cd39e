//! What is asked at the gate, and what must come back. Every answer's status, person and end are looked at; the first
//! ones of every load are read whole.

use crate::answer::{self, Answer};
use crate::credits::load::{Draw, PLENTY};
use crate::credits::options::Accounts;
use crate::credits::over_http::write_post;
use crate::gate::crowd::Crowd;
use crate::load::{Exchange, Verdict};
use crate::people::{Dice, session_check_head};
use serde_json::Value;
use std::io::Write as _;
use std::net::SocketAddr;

/// So many answers of a load are read whole.
const READ_WHOLE: u32 = 100;
const SUBJECT: &[u8] = br#"{"subject":{"kind":"user","id":""#;
const NO_CHARGE: &[u8] = br#""charge":null,"guest":null}"#;
const CHARGED: &[u8] = br#""replayed":false},"guest":null}"#;

/// Who asks, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Anybody, for nothing but a session.
    Session,
    /// One of those with credits, for a credit.
    Random,
    /// Always the same person, for a credit.
    Hot,
}

impl Asked {
    fn accounts(self) -> Accounts {
        if self == Asked::Hot { Accounts::Hot } else { Accounts::Random }
    }
}

/// The one call: at Tollgate's door with a service key, or at a backend's without.
pub struct Authorize<'a> {
    crowd: &'a Crowd,
    asked: Asked,
    head: String,
    draw: Draw,
    dice: Dice,
    to_read: u32,
}

impl<'a> Authorize<'a> {
    /// `number` differs for every load of a run.
    pub fn new(
        crowd: &'a Crowd,
        asked: Asked,
        address: SocketAddr,
        service_key: Option<&str>,
        number: u64,
    ) -> Authorize<'a> {
        let authorization =
            service_key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
        Authorize {
            crowd,
            asked,
            head: format!(
                "POST /api/gate/authorize HTTP/1.1\r\nHost: {address}\r\n{authorization}Content-Type: application/json\r\nCookie: better-auth.session_token="
            ),
            draw: Draw::new(crowd.owners(), asked.accounts(), number),
            dice: Dice(number << 32),
            to_read: READ_WHOLE,
        }
    }
}

impl Exchange for Authorize<'_> {
    fn write_request(&mut self, out: &mut Vec<u8>) -> usize {
        let person = match self.asked {
            Asked::Session => self.dice.below(self.crowd.cookies().rows()) as usize,
            _ => self.crowd.person_of(self.draw.number()),
        };
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(self.crowd.cookie(person));
        // Writing to memory cannot fail.
        let _ = match self.asked {
            Asked::Session => out.write_all(b"\r\nContent-Length: 2\r\n\r\n{}"),
            _ => write!(
                out,
                "\r\nIdempotency-Key: {}\r\nContent-Length: 23\r\n\r\n{{\"charge\":{{\"amount\":1}}}}",
                self.draw.key()
            ),
        };
        person
    }

    fn check(&mut self, person: usize, answer: &Answer<'_>) -> Verdict {
        let user_id = self.crowd.user_id(person);
        let end = if self.asked == Asked::Session { NO_CHARGE } else { CHARGED };
        let mut good = answer.status == 200
            && answer.body.strip_prefix(SUBJECT).is_some_and(|rest| rest.starts_with(user_id.as_bytes()))
            && answer.body.ends_with(end);
        if good && self.to_read > 0 {
            self.to_read -= 1;
            good = is_whole(&answer.body, user_id, self.asked != Asked::Session);
        }
        if good { Verdict::Good } else { wrong("authorize", answer) }
    }
}

fn is_whole(body: &[u8], user_id: &str, charged: bool) -> bool {
    let Ok(read) = serde_json::from_slice::<Value>(body) else { return false };
    let charge = &read["charge"];
    let plenty = |figure: &Value| figure.as_i64().is_some_and(|found| (1..PLENTY).contains(&found));
    let charge_is_good = match charged {
        true => {
            charge["entry_id"].as_str().is_some_and(|id| !id.is_empty())
                && charge["amount"] == 1
                && charge["unit"] == "credits"
                && plenty(&charge["balance"])
                && plenty(&charge["available"])
        }
        false => charge.is_null(),
    };
    read["user"]["user_id"] == user_id && read["session"]["expires_at"].is_string() && charge_is_good
}

/// A session check and then a debit, one after the other by the same caller: what the one call replaces.
pub struct TwoCalls<'a> {
    crowd: &'a Crowd,
    address: SocketAddr,
    service_key: &'a str,
    check_head: String,
    draw: Draw,
    /// Whose session has just been seen; the debit follows on the same connection.
    seen: Option<usize>,
    to_read: u32,
}

impl<'a> TwoCalls<'a> {
    pub fn new(crowd: &'a Crowd, address: SocketAddr, service_key: &'a str, number: u64) -> TwoCalls<'a> {
        TwoCalls {
            crowd,
            address,
            service_key,
            check_head: format!("{}Cookie: better-auth.session_token=", session_check_head(address)),
            draw: Draw::new(crowd.owners(), Accounts::Random, number),
            seen: None,
            to_read: 2 * READ_WHOLE,
        }
    }

    /// Whether this answer is to be read whole.
    fn reads(&mut self) -> bool {
        let reads = self.to_read > 0;
        self.to_read -= u32::from(reads);
        reads
    }
}

/// The number of a request tells the owner's place and which step it is.
const STEPS: usize = 2;

impl Exchange for TwoCalls<'_> {
    fn write_request(&mut self, out: &mut Vec<u8>) -> usize {
        if let Some(owner) = self.seen.take() {
            let body = format!(r#"{{"user_id":"{}","amount":1}}"#, self.crowd.owners()[owner]);
            let key = self.draw.key();
            write_post(out, self.address, "/api/credits/debits", self.service_key, &key, &body);
            return owner * STEPS + 1;
        }
        let owner = self.draw.number();
        out.extend_from_slice(self.check_head.as_bytes());
        out.extend_from_slice(self.crowd.cookie(self.crowd.person_of(owner)));
        out.extend_from_slice(b"\r\n\r\n");
        owner * STEPS
    }

    fn check(&mut self, number: usize, answer: &Answer<'_>) -> Verdict {
        let (owner, is_debit) = (number / STEPS, number % STEPS == 1);
        let user_id = &self.crowd.owners()[owner];
        let whole = self.reads();
        let read = || serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        if is_debit {
            let good = answer.status == 201
                && answer.body.starts_with(b"{\"entry\":{")
                && (!whole || {
                    let entry = &read()["entry"];
                    entry["amount"] == -1 && entry["user_id"] == user_id.as_str()
                });
            return if good { Verdict::Good } else { wrong("a debit", answer) };
        }
        let good = answer.status == 200
            && answer.body.starts_with(b"{\"session\":{")
            && (!whole || read()["user"]["id"] == user_id.as_str());
        if !good {
            return wrong("a session check", answer);
        }
        self.seen = Some(owner);
        Verdict::GoesOn
    }
}

pub fn wrong(what: &str, answer: &Answer<'_>) -> Verdict {
    Verdict::Wrong(format!("wrong answer to {what}: {} {}", answer.status, answer::shown(&answer.body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80);

    fn answer(status: u16, body: &str) -> Answer<'_> {
        Answer { status, head: b"", body: Cow::Borrowed(body.as_bytes()), length: 0, closes: false }
    }

    fn body(user_id: &str, charge: &str) -> String {
        format!(
            r#"{{"subject":{{"kind":"user","id":"{user_id}"}},"user":{{"user_id":"{user_id}"}},"session":{{"expires_at":"2027-01-01T00:00:00.000Z"}},"charge":{charge},"guest":null}}"#
        )
    }

    fn charge(amount: i64, replayed: bool) -> String {
        format!(
            r#"{{"entry_id":"e","amount":{amount},"unit":"credits","balance":7,"available":7,"replayed":{replayed}}}"#
        )
    }

    #[test]
    fn a_charge_must_be_made_for_the_person_who_asked() {
        let crowd = Crowd::new(100);
        let mut asked = Authorize::new(&crowd, Asked::Random, ADDRESS, Some("tg_sk_x"), 1);
        let mut request = Vec::new();
        let person = asked.write_request(&mut request);
        let request = String::from_utf8(request).unwrap();
        let (head, sent) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {}", sent.len())), "{request}");
        assert!(head.contains("\r\nIdempotency-Key: ") && head.contains("\r\nAuthorization: Bearer tg_sk_x"));
        let user_id = crowd.user_id(person);
        let mut verdict = |status, body: String| asked.check(person, &answer(status, &body));
        assert_eq!(verdict(200, body(user_id, &charge(1, false))), Verdict::Good);
        for (status, body) in [
            (402, body(user_id, &charge(1, false))),
            (200, body(user_id, &charge(2, false))),
            (200, body(user_id, &charge(1, true))),
            (200, body(user_id, "null")),
            (200, body(crowd.user_id((person + 1) % 100), &charge(1, false))),
        ] {
            assert!(matches!(verdict(status, body.clone()), Verdict::Wrong(_)), "{status} {body}");
        }
    }

    #[test]
    fn without_a_charge_nothing_may_be_charged() {
        let crowd = Crowd::new(100);
        let mut asked = Authorize::new(&crowd, Asked::Session, ADDRESS, None, 1);
        let mut request = Vec::new();
        let person = asked.write_request(&mut request);
        assert!(request.ends_with(b"\r\nContent-Length: 2\r\n\r\n{}"));
        let user_id = crowd.user_id(person);
        assert_eq!(asked.check(person, &answer(200, &body(user_id, "null"))), Verdict::Good);
        let charged = body(user_id, &charge(1, false));
        assert!(matches!(asked.check(person, &answer(200, &charged)), Verdict::Wrong(_)));
    }

    #[test]
    fn the_debit_is_of_the_person_whose_session_was_seen() {
        let crowd = Crowd::new(100);
        let mut calls = TwoCalls::new(&crowd, ADDRESS, "tg_sk_x", 1);
        let mut request = Vec::new();
        let check = calls.write_request(&mut request);
        assert!(request.starts_with(b"GET /api/auth/get-session "));
        let user_id = crowd.owners()[check / STEPS].as_str();
        let session = format!(r#"{{"session":{{}},"user":{{"id":"{user_id}"}}}}"#);
        assert!(matches!(calls.check(check, &answer(200, "null")), Verdict::Wrong(_)));
        assert_eq!(calls.check(check, &answer(200, &session)), Verdict::GoesOn);
        request.clear();
        let debit = calls.write_request(&mut request);
        assert_eq!(debit, check + 1);
        assert!(String::from_utf8(request).unwrap().contains(user_id));
        let entry = |amount: i64| format!(r#"{{"entry":{{"amount":{amount},"user_id":"{user_id}"}}}}"#);
        assert_eq!(calls.check(debit, &answer(201, &entry(-1))), Verdict::Good);
        assert!(matches!(calls.check(debit, &answer(201, &entry(-2))), Verdict::Wrong(_)));
        assert!(matches!(calls.check(debit, &answer(402, &entry(-1))), Verdict::Wrong(_)));
    }
}
