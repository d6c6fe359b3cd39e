//! Migrations: one set for both engines, whole or not at all.

use crate::fresh::{Fresh, On, empty};
use crate::on_both;
use store::{Error, MigrateError, newest_version};

on_both![nodes_that_start_together_migrate_once, a_newer_schema_is_refused_and_left_alone];

async fn nodes_that_start_together_migrate_once(_: Fresh) {
    for on in [On::Sqlite, On::Postgres] {
        let fresh = empty(on).await;
        assert_eq!(fresh.store.schema_version().unwrap(), 0);
        let nodes: Vec<_> = (0..4).map(|_| fresh.open_again()).collect();
        let runs: Vec<_> =
            nodes.into_iter().map(|node| std::thread::spawn(move || node.migrate().unwrap())).collect();
        // A migration that ran twice would have failed: its tables are there.
        let done: Vec<_> = runs.into_iter().map(|run| run.join().unwrap()).collect();
        assert!(done.iter().all(|done| done.to == newest_version()), "{done:?}");
        assert!(done.iter().any(|done| done.from == 0), "{done:?}");
        assert_eq!(fresh.store.schema_version().unwrap(), newest_version());
    }
}

async fn a_newer_schema_is_refused_and_left_alone(fresh: Fresh) {
    let newer = newest_version() + 1;
    fresh
        .store
        .write(move |tx| tx.execute("UPDATE schema_version SET version = $1", store::params![newer]))
        .await
        .map_err(|e: Error| e)
        .unwrap();
    let refused = fresh.store.migrate().unwrap_err();
    assert!(matches!(refused, MigrateError::Newer { .. }), "{refused}");
    assert_eq!(fresh.store.schema_version().unwrap(), newer);
}
