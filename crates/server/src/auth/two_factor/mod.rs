//! A second factor after the right password: an authenticator app, mailed codes, backup codes and trusted devices.
//!
//! [`pending`] stands at the one place where a password opens a session. [`verify`] takes the answers, of a sign-in that
//! waits and of somebody who is signed in; [`manage`] sets the factor up and takes it away.

mod manage;
pub mod pending;
mod verify;

pub use manage::{Disable, Enable, GenerateBackupCodes, GetTotpUri};
pub use verify::{SendOtp, VerifyBackupCode, VerifyOtp, VerifyTotp};
