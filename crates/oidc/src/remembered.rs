//! What was fetched from a provider is used for a while, and a failure is remembered for a moment, so that many who wait
//! for a provider that is away do not wait one after another.

use crate::wire::Trouble;
use kernel::Millis;
use kernel::time::SECOND;
use std::sync::Arc;

/// After a failure nobody waits for the next one for so long.
const FAILURE_PAUSE: i64 = 3 * SECOND;
/// Something that was fetched, with the time, and when fetching it failed last.
pub(crate) struct Remembered<T> {
    pub value: Option<(Arc<T>, Millis)>,
    failed: Option<(Trouble, Millis)>,
}

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Remembered { value: None, failed: None }
    }
}

impl<T> Remembered<T> {
    pub fn younger_than(&self, age: i64, now: Millis) -> Option<Arc<T>> {
        let (value, since) = self.value.as_ref()?;
        (since.plus(age) > now).then(|| value.clone())
    }

    /// Fetches it, unless that failed a moment ago.
    pub async fn fetch(
        &mut self,
        now: Millis,
        fetching: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<Arc<T>, Trouble> {
        if let Some((trouble, at)) = &self.failed
            && at.plus(FAILURE_PAUSE) > now
        {
            return Err(trouble.clone());
        }
        match fetching.await {
            Ok(value) => {
                let value = Arc::new(value);
                (self.value, self.failed) = (Some((value.clone(), now)), None);
                Ok(value)
            }
            Err(trouble) => {
                self.failed = Some((trouble.clone(), now));
                Err(trouble)
            }
        }
    }
}
