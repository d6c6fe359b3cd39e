//! May you pass: what happens when someone arrives or leaves, guests and their allowances, authorise-and-charge.

pub mod allowances;
pub mod arrival;
pub mod authjs;
pub mod authorize;
pub mod departure;
pub mod guest_cookie;
pub mod guests;
pub mod rules;
