//! From a promise in a transaction to a mail server over TCP, through the faults between them.

#[path = "delivery/sink.rs"]
mod sink;
#[path = "delivery/world.rs"]
mod world;

use kernel::Clock as _;
use kernel::time::{DAY, MINUTE, SECOND};
use mail::Transport;
use sink::{Manner, Sink};
use std::time::Duration;
use store::{Error, params};
use world::{on_every_store, recipients, reset, smtp, smtp_at, templates, until};

#[test]
fn a_mail_leaves_once_to_one_mailbox_and_its_content_is_wiped() {
    on_every_store(|world| async move {
        world.promise("ada@example.com", reset("canary")).await;
        let waiting = world.rows().await.remove(0);
        assert_eq!((waiting.state.as_str(), waiting.recipient.as_str()), ("waiting", "ada@example.com"));
        assert!(!waiting.content.contains("canary") && !waiting.content.contains("http"));

        let sink = Sink::start(Manner::Polite);
        let worker = world.work(smtp_at(sink.address));
        world.until_all_are("sent").await;
        let sent = world.rows().await.remove(0);
        assert_eq!((sent.content.as_str(), sent.attempts, sent.last_error), ("", 1, None));
        let mail = sink.received().remove(0);
        assert_eq!(mail.recipients, ["<ada@example.com>"]);
        assert_eq!(mail.header("To"), Some("ada@example.com"));
        assert_eq!(mail.header("Auto-Submitted"), Some("auto-generated"));
        assert!(mail.header("Message-ID").unwrap().ends_with("@example.com>"));
        assert_eq!(mail::links_in(&mail.content)[0], "https://app.example.com/reset?token=canary");

        // A second one takes the same connection; the first does not leave again.
        world.promise("bob@example.com", reset("x")).await;
        world.until_all_are("sent").await;
        assert_eq!(recipients(&sink), ["<ada@example.com>", "<bob@example.com>"]);
        assert_eq!(sink.commands().iter().filter(|line| line.starts_with("EHLO")).count(), 1);
        worker.abort();
    });
}

#[test]
fn mails_promised_while_the_server_is_away_leave_once_when_it_returns() {
    on_every_store(|world| async move {
        let address = Sink::nowhere();
        let worker = world.work(smtp_at(address));
        for number in 0..20 {
            world.promise(&format!("u{number}@example.com"), reset("x")).await;
        }
        until("an attempt was refused", || async {
            world
                .rows()
                .await
                .iter()
                .any(|row| row.last_error.as_deref().is_some_and(|e| e.contains("connection")))
        })
        .await;
        assert!(world.rows().await.iter().all(|row| row.state == "waiting"));
        let sink = Sink::at(address, Manner::Polite);
        world.until_all_are("sent").await;
        assert_eq!(sink.count(), 20);
        worker.abort();
    });
}

#[test]
fn every_kind_of_passing_trouble_loses_nothing_and_doubles_nothing() {
    let troubles = [
        ("connect", "421 busy"),
        ("connect", "554 no service"),
        ("MAIL", "451 later"),
        ("MAIL", "550 sender unknown"),
        ("RCPT", "450 greylisted"),
        ("RCPT", "550 no such mailbox"),
        ("DATA", "451 later"),
        (".", "452 disk full"),
        (".", "554 not now"),
    ];
    on_every_store(|world| async move {
        let sink = Sink::start(Manner::Answer("connect", "421 busy"));
        let worker = world.work(smtp_at(sink.address));
        for (round, &(command, answer)) in troubles.iter().enumerate() {
            sink.behave(Manner::Answer(command, answer));
            for number in 0..5 {
                world.promise(&format!("u{round}-{number}@example.com"), reset("x")).await;
            }
            let code = &answer[..3];
            until(answer, || async {
                world.rows().await.iter().any(|row| {
                    row.state == "waiting" && row.last_error.as_deref().is_some_and(|e| e.contains(code))
                })
            })
            .await;
            sink.behave(Manner::Polite);
            world.until_all_are("sent").await;
            assert_eq!(sink.count(), (round + 1) * 5, "{answer}");
        }
        worker.abort();
    });
}

#[test]
fn a_crash_between_sending_and_marking_gives_one_duplicate_at_most() {
    on_every_store(|world| async move {
        let sink = Sink::start(Manner::HoldContent);
        let worker = world.work(smtp_at(sink.address));
        world.promise("ada@example.com", reset("x")).await;
        until("the content was taken", || async { sink.count() == 1 }).await;
        worker.abort();
        assert!(worker.await.unwrap_err().is_cancelled());
        sink.behave(Manner::Polite);

        let next = world.other_node();
        let worker = next.work(smtp_at(sink.address));
        next.promise("bob@example.com", reset("x")).await;
        until("the other mail left", || async { sink.count() == 2 }).await;
        assert_eq!(world.rows().await[0].state, "waiting", "the lease of the node that crashed still holds");
        world.clock.forward(MINUTE + SECOND);
        world.until_all_are("sent").await;
        assert_eq!(recipients(&sink), ["<ada@example.com>", "<ada@example.com>", "<bob@example.com>"]);
        let ids: Vec<_> =
            sink.received().iter().map(|m| m.header("Message-ID").unwrap().to_string()).collect();
        assert_eq!(ids[0], ids[2], "mailboxes can tell the copy");
        worker.abort();
    });
}

