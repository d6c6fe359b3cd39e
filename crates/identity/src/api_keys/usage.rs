//! Using a key: one statement judges it and counts the use, so that of any number of callers at once no more pass than
//! may.

use super::{ApiKey, HASH, columns};
use kernel::{Millis, Vault};
use store::{Error, Tx, params};

/// What became of a use.
#[derive(Debug, Clone, PartialEq)]
pub enum Used {
    /// It counts, and this is the key as it is now.
    Counted(Box<ApiKey>),
    Refused(Unusable),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    Unknown,
    Disabled,
    Expired,
    /// All its uses are used up; when they come back, if they do.
    UsedUp {
        refills_at: Option<Millis>,
    },
    /// Too often within its window.
    TooOften {
        retry_at: Millis,
    },
}

macro_rules! is_limited {
    () => {
        "rate_limit_enabled AND rate_limit_window IS NOT NULL AND rate_limit_max IS NOT NULL"
    };
}
macro_rules! window_is_over {
    () => {
        "(last_request_at IS NULL OR last_request_at + rate_limit_window < $2)"
    };
}
macro_rules! refill_is_due {
    () => {
        "(refill_amount > 0 AND COALESCE(last_refill_at, created_at) + refill_interval < $2)"
    };
}

const TAKE: &str = concat!(
    "UPDATE api_keys SET
      request_count = CASE WHEN NOT (",
    is_limited!(),
    ") THEN request_count WHEN ",
    window_is_over!(),
    " THEN 1 ELSE request_count + 1 END,
      remaining = CASE WHEN remaining IS NULL THEN remaining WHEN ",
    refill_is_due!(),
    " THEN refill_amount - 1 ELSE remaining - 1 END,
      last_refill_at = CASE WHEN remaining IS NOT NULL AND ",
    refill_is_due!(),
    " THEN $2 ELSE last_refill_at END,
      last_request_at = $2, updated_at = $2
    WHERE key_hash = $1 AND enabled AND (expires_at IS NULL OR expires_at > $2)
      AND (NOT (",
    is_limited!(),
    ") OR ",
    window_is_over!(),
    " OR request_count < rate_limit_max)
      AND (remaining IS NULL OR remaining > 0 OR ",
    refill_is_due!(),
    ")
    RETURNING ",
    columns!()
);
const BY_HASH: &str = concat!("SELECT ", columns!(), " FROM api_keys WHERE key_hash = $1");

/// Uses a key once.
pub fn take(tx: &mut Tx<'_>, vault: &Vault, text: &str, now: Millis) -> Result<Used, Error> {
    let hash = vault.hash(HASH, text);
    if let Some(key) = tx.query_opt(TAKE, params![&hash, now], ApiKey::read)? {
        return Ok(Used::Counted(Box::new(key)));
    }
    let key = tx.query_opt(BY_HASH, params![&hash], ApiKey::read)?;
    Ok(Used::Refused(key.map_or(Unusable::Unknown, |key| why_not(&key, now))))
}

/// In the order in which the original looks.
fn why_not(key: &ApiKey, now: Millis) -> Unusable {
    if !key.enabled {
        return Unusable::Disabled;
    }
    if key.expires_at.is_some_and(|end| end <= now) {
        return Unusable::Expired;
    }
    if key.quota.remaining.is_some_and(|remaining| remaining <= 0) {
        let interval = key.quota.refill_interval.filter(|_| key.quota.refill_amount.is_some_and(|by| by > 0));
        let refills_at = interval.map(|time| key.last_refill_at.unwrap_or(key.created_at).plus(time + 1));
        return Unusable::UsedUp { refills_at };
    }
    let wait = key.limit.window.unwrap_or(0);
    Unusable::TooOften { retry_at: key.last_request_at.unwrap_or(now).plus(wait).max(now) }
}

#[cfg(test)]
mod tests {
    use super::super::{Holder, NewKey, Quota, RateLimit, create};
    use super::*;
    use kernel::vault::DataKey;
    use kernel::{OrganizationId, random};
    use store::{Options, Store};

    const NOW: Millis = Millis(1_800_000_000_000);

    async fn with_key<F>(limit: RateLimit, quota: Quota, expires_at: Option<Millis>, run: F)
    where
        F: FnOnce(&mut dyn FnMut(Millis) -> Used) + Send + Clone + 'static,
    {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}", folder.path().join("test.db").display());
        let store = Store::open(&Options { url, pool_size: 1 }).expect("a new database");
        store.migrate().expect("a new schema");
        let vault = Vault::new(&DataKey::generate(&mut random::secure()));
        let work = move |tx: &mut Tx<'_>| {
            let sql =
                "INSERT INTO organizations (id, name, slug, created_at) VALUES ('acme', 'Acme', 'acme', 0)";
            tx.execute(sql, &[])?;
            let holder = Holder::Organization(OrganizationId::from_text("acme"));
            let new = NewKey {
                holder,
                name: None,
                prefix: None,
                limit,
                quota,
                expires_at,
                permissions: None,
                metadata: None,
            };
            let (_, text) = create(tx, &vault, &new, NOW, &mut random::secure())?;
            run.clone()(&mut |now| take(tx, &vault, text.expose(), now).expect("the store answers"));
            Ok::<_, Error>(())
        };
        store.write(work).await.expect("the store answers");
    }

    const FREE: RateLimit = RateLimit { enabled: false, window: Some(1_000), max: Some(1) };

    fn counted(used: Used) -> ApiKey {
        match used {
            Used::Counted(key) => *key,
            Used::Refused(why) => panic!("{why:?}"),
        }
    }

    #[tokio::test]
    async fn the_window_begins_anew_after_the_last_use_that_counted() {
        let limit = RateLimit { enabled: true, window: Some(1_000), max: Some(2) };
        with_key(limit, Quota::default(), None, |take| {
            assert_eq!(counted(take(NOW)).request_count, 1);
            assert_eq!(counted(take(NOW.plus(600))).request_count, 2);
            let refused = Used::Refused(Unusable::TooOften { retry_at: NOW.plus(1_600) });
            assert_eq!(take(NOW.plus(700)), refused);
            assert_eq!(take(NOW.plus(1_600)), refused);
            assert_eq!(counted(take(NOW.plus(1_601))).request_count, 1);
        })
        .await;
    }

    #[tokio::test]
    async fn uses_run_out_and_are_refilled_once_for_each_interval() {
        let quota = Quota { remaining: Some(2), refill_interval: Some(1_000), refill_amount: Some(3) };
        with_key(FREE, quota, None, |take| {
            assert_eq!(counted(take(NOW)).quota.remaining, Some(1));
            assert_eq!(counted(take(NOW)).quota.remaining, Some(0));
            let refills_at = Some(NOW.plus(1_001));
            assert_eq!(take(NOW), Used::Refused(Unusable::UsedUp { refills_at }));
            assert_eq!(take(NOW.plus(1_000)), Used::Refused(Unusable::UsedUp { refills_at }));
            let refilled = counted(take(NOW.plus(1_001)));
            assert_eq!((refilled.quota.remaining, refilled.last_refill_at), (Some(2), refills_at));
            assert_eq!(counted(take(NOW.plus(1_002))).quota.remaining, Some(1));
            assert_eq!(counted(take(NOW.plus(1_002))).quota.remaining, Some(0));
            assert!(matches!(take(NOW.plus(2_001)), Used::Refused(Unusable::UsedUp { .. })));
        })
        .await;
        let quota = Quota { remaining: Some(0), ..Quota::default() };
        with_key(FREE, quota, None, |take| {
            assert_eq!(take(NOW), Used::Refused(Unusable::UsedUp { refills_at: None }));
        })
        .await;
    }

    #[tokio::test]
    async fn what_the_rate_refuses_uses_nothing_up() {
        let limit = RateLimit { enabled: true, window: Some(1_000), max: Some(1) };
        let quota = Quota { remaining: Some(5), ..Quota::default() };
        with_key(limit, quota, Some(NOW.plus(5_000)), |take| {
            counted(take(NOW));
            assert!(matches!(take(NOW), Used::Refused(Unusable::TooOften { .. })));
            assert_eq!(counted(take(NOW.plus(4_999))).quota.remaining, Some(3));
            assert_eq!(take(NOW.plus(5_000)), Used::Refused(Unusable::Expired));
        })
        .await;
    }
}
