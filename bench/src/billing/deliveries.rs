//! Events of paid packs at a steady rate: how fast they are answered, and when the last of them is worked off.

use super::options::{Options, SideName};
use super::shop::{CREDITS, Shop, signature};
use crate::answer::{self, Answer};
use crate::credits::over_http::Client;
use crate::load::{Exchange, Span, Verdict, open_loop};
use crate::people;
use crate::report::{Bar, Better, Column, Group, Row};
use crate::rounds::say;
use serde_json::Value;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 32;
/// One in so many is a copy of the one before it.
const COPIES: usize = 10;
const WANTED_P99_MS: f64 = 50.0;
const WANTED_DONE_SECONDS: f64 = 2.0;
const PATIENCE: Duration = Duration::from_secs(60);

pub fn group(options: &Options) -> Group {
    let columns = vec![
        Column::less("p99_ms", "p99 ms", 2),
        Column::less("p50_ms", "p50 ms", 2),
        Column::less("max_ms", "max ms", 1),
        Column::less("done_s", "all done after s", 2),
        Column::less("lost", "lost or twice", 0),
    ];
    let (rate, seconds) = (options.per_second, options.seconds());
    let title = format!("{rate} deliveries/s for {seconds} s (open loop), one in {COPIES} of them a copy");
    Group { key: "deliveries".into(), title, columns, rows: Vec::new() }
}

pub fn measure(options: &Options, shop: &mut Shop, name: SideName) -> Result<(Row, Vec<Bar>), String> {
    let deliveries = options.deliveries() as usize;
    let purchases = deliveries - deliveries / COPIES;
    say(&format!("{}: {purchases} checkouts", name.title()));
    let buyers = u32::try_from(purchases).map_err(|_| "too many deliveries")?;
    let sessions = shop.backend.checkouts(buyers)?;
    for session in &sessions {
        shop.till.pay(session).map_err(|refusal| format!("{session} cannot be paid: {refusal}"))?;
    }
    let is_paid = |event: &Value| event["type"] == "checkout.session.completed";
    let events: Vec<Vec<u8>> = shop
        .till
        .events()
        .iter()
        .filter(|event| is_paid(event))
        .map(|event| event.to_string().into_bytes())
        .collect();
    if events.len() != purchases {
        return Err(format!("{} events instead of {purchases}", events.len()));
    }
    say(&format!("{}: {deliveries} deliveries", name.title()));
    let measured = Duration::from_secs(options.seconds().into());
    let span =
        Span { address: shop.backend.address, connections: CONNECTIONS, warm_up: Duration::ZERO, measured };
    let mut stream = Deliveries { address: shop.backend.address, events: &events, sent: 0 };
    let mut tally = open_loop(span, options.per_second, &mut stream)?;
    let last = Instant::now();
    let sent = stream.sent;
    if sent != deliveries || tally.latencies.count() != deliveries {
        return Err(format!("{sent} deliveries were sent and {} answered", tally.latencies.count()));
    }
    let mut client = Client::connect(shop.backend.address)?;
    while shop.backend.get(&mut client, "/api/billing/events?status=pending&limit=1")?["items"]
        != Value::Array(Vec::new())
    {
        if last.elapsed() > PATIENCE {
            return Err("events wait for a minute after the last delivery".into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let done = last.elapsed().as_secs_f64();
    let mut wrong = 0_u32;
    for person in 0..buyers {
        let path = format!("/api/credits/balance?user_id={}", people::user_id(person));
        let balance = shop.backend.get(&mut client, &path)?;
        wrong += u32::from(balance["balance"] != CREDITS);
    }
    shop.server.check_alive()?;
    let [p50, p99, max] = [50.0, 99.0, 100.0].map(|percent| tally.latencies.percentile(percent));
    let mut row = Row::new(name.key(), name.title(), 5);
    row.add(&[p99, p50, max, done, f64::from(wrong)]);
    let bar = |what: &str, found, wanted| {
        let what = format!("deliveries, {what}, {}", name.key());
        Bar { what, found, wanted, better: Better::Less }
    };
    let bars = vec![
        bar("p99 of the answer in ms", p99, WANTED_P99_MS),
        bar("all done after the last, in s", done, WANTED_DONE_SECONDS),
        bar("lost or credited twice", f64::from(wrong), 0.0),
    ];
    Ok((row, bars))
}

/// Each event once, and some of them twice in a row, signed as they leave.
struct Deliveries<'a> {
    address: SocketAddr,
    events: &'a [Vec<u8>],
    sent: usize,
}

impl Exchange for Deliveries<'_> {
    fn write_request(&mut self, out: &mut Vec<u8>) -> usize {
        // The last of ten is the ninth again.
        let number = self.sent - self.sent / COPIES - usize::from(self.sent % COPIES == COPIES - 1);
        let body = &self.events[number.min(self.events.len() - 1)];
        self.sent += 1;
        // Writing to memory cannot fail.
        let _ = write!(
            out,
            "POST /api/billing/webhook HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json; charset=utf-8\r\nStripe-Signature: {}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            signature(body),
            body.len()
        );
        out.extend_from_slice(body);
        number
    }

    fn check(&mut self, _: usize, answer: &Answer<'_>) -> Verdict {
        let good = answer.status == 200 && *answer.body == *br#"{"received":true}"#;
        let wrong =
            || format!("wrong answer to a delivery: {} {}", answer.status, answer::shown(&answer.body));
        if good { Verdict::Good } else { Verdict::Wrong(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_sent_and_one_in_ten_twice() {
        let events: Vec<Vec<u8>> = (0..90_u8).map(|number| vec![number]).collect();
        let address = "127.0.0.1:1".parse().expect("an address");
        let mut stream = Deliveries { address, events: &events, sent: 0 };
        let sent: Vec<usize> = (0..100).map(|_| stream.write_request(&mut Vec::new())).collect();
        assert_eq!(sent[..12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10]);
        let mut different = sent.clone();
        different.dedup();
        assert_eq!((different.len(), sent.last()), (90, Some(&89)));
    }
}