#[test]
fn content_taken_without_an_answer_is_sent_again_once_and_then_patiently() {
    on_every_store(|world| async move {
        let sink = Sink::start(Manner::DropAfterContent);
        let worker = world.work(smtp_at(sink.address));
        world.promise("ada@example.com", reset("x")).await;
        until("a second try", || async { world.rows().await[0].attempts == 2 }).await;
        until("its end", || async { sink.count() == 2 }).await;
        // Neither other mails' success nor minutes bring a third copy.
        sink.behave(Manner::Polite);
        world.clock.forward(10 * MINUTE);
        world.promise("bob@example.com", reset("x")).await;
        until("the other mail is sent", || async { world.rows().await[1].state == "sent" }).await;
        assert_eq!(sink.count(), 3);
        world.clock.forward(60 * MINUTE);
        world.until_all_are("sent").await;
        assert_eq!(sink.count(), 4);
        worker.abort();
    });
}

#[test]
fn a_mailbox_that_does_not_exist_is_given_up_with_the_reason_and_without_the_content() {
    on_every_store(|world| async move {
        let sink = Sink::start(Manner::Answer("RCPT", "550 5.1.1 no such mailbox"));
        let worker = world.work(smtp_at(sink.address));
        world.promise("ada@example.com", reset("canary")).await;
        for attempts in 1..=3 {
            until("a try", || async { world.rows().await[0].attempts >= attempts }).await;
            world.clock.forward(if attempts == 2 { 5 * MINUTE } else { 10 * SECOND });
        }
        world.until_all_are("failed").await;
        let row = world.rows().await.remove(0);
        assert_eq!(row.content, "");
        assert_eq!(row.last_error.as_deref(), Some("recipient: 550: 5.1.1 no such mailbox"));
        assert!(row.attempts <= 4 && sink.count() == 0);
        // The server is not to blame: others leave at once.
        sink.behave(Manner::Polite);
        world.promise("bob@example.com", reset("x")).await;
        until("the other mail left", || async { sink.count() == 1 }).await;
        worker.abort();
    });
}

#[test]
fn trouble_of_more_than_a_day_ends_in_failure() {
    on_every_store(|world| async move {
        world.promise("ada@example.com", reset("x")).await;
        world.clock.forward(DAY + SECOND);
        let worker = world.work(smtp_at(Sink::nowhere()));
        world.until_all_are("failed").await;
        assert!(world.rows().await[0].last_error.as_deref().unwrap().starts_with("connection"));
        worker.abort();
    });
}

#[test]
fn two_workers_on_one_store_never_send_a_mail_twice() {
    on_every_store(|world| async move {
        let sink = Sink::start(Manner::Polite);
        let other = world.other_node();
        for number in 0..150 {
            world.promise(&format!("u{number}@example.com"), reset("x")).await;
        }
        let workers = [world.work(smtp_at(sink.address)), other.work(smtp_at(sink.address))];
        for number in 150..300 {
            let node = if number % 2 == 0 { &world } else { &other };
            node.promise(&format!("u{number}@example.com"), reset("x")).await;
        }
        world.until_all_are("sent").await;
        let mut all = recipients(&sink);
        assert_eq!(all.len(), 300);
        all.dedup();
        assert_eq!(all.len(), 300);
        workers.iter().for_each(tokio::task::JoinHandle::abort);
    });
}

#[test]
fn a_clock_that_jumps_while_a_mail_is_on_its_way_does_not_send_it_twice() {
    on_every_store(|world| async move {
        let sink = Sink::start(Manner::HoldContent);
        let worker = world.work(smtp_at(sink.address));
        world.promise("ada@example.com", reset("x")).await;
        until("the content was taken", || async { sink.count() == 1 }).await;
        world.clock.forward(200 * SECOND);
        world.outbox.wake();
        until("the row was leased again", || async { world.rows().await[0].attempts == 2 }).await;
        sink.behave(Manner::Polite);
        world.until_all_are("sent").await;
        assert_eq!(sink.count(), 1);
        worker.abort();
    });
}

#[test]
fn an_orderly_stop_finishes_what_is_on_its_way_and_takes_no_more() {
    on_every_store(|world| async move {
        let sink = Sink::start(Manner::HoldContent);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let shutdown = async move { stopped.await.unwrap() };
        let worker = tokio::spawn(world.mailer(smtp_at(sink.address)).run(shutdown));
        world.promise("ada@example.com", reset("x")).await;
        until("the content was taken", || async { sink.count() == 1 }).await;
        stop.send(()).unwrap();
        sink.behave(Manner::Polite);
        worker.await.unwrap();
        assert_eq!(world.rows().await[0].state, "sent");
        world.promise("bob@example.com", reset("x")).await;
        assert_eq!(world.rows().await[1].state, "waiting");
        until("the connection was closed politely", || async {
            sink.commands().contains(&"QUIT".to_string())
        })
        .await;
        assert_eq!(sink.count(), 1);
    });
}

