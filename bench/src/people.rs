//! The users and sessions that fill every side's database, and the requests they make. All of them follow from their
//! number, so nothing has to be kept beside the database.

use crate::answer::{self, Answer};
use crate::load::{Exchange, Verdict};
use kernel::signed::Signer;
use kernel::{Millis, Secrets};
use sha2::{Digest as _, Sha256};
use std::net::SocketAddr;
use std::time::Duration;

pub const PASSWORD: &str = "sparrow-lantern-17-orchard";
pub const USER_AGENT: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";
/// Seeded sessions live that long, so that no check of a cached database has to extend one.
pub const SESSION_LIFE_DAYS: i64 = 400;
/// A cached database is made anew before its sessions come near their end.
pub const CACHE_LIFE_DAYS: i64 = 300;

/// The secret of every side: 64 letters, the same in every run, since it seals what is cached.
pub fn secret() -> String {
    let digest = Sha256::digest(b"the secret of a load test");
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One user with one session, as every side stores them in its own format.
pub struct Person {
    pub user_id: String,
    pub session_id: String,
    pub account_id: String,
    pub token: String,
    pub name: String,
    pub email: String,
    pub ip_address: String,
    pub created_at: Millis,
    pub expires_at: Millis,
}

impl Person {
    pub fn new(number: u32, now: Millis) -> Person {
        // Over the last three weeks.
        let created_at = now.minus(i64::from(number % 1_814_400) * kernel::time::SECOND);
        Person {
            user_id: user_id(number),
            session_id: letters("session", number),
            account_id: letters("account", number),
            token: token(number),
            name: format!("Person {number}"),
            email: email(number),
            ip_address: format!("203.0.{}.{}", number / 250 % 250, number % 250),
            created_at,
            expires_at: created_at.plus(SESSION_LIFE_DAYS * kernel::time::DAY),
        }
    }
}

pub fn user_id(number: u32) -> String {
    letters("user", number)
}

pub fn token(number: u32) -> String {
    letters("token", number)
}

/// Addresses are looked up in no order, so they are not stored in one either.
pub fn email(number: u32) -> String {
    format!("{}.{number}@example.com", letters("email", number)[..8].to_ascii_lowercase())
}

/// 32 letters and digits. A digest's bytes are not spread evenly over 62 characters, which does not matter here.
fn letters(what: &str, number: u32) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let digest = Sha256::new().chain_update(what).chain_update(number.to_be_bytes()).finalize();
    digest.iter().map(|&byte| char::from(ALPHABET[usize::from(byte) % 62])).collect()
}

/// Random numbers that cost nothing beside a request (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u32) -> u32 {
        ((u64::from(self.roll() as u32) * u64::from(end)) >> 32) as u32
    }
}

/// The session cookie of every person, rendered once.
pub struct Cookies {
    text: Vec<u8>,
    ends: Vec<u32>,
}

impl Cookies {
    pub fn of(rows: u32) -> Cookies {
        let signer = Signer::new(&Secrets::new(vec![secret()]).expect("one secret is enough"));
        let mut cookies = Cookies { text: Vec::with_capacity(rows as usize * 90), ends: Vec::new() };
        for number in 0..rows {
            cookies.text.extend_from_slice(signer.sign_for_cookie(&token(number)).as_bytes());
            cookies.ends.push(u32::try_from(cookies.text.len()).expect("options bound the number of rows"));
        }
        cookies
    }

    pub fn rows(&self) -> u32 {
        self.ends.len() as u32
    }

    pub fn of_person(&self, number: usize) -> &[u8] {
        let from = if number == 0 { 0 } else { self.ends[number - 1] as usize };
        &self.text[from..self.ends[number] as usize]
    }
}

/// `GET /api/auth/get-session` with the cookies of random people.
pub struct SessionChecks<'a> {
    cookies: &'a Cookies,
    dice: Dice,
    head: String,
    /// How many answers are still read to the letter: they must hold the token that was asked for.
    to_the_letter: u32,
}

impl<'a> SessionChecks<'a> {
    pub fn new(cookies: &'a Cookies, address: SocketAddr, round: u64) -> SessionChecks<'a> {
        SessionChecks { cookies, dice: Dice(round), head: session_check_head(address), to_the_letter: 100 }
    }

    /// For the side that has one answer for everybody.
    pub fn answered_alike(mut self) -> SessionChecks<'a> {
        self.to_the_letter = 0;
        self
    }
}

pub(crate) fn session_check_head(address: SocketAddr) -> String {
    format!(
        "GET /api/auth/get-session HTTP/1.1\r\nHost: {address}\r\nAccept: application/json\r\nUser-Agent: {USER_AGENT}\r\n"
    )
}

