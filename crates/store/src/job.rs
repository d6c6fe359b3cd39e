//! A waiting closure without its types: what the writer thread and the worker threads run.

use crate::error::Error;
use crate::tx::Tx;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// A panic in a closure undoes its statements and answers an error; the thread lives on.
pub(crate) fn run_caught<T, E: From<Error>>(
    run: &mut impl FnMut(&mut Tx<'_>) -> Result<T, E>,
    tx: &mut Tx<'_>,
) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(|| run(tx)))
        .unwrap_or_else(|_| Err(E::from(Error::Fault("a closure panicked".into()))))
}
