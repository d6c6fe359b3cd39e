//! What can go wrong with the store, as far as a caller can do something about it.

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The database is gone, silent, full or broken: the caller answers 503.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// Too much is waiting already: the caller answers 503 at once.
    #[error("too many requests are waiting for the database")]
    Busy,
    /// A unique or foreign key refused the change.
    #[error("a constraint refused the change: {0}")]
    Conflict(String),
    /// A text with a null character, which PostgreSQL neither keeps nor compares: whoever sent it is told so.
    #[error("a null character cannot be stored")]
    Unstorable,
    /// What was asked for cannot be done as it was asked: an operator's mistake, in words for an operator.
    #[error("{0}")]
    Misuse(String),
    /// A mistake of ours: a bad statement, a column of another type, a panic in a closure.
    #[error("the database refused a statement: {0}")]
    Fault(String),
}

impl Error {
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Error::Unavailable(_) | Error::Busy)
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(Code::ConstraintViolation) => Error::Conflict(text),
            Some(
                Code::DatabaseBusy
                | Code::DatabaseLocked
                | Code::DiskFull
                | Code::SystemIoFailure
                | Code::CannotOpen
                | Code::ReadOnly
                | Code::NotADatabase
                | Code::DatabaseCorrupt
                | Code::OutOfMemory
                | Code::FileLockingProtocolFailed,
            ) => Error::Unavailable(text),
            _ => Error::Fault(text),
        }
    }
}
