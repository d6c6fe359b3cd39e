//! Counters: exact under races, wherever they are kept.

use crate::fresh::{Fresh, On, fresh, redis_url};
use crate::on_both;
use kernel::Millis;
use std::net::TcpListener;
use store::{Budget, Counters, Error, Hit, Rule, Spent, Taken, WithoutRedis, hit_from_first_in, hit_in};

on_both![
    counters_of_two_nodes_are_exact_under_a_race,
    a_window_ends_after_the_last_counted_hit,
    a_count_from_the_first_hit_ends_one_window_later,
    a_taking_draws_on_all_budgets_or_on_none,
    budgets_of_two_nodes_are_exact_under_a_race,
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

fn budgets(list: &[(&str, i64)]) -> Vec<Budget> {
    list.iter().map(|(key, max)| Budget { key: (*key).into(), max: *max }).collect()
}

/// The same promises wherever the counts are kept; `mark` keeps tests that share a Redis apart.
async fn takes_from_all_or_none(counters: &Counters, mark: &str) {
    let [a, b, x] = ["a", "b", "x"].map(|name| format!("{mark}-{name}"));
    let take = |list: Vec<Budget>, now: i64| {
        let counters = counters.clone();
        async move { counters.take(list, 10_000, Millis(now), WithoutRedis::Refuse).await.unwrap() }
    };
    let spent = |count: i64, ends_at: i64| Spent { count, ends_at: Some(Millis(ends_at)) };
    let with_x = |key: &str| budgets(&[(key, 2), (&x, 3)]);
    assert_eq!(take(with_x(&a), 1_000).await, Taken::Counted(vec![spent(1, 11_000), spent(1, 11_000)]));
    assert_eq!(take(with_x(&b), 2_000).await, Taken::Counted(vec![spent(1, 12_000), spent(2, 11_000)]));
    assert_eq!(take(with_x(&b), 3_000).await, Taken::Counted(vec![spent(2, 12_000), spent(3, 11_000)]));
    assert_eq!(take(with_x(&b), 3_500).await, Taken::Refused { at: 0, spent: spent(2, 12_000) });
    assert_eq!(take(with_x(&a), 4_000).await, Taken::Refused { at: 1, spent: spent(3, 11_000) });
    let keys = vec![a.clone(), x.clone(), format!("{mark}-nobody")];
    let look = |now: i64| {
        let (counters, keys) = (counters.clone(), keys.clone());
        async move { counters.spent(keys, Millis(now), WithoutRedis::Refuse).await.unwrap() }
    };
    assert_eq!(look(10_999).await, [spent(1, 11_000), spent(3, 11_000), Spent::default()]);
    assert_eq!(look(11_000).await, [Spent::default(); 3]);
    // The window is over for two of them; the third one's is not.
    assert_eq!(take(with_x(&a), 11_000).await, Taken::Counted(vec![spent(1, 21_000), spent(1, 21_000)]));
    assert_eq!(take(with_x(&b), 11_999).await, Taken::Refused { at: 0, spent: spent(2, 12_000) });
    let never = budgets(&[(&x, 3), ("never", 0)]);
    assert_eq!(take(never, 12_000).await, Taken::Refused { at: 1, spent: Spent::default() });
    assert_eq!(look(12_000).await[1], spent(1, 21_000));
    assert_eq!(counters.spent(Vec::new(), Millis(0), WithoutRedis::Refuse).await.unwrap(), []);
}

/// 60 at once by turns on the nodes: each of ten has two, all together have seven.
async fn race_for_budgets(nodes: &[Counters], mark: &str) {
    let takings: Vec<_> = (0..60)
        .map(|number| {
            let node = nodes[number % nodes.len()].clone();
            let own = format!("{mark}-{}", number % 10);
            let list = budgets(&[(&own, 2), (&format!("{mark}-all"), 7)]);
            tokio::spawn(async move {
                let taken = node.take(list, 10_000, Millis(1_000), WithoutRedis::Refuse).await.unwrap();
                matches!(taken, Taken::Counted(_)).then_some(own)
            })
        })
        .collect();
    let mut counted: Vec<String> = Vec::new();
    for taking in takings {
        counted.extend(taking.await.unwrap());
    }
    assert_eq!(counted.len(), 7);
    for number in 0..10 {
        let own = format!("{mark}-{number}");
        let found = nodes[0].spent(vec![own.clone()], Millis(1_000), WithoutRedis::Refuse).await.unwrap();
        assert_eq!(found[0].count, counted.iter().filter(|key| **key == own).count() as i64);
    }
}

async fn a_taking_draws_on_all_budgets_or_on_none(fresh: Fresh) {
    takes_from_all_or_none(&Counters::open(&fresh.store, "").unwrap(), "plain").await;
}

async fn budgets_of_two_nodes_are_exact_under_a_race(fresh: Fresh) {
    let first = Counters::open(&fresh.store, "").unwrap();
    let second = match fresh.url.starts_with("sqlite") {
        true => first.clone(),
        false => Counters::open(&fresh.open_again(), "").unwrap(),
    };
    race_for_budgets(&[first, second], "race").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_takes_from_all_budgets_or_from_none_and_exactly() {
    let fresh = fresh(On::Sqlite).await;
    let nodes: Vec<_> = (0..2).map(|_| Counters::open(&fresh.store, &redis_url()).unwrap()).collect();
    let mark = format!("budgets-{}", std::process::id());
    takes_from_all_or_none(&nodes[0], &mark).await;
    race_for_budgets(&nodes, &format!("{mark}-race")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_budgets_are_refused_or_counted_by_each_node() {
    let fresh = fresh(On::Sqlite).await;
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [gone, silent.local_addr().unwrap()] {
        let counters = Counters::open(&fresh.store, &format!("redis://{address}")).unwrap();
        let take = |without| counters.take(budgets(&[("lost", 2), ("all", 9)]), 100, Millis(1), without);
        for _ in 0..3 {
            let refused = take(WithoutRedis::Refuse).await;
            assert!(matches!(&refused, Err(error) if error.is_unavailable()), "{refused:?}");
        }
        let mut counted = 0;
        for _ in 0..5 {
            let taken = take(WithoutRedis::CountHere).await.unwrap();
            counted += usize::from(matches!(taken, Taken::Counted(_)));
        }
        assert_eq!(counted, 2, "{address}");
        let look = |without| counters.spent(vec!["lost".into()], Millis(1), without);
        assert_eq!(look(WithoutRedis::CountHere).await.unwrap()[0].count, 2);
        assert!(look(WithoutRedis::Refuse).await.is_err());
    }
}
