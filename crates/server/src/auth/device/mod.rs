//! `/device…`: devices without a keyboard sign in by a code that a person approves elsewhere (RFC 8628).
//!
//! Errors have the form of OAuth. A person decides in person: a key that stands in for a session approves nothing.

mod ask;
mod decide;

pub use ask::{DeviceCode, DeviceToken};
pub use decide::{DeviceApprove, DeviceDeny, DeviceLook};

use super::error::Failure;
use http::StatusCode;

fn refused(status: StatusCode, error: &'static str, description: &str) -> Failure {
    Failure::OAuth { status, error, description: description.to_owned(), uncached: false }
}

fn bad(error: &'static str, description: &str) -> Failure {
    refused(StatusCode::BAD_REQUEST, error, description)
}
