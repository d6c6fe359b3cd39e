//! What an app writes first: one statement for each debit on PostgreSQL, committed by itself.

use crate::credits::load::{Caller, Load, PLENTY, Tally, closed_loop};
use crate::postgres::Postgres;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Statement};

const SCHEMA: [&str; 2] = [
    "CREATE TABLE account (id TEXT PRIMARY KEY, balance BIGINT NOT NULL)",
    "CREATE TABLE entry (
      id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      account_id TEXT NOT NULL,
      amount BIGINT NOT NULL,
      balance_after BIGINT NOT NULL,
      created_at BIGINT NOT NULL,
      idempotency_key TEXT NOT NULL UNIQUE
    )",
];
const DEBIT: &str = "
    WITH taken AS (
      UPDATE account SET balance = balance - $1 WHERE id = $2 AND balance >= $1 RETURNING balance
    )
    INSERT INTO entry (account_id, amount, balance_after, created_at, idempotency_key)
    SELECT $2, -$1, balance, $3, $4 FROM taken RETURNING balance_after";

pub struct NaivePostgres {
    callers: Vec<OneConnection>,
}

/// A caller with a connection of its own, as in a pool that is large enough.
#[derive(Clone)]
struct OneConnection {
    client: Arc<Client>,
    debit: Statement,
}

impl NaivePostgres {
    pub fn open(
        runtime: &Runtime,
        postgres: &Postgres,
        database: &str,
        owners: &[String],
        most_callers: u32,
    ) -> Result<NaivePostgres, String> {
        postgres.drop_database(database)?;
        postgres.create_database(database, "template1")?;
        postgres.sql(database, &SCHEMA)?;
        let url = postgres.url(database);
        let callers = runtime.block_on(async {
            let mut callers = Vec::new();
            for _ in 0..most_callers {
                callers.push(OneConnection::open(&url).await?);
            }
            let add = "INSERT INTO account (id, balance) SELECT id, $2 FROM unnest($1::text[]) AS id";
            callers[0].client.execute(add, &[&owners, &PLENTY]).await?;
            Ok::<_, tokio_postgres::Error>(callers)
        });
        let callers = callers.map_err(|error| format!("{url}: {error}"))?;
        postgres.sql(database, &["VACUUM (ANALYZE)"])?;
        Ok(NaivePostgres { callers })
    }

    pub fn debit_at_full_speed(
        &self,
        runtime: &Runtime,
        load: &Load,
        owners: &Arc<[String]>,
    ) -> Result<Tally, String> {
        let callers = self.callers.iter().take(load.callers as usize).cloned().collect();
        closed_loop(runtime, load, owners, callers)
    }
}

impl OneConnection {
    async fn open(url: &str) -> Result<OneConnection, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        // Ends with the client; an error shows in the debit that meets it.
        tokio::spawn(async move { drop(connection.await) });
        let debit = client.prepare(DEBIT).await?;
        Ok(OneConnection { client: Arc::new(client), debit })
    }
}

impl Caller for OneConnection {
    async fn debit(&mut self, owner: &str, key: String) -> Result<(), String> {
        let now = 1_767_225_600_000_i64;
        let rows = self.client.query(&self.debit, &[&1_i64, &owner, &now, &key]).await;
        match rows.map_err(|error| format!("the naive statement: {error}"))?.len() {
            1 => Ok(()),
            count => Err(format!("the naive statement gave {count} rows")),
        }
    }
}
