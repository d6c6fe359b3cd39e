//! What you have: the ledger. A deterministic state machine ([`machine`]) that knows neither a clock nor a database,
//! and the lane ([`Ledger`]) that loads the accounts which waiting commands touch, applies them in order, and writes
//! the outcome in one transaction.
//!
//! Every change is an [`Entry`]: signed amount, balance after it, the lots it moved, who asked and why, chained by hash
//! to the one before. Lots, holds and accounts are what the entries add up to; [`verify`] checks that they do.

mod account;
mod answer;
mod batch;
mod closing;
mod command;
mod entry;
mod handover;
mod json;
mod keys;
mod lane;
pub mod machine;
mod owner;
pub mod prices;
pub mod reads;
mod rows;
mod seal;
mod settings;
pub mod signup;
mod spender;
pub mod telling;
pub mod verify;
mod writes;

pub use account::{Account, Hold, HoldStatus, Lot, NEVER};
pub use closing::{close_owner, was_closed};
pub use command::{
    Above, Action, Answer, Charge, Command, Error, Figures, Idempotency, KeyScope, NewGrant, Period, Refusal,
    Shortfall, Target,
};
pub use entry::{Entry, Kind, MAX_AMOUNT, Part, Source};
pub use handover::{close_forgotten, hand_over};
pub use json::push_text;
pub use lane::{Ledger, OwnerExists, apply_in};
pub use owner::{AccountId, Item, Owner, item_id, owners_after, parse_item};
pub use settings::{NoPrice, Price, Settings, SignupGrant, TokenPrices, Tokens};
pub use spender::{Spender, SpentBy};