impl Exchange for SessionChecks<'_> {
    fn write_request(&mut self, out: &mut Vec<u8>) -> usize {
        let number = self.dice.below(self.cookies.rows()) as usize;
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(b"Cookie: better-auth.session_token=");
        out.extend_from_slice(self.cookies.of_person(number));
        out.extend_from_slice(b"\r\n\r\n");
        number
    }

    fn check(&mut self, number: usize, answer: &Answer<'_>) -> Verdict {
        let good = answer.status == 200 && answer.body.starts_with(b"{\"session\"");
        if !good {
            return wrong("a session check", answer);
        }
        if self.to_the_letter > 0 {
            self.to_the_letter -= 1;
            if answer::find(&answer.body, token(number as u32).as_bytes()).is_none() {
                return wrong("a session check (the token asked for is missing)", answer);
            }
        }
        Verdict::Good
    }
}

/// One session check; with `person` signed in, without anybody's cookie in an empty database.
pub fn one_session_check(address: SocketAddr, person: Option<u32>) -> Vec<u8> {
    let mut request = session_check_head(address);
    if let Some(number) = person {
        let signer = Signer::new(&Secrets::new(vec![secret()]).expect("one secret is enough"));
        request.push_str("Cookie: better-auth.session_token=");
        request.push_str(&signer.sign_for_cookie(&token(number)));
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request.into_bytes()
}

/// `POST /api/auth/sign-in/email` of random people with the right password.
pub struct SignIns {
    rows: u32,
    dice: Dice,
    address: SocketAddr,
}

impl SignIns {
    pub fn new(rows: u32, address: SocketAddr, round: u64) -> SignIns {
        SignIns { rows, dice: Dice(round), address }
    }
}

impl Exchange for SignIns {
    fn write_request(&mut self, out: &mut Vec<u8>) -> usize {
        let number = self.dice.below(self.rows);
        let body = format!(r#"{{"email":"{}","password":"{PASSWORD}"}}"#, email(number));
        let address = self.address;
        let head = format!(
            "POST /api/auth/sign-in/email HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\nAccept: application/json\r\nUser-Agent: {USER_AGENT}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body.as_bytes());
        number as usize
    }

    fn check(&mut self, _: usize, answer: &Answer<'_>) -> Verdict {
        if answer.status == 503 {
            let seconds =
                answer::header(answer.head, "retry-after").and_then(|value| std::str::from_utf8(value).ok());
            return Verdict::Refused(Duration::from_secs(
                seconds.and_then(|text| text.parse().ok()).unwrap_or(1),
            ));
        }
        let good = answer.status == 200
            && answer::find(&answer.body, b"\"token\":\"").is_some()
            && answer::header(answer.head, "set-cookie").is_some();
        if good { Verdict::Good } else { wrong("a sign-in", answer) }
    }
}

fn wrong(what: &str, answer: &Answer<'_>) -> Verdict {
    Verdict::Wrong(format!("wrong answer to {what}: {} {}", answer.status, answer::shown(&answer.body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn checks(cookies: &Cookies) -> SessionChecks<'_> {
        SessionChecks::new(cookies, SocketAddr::from(([127, 0, 0, 1], 80)), 1)
    }

    fn answer(body: &str) -> Answer<'_> {
        Answer { status: 200, head: b"", body: Cow::Borrowed(body.as_bytes()), length: 0, closes: false }
    }

    #[test]
    fn every_cookie_opens_to_its_persons_token() {
        let cookies = Cookies::of(100);
        let signer = Signer::new(&Secrets::new(vec![secret()]).unwrap());
        for number in 0..100 {
            let cookie = std::str::from_utf8(cookies.of_person(number)).unwrap();
            assert_eq!(signer.open(cookie).as_deref(), Some(token(number as u32).as_str()));
        }
    }

    #[test]
    fn the_dice_reach_everybody() {
        let mut dice = Dice(3);
        let seen: std::collections::BTreeSet<u32> = (0..2_000).map(|_| dice.below(100)).collect();
        assert_eq!(seen, (0..100).collect());
    }

    #[test]
    fn nobody_and_somebody_elses_session_are_wrong_answers() {
        let cookies = Cookies::of(10);
        let mut checks = checks(&cookies);
        let good = format!("{{\"session\":{{\"token\":\"{}\"}}}}", token(4));
        assert_eq!(checks.check(4, &answer(&good)), Verdict::Good);
        assert!(matches!(checks.check(5, &answer(&good)), Verdict::Wrong(_)));
        assert!(matches!(checks.check(4, &answer("null")), Verdict::Wrong(_)));
        assert_eq!(checks.answered_alike().check(5, &answer(&good)), Verdict::Good);
    }
}