#[test]
fn a_row_whose_recipient_was_changed_does_not_leave() {
    on_every_store(|world| async move {
        let sink = Sink::start(Manner::Polite);
        world.promise("ada@example.com", reset("x")).await;
        let change =
            |tx: &mut store::Tx<'_>| tx.execute("UPDATE mails SET recipient = 'eve@example.com'", params![]);
        world.store.write::<_, Error, _>(change).await.unwrap();
        let worker = world.work(smtp_at(sink.address));
        until("it was tried", || async { world.rows().await[0].last_error.is_some() }).await;
        assert_eq!((sink.count(), world.rows().await[0].state.as_str()), (0, "waiting"));
        worker.abort();
    });
}

#[test]
fn without_a_mail_server_mails_are_skipped_and_wiped() {
    on_every_store(|world| async move {
        let worker = world.work(Transport::Nothing);
        world.promise("ada@example.com", reset("x")).await;
        world.until_all_are("skipped").await;
        assert_eq!(world.rows().await[0].content, "");
        worker.abort();
    });
}

#[test]
fn captured_mails_are_listed_newest_first_by_page_with_their_links() {
    on_every_store(|world| async move {
        let worker = world.work(Transport::Capture);
        for number in 1..=5 {
            world.promise(&format!("u{number}@example.com"), reset(&format!("t{number}"))).await;
            world.clock.forward(1);
        }
        let page = |limit: usize, before: Option<String>| {
            let (vault, templates) = (world.vault.clone(), templates());
            let read = move |tx: &mut store::Tx<'_>| {
                mail::captured(tx, &vault, &templates, limit, before.as_deref())
            };
            let store = world.store.clone();
            async move { store.scan::<_, Error, _>(read).await.unwrap() }
        };
        // At once, whether the worker has come by or not.
        assert_eq!(page(10, None).await.len(), 5);
        world.until_all_are("captured").await;
        let first = page(3, None).await;
        let rest = page(3, Some(first[2].id.clone())).await;
        let to: Vec<_> = first.iter().chain(&rest).map(|mail| mail.to.as_str()).collect();
        assert_eq!(to, [5, 4, 3, 2, 1].map(|n| format!("u{n}@example.com")));
        assert_eq!(first[0].links, ["https://app.example.com/reset?token=t5"]);
        assert_eq!(first[0].subject, "Choose a new password for My app");
        assert!(first[0].html.contains("token=t5") && first[0].text.contains("Hello Ada,"));
        worker.abort();
    });
}

#[test]
fn a_sweep_deletes_old_mails_that_no_longer_wait() {
    on_every_store(|world| async move {
        let worker = world.work(Transport::Nothing);
        for number in 0..3 {
            world.promise(&format!("u{number}@example.com"), reset("x")).await;
        }
        world.until_all_are("skipped").await;
        worker.abort();
        let _ = worker.await;
        world.promise("waits@example.com", reset("x")).await;
        let sweep = |keep: i64| {
            let now = world.clock.now();
            world.store.write::<_, Error, _>(move |tx| mail::sweep(tx, now, keep))
        };
        assert_eq!(sweep(DAY).await.unwrap(), 0);
        world.clock.forward(2 * DAY);
        let now = world.clock.now();
        let swept = world.store.write::<_, Error, _>(move |tx| mail::sweep(tx, now, DAY)).await.unwrap();
        assert_eq!(swept, 3);
        let left = world.rows().await;
        assert_eq!((left.len(), left[0].recipient.as_str()), (1, "waits@example.com"));
    });
}

#[test]
fn the_check_signs_in_and_says_what_is_wrong_without_the_password() {
    on_every_store(|_| async {
        let sink = Sink::start(Manner::Polite);
        let url = format!("smtp://user:sesame@{}", sink.address);
        let checked = smtp(&url).check().await.unwrap();
        assert_eq!((checked.encrypted, checked.authenticated), (false, true));
        assert_eq!(sink.count(), 0);

        sink.behave(Manner::Answer("AUTH", "535 sesame is not the password"));
        assert_eq!(smtp(&url).check().await.unwrap_err(), "sign-in: 535");
        let required = format!("smtp://{}?tls=required", sink.address);
        assert!(smtp(&required).check().await.unwrap_err().starts_with("TLS"));
        let nobody = format!("smtp://{}", Sink::nowhere());
        assert!(smtp(&nobody).check().await.unwrap_err().starts_with("connection"));
        sink.behave(Manner::Silent);
        let silent = tokio::time::timeout(Duration::from_secs(8), smtp(&url).check()).await;
        assert_eq!(silent.unwrap().unwrap_err(), "no answer within 5 seconds");
    });
}
