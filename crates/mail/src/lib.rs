//! Mails: what they say, how they wait, and how they leave.
//!
//! A rule that promises a mail calls [`enqueue`] in its own transaction, so that the promise and the change stand or
//! fall together; the caller rings [`Outbox::wake`] after the commit. The [`Mailer`] leases waiting rows, renders them
//! with the [`Templates`] and hands them to the [`Transport`], outside any transaction. Contents lie sealed until they
//! are sent, and are wiped then.

mod address;
mod compose;
mod inbox;
mod message;
mod outbox;
mod schedule;
mod templates;
mod transport;
mod worker;

pub use address::{Address, AddressError, Recipient, Sender, SenderError};
pub use inbox::{CapturedMail, captured};
pub use message::{Code, CodeUse, Link, LinkError, Message};
pub use outbox::{Outbox, enqueue, pretend, sweep};
pub use templates::{Rendered, TemplateProblem, Templates, links_in};
pub use transport::{Checked, Smtp, SmtpUrlError, Transport};
pub use worker::Mailer;
