//! The connection to Redis: one, made anew after a failure, and never waited for long.

use crate::counters::{Hit, Rule};
use crate::error::Error;
use kernel::{Millis, Stopwatch};
use redis::{Client, FromRedisValue, RedisError, Script};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

const ANSWER_TIME: Duration = Duration::from_millis(250);
/// After a failure Redis is left alone for so long, and then asked by one caller: a silent one would hold up each.
const PAUSE: Duration = Duration::from_secs(1);

/// One script, so that reading and counting cannot be parted. Times come from the caller, as everywhere.
static HIT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local found = redis.call('HMGET', KEYS[1], 'count', 'last')
local now, window, max = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local count, last = tonumber(found[1]) or 0, tonumber(found[2]) or now
if last + window <= now then count = 0 end
if count >= max then return {0, last + window} end
redis.call('HSET', KEYS[1], 'count', count + 1, 'last', ARGV[1])
redis.call('PEXPIRE', KEYS[1], window)
return {1, count + 1}",
    )
});

#[derive(Clone)]
pub(super) struct Redis {
    client: Client,
    link: Arc<tokio::sync::Mutex<Option<redis::aio::MultiplexedConnection>>>,
    /// Since when it does not answer.
    failed: Arc<Mutex<Option<Stopwatch>>>,
}

impl Redis {
    pub fn new(url: &str) -> Result<Redis, Error> {
        let client = Client::open(url).map_err(|error| Error::Misuse(format!("redis_url: {error}")))?;
        Ok(Redis { client, link: Arc::default(), failed: Arc::default() })
    }

    /// After a failure, true for one caller in each pause.
    pub fn may_be_asked(&self) -> bool {
        let mut failed = self.failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*failed {
            None => true,
            Some(since) if since.elapsed() < PAUSE => false,
            Some(_) => {
                *failed = Some(Stopwatch::start());
                true
            }
        }
    }

    fn note(&self, failure: Option<Stopwatch>) {
        *self.failed.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = failure;
    }

    pub async fn hit(&self, key: &str, rule: Rule, now: Millis) -> Result<Hit, String> {
        let (counted, number) = self.run(&HIT, &[key], &[now.0, rule.window, rule.max]).await?;
        Ok(match counted {
            1 => Hit::Counted { count: number },
            _ => Hit::Refused { retry_at: Millis(number) },
        })
    }

    pub async fn ping(&self) -> Result<(), String> {
        let call = async {
            let mut link = self.connection().await?;
            redis::cmd("PING").query_async::<()>(&mut link).await
        };
        self.in_time(call).await
    }

    /// Runs a script; one that Redis does not know, after a restart or a flush, is sent to it first.
    pub async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[&str],
        numbers: &[i64],
    ) -> Result<T, String> {
        let mut call = script.prepare_invoke();
        keys.iter().for_each(|key| {
            call.key(format!("tollgate:{key}"));
        });
        numbers.iter().for_each(|number| {
            call.arg(number);
        });
        let call = async {
            let mut link = self.connection().await?;
            call.invoke_async(&mut link).await
        };
        self.in_time(call).await
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, RedisError>>) -> Result<T, String> {
        let result = match tokio::time::timeout(ANSWER_TIME, call).await {
            Ok(Ok(value)) => {
                self.note(None);
                return Ok(value);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_string(),
        };
        self.note(Some(Stopwatch::start()));
        // The next call opens a new connection.
        *self.link.lock().await = None;
        Err(result)
    }

    async fn connection(&self) -> Result<redis::aio::MultiplexedConnection, RedisError> {
        let mut link = self.link.lock().await;
        if let Some(open) = &*link {
            return Ok(open.clone());
        }
        let fresh = self.client.get_multiplexed_async_connection().await?;
        Ok(link.insert(fresh).clone())
    }
}
