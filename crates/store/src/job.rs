//! A waiting closure without its types: what the writer thread and the worker threads run.

use crate::error::Error;
use crate::tx::Tx;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// What becomes of a closure's statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    Undo,
}

pub(crate) trait Job: Send {
    /// Runs the closure; may be called again after a failed attempt.
    fn run(&mut self, tx: &mut Tx<'_>) -> Verdict;
    /// Sends the answer. `end` is how the transaction ended; a failed one turns a good result into that error.
    fn finish(self: Box<Self>, end: Result<(), Error>);
    /// Marks the job as begun; false when the caller has stopped waiting for its turn.
    fn begin(&self) -> bool;
}

/// Whether a job was begun, and whether its caller still waits: whoever sets the flag first decides.
#[derive(Default)]
pub(crate) struct Turn {
    taken: AtomicBool,
}

impl Turn {
    /// True for the first who asks: the worker that begins the job, or the caller that gives up waiting for it.
    pub(crate) fn take(&self) -> bool {
        !self.taken.swap(true, Ordering::AcqRel)
    }
}

pub(crate) struct Closure<F, T, E> {
    run: F,
    result: Option<Result<T, E>>,
    answer: oneshot::Sender<Result<T, E>>,
    turn: Arc<Turn>,
}

impl<F, T, E> Closure<F, T, E> {
    pub(crate) fn new(run: F) -> (Box<Self>, oneshot::Receiver<Result<T, E>>, Arc<Turn>) {
        let (answer, wait) = oneshot::channel();
        let turn = Arc::new(Turn::default());
        (Box::new(Closure { run, result: None, answer, turn: turn.clone() }), wait, turn)
    }
}

impl<F, T, E> Job for Closure<F, T, E>
where
    F: FnMut(&mut Tx<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send,
{
    fn run(&mut self, tx: &mut Tx<'_>) -> Verdict {
        self.result = Some(run_caught(&mut self.run, tx));
        if matches!(self.result, Some(Ok(_))) { Verdict::Keep } else { Verdict::Undo }
    }

    fn finish(self: Box<Self>, end: Result<(), Error>) {
        let result = match (self.result, end) {
            (Some(Ok(_)) | None, Err(error)) => Err(E::from(error)),
            (Some(result), _) => result,
            (None, Ok(())) => Err(E::from(Error::Fault("the closure was not run".into()))),
        };
        // A caller that went away does not want to know.
        let _ = self.answer.send(result);
    }

    fn begin(&self) -> bool {
        self.turn.take()
    }
}

/// How long a caller waits for its turn, and in all.
const TURN_TIME: Duration = Duration::from_millis(1_500);
const CALLER_TIME: Duration = Duration::from_millis(3_500);

/// Waits for an answer, but neither for a turn nor in all longer than a request may take.
pub(crate) async fn wait<T, E: From<Error>>(
    answer: oneshot::Receiver<Result<T, E>>,
    turn: &Turn,
) -> Result<T, E> {
    let gone = || Err(E::from(Error::Unavailable("the database thread dropped the request".into())));
    let mut answer = answer;
    if let Ok(result) = tokio::time::timeout(TURN_TIME, &mut answer).await {
        return result.unwrap_or_else(|_| gone());
    }
    if turn.take() {
        return Err(E::from(Error::Unavailable("the database had no time for the request".into())));
    }
    match tokio::time::timeout(CALLER_TIME - TURN_TIME, answer).await {
        Ok(result) => result.unwrap_or_else(|_| gone()),
        Err(_) => Err(E::from(Error::Unavailable("the database does not answer".into()))),
    }
}

/// A panic in a closure undoes its statements and answers an error; the thread lives on.
pub(crate) fn run_caught<T, E: From<Error>>(
    run: &mut impl FnMut(&mut Tx<'_>) -> Result<T, E>,
    tx: &mut Tx<'_>,
) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(|| run(tx)))
        .unwrap_or_else(|_| Err(E::from(Error::Fault("a closure panicked".into()))))
}
