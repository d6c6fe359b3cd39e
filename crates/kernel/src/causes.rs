//! An error with all that led to it, for logs and for the words of our own errors.

/// Libraries say the interesting part in the innermost: `error trying to connect: connection refused`.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
