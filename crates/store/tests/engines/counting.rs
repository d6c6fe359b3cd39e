//! Counters: exact under races, wherever they are kept.

use crate::fresh::{Fresh, On, fresh, redis_url};
use crate::on_both;
use kernel::Millis;
use std::net::TcpListener;
use store::{Counters, Error, Hit, Rule, hit_from_first_in, hit_in};

on_both![
    counters_of_two_nodes_are_exact_under_a_race,
    a_window_ends_after_the_last_counted_hit,
    a_count_from_the_first_hit_ends_one_window_later,
];

const RULE: Rule = Rule { window: 10_000, max: 7 };

async fn race(nodes: Vec<Counters>, key: &'static str) -> usize {
    let hits: Vec<_> = (0..50)
        .map(|n| {
            let node = nodes[n % nodes.len()].clone();
            tokio::spawn(async move { node.hit(key, RULE, Millis(1_000)).await.unwrap() })
        })
        .collect();
    let mut counted = 0;
    for hit in hits {
        counted += usize::from(matches!(hit.await.unwrap(), Hit::Counted { .. }));
    }
    counted
}

async fn counters_of_two_nodes_are_exact_under_a_race(fresh: Fresh) {
    let first = Counters::open(&fresh.store, "").unwrap();
    // SQLite has one process, so its nodes share one set of counters.
    let second = if fresh.url.starts_with("sqlite") {
        first.clone()
    } else {
        Counters::open(&fresh.open_again(), "").unwrap()
    };
    assert_eq!(race(vec![first, second], "race").await, 7);
    // Counts that belong to a transaction are as exact.
    let hits: Vec<_> = (0..30)
        .map(|_| {
            let store = fresh.store.clone();
            tokio::spawn(async move {
                store.write(|tx| hit_in(tx, "inside", RULE, Millis(1))).await.map_err(|e: Error| e).unwrap()
            })
        })
        .collect();
    let mut counted = 0;
    for hit in hits {
        counted += usize::from(matches!(hit.await.unwrap(), Hit::Counted { .. }));
    }
    assert_eq!(counted, 7);
}

async fn a_count_from_the_first_hit_ends_one_window_later(fresh: Fresh) {
    let hit = |now: i64| {
        let store = fresh.store.clone();
        let rule = Rule { window: 100, max: 3 };
        async move {
            store
                .write(move |tx| hit_from_first_in(tx, "k", rule, Millis(now)))
                .await
                .map_err(|e: Error| e)
                .unwrap()
        }
    };
    assert_eq!(hit(0).await, Hit::Counted { count: 1 });
    assert_eq!(hit(60).await, Hit::Counted { count: 2 });
    assert_eq!(hit(99).await, Hit::Counted { count: 3 });
    assert_eq!(hit(99).await, Hit::Refused { retry_at: Millis(100) });
    assert_eq!(hit(100).await, Hit::Counted { count: 1 });
    assert_eq!(hit(199).await, Hit::Counted { count: 2 });
}

async fn a_window_ends_after_the_last_counted_hit(fresh: Fresh) {
    let hit = |now: i64| {
        let store = fresh.store.clone();
        async move {
            store
                .write(move |tx| hit_in(tx, "k", Rule { window: 100, max: 2 }, Millis(now)))
                .await
                .map_err(|e: Error| e)
                .unwrap()
        }
    };
    assert_eq!(hit(0).await, Hit::Counted { count: 1 });
    assert_eq!(hit(50).await, Hit::Counted { count: 2 });
    assert_eq!(hit(149).await, Hit::Refused { retry_at: Millis(150) });
    assert_eq!(hit(150).await, Hit::Counted { count: 1 });
    let more =
        fresh.store.write(|tx| Counters::sweep_in(tx, Millis(10_000))).await.map_err(|e: Error| e).unwrap();
    assert!(!more);
    assert_eq!(hit(151).await, Hit::Counted { count: 1 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_counts_exactly_for_two_nodes() {
    let fresh = fresh(On::Sqlite).await;
    let nodes: Vec<_> = (0..2).map(|_| Counters::open(&fresh.store, &redis_url()).unwrap()).collect();
    let key: &'static str = format!("redis-race-{}", std::process::id()).leak();
    assert_eq!(race(nodes.clone(), key).await, 7);
    assert_eq!(nodes[0].redis_answers().await, Some(true));
    let refused = nodes[1].hit(key, RULE, Millis(5_000)).await.unwrap();
    assert_eq!(refused, Hit::Refused { retry_at: Millis(11_000) });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_node_counts_for_itself_and_never_not_at_all() {
    let fresh = fresh(On::Sqlite).await;
    // A port that nobody listens on, and one that takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [gone, silent.local_addr().unwrap()] {
        let counters = Counters::open(&fresh.store, &format!("redis://{address}")).unwrap();
        assert_eq!(race(vec![counters.clone()], "lost").await, 7, "{address}");
        assert_eq!(counters.redis_answers().await, Some(false));
    }
}
