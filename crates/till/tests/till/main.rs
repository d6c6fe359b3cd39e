//! The till from outside: told what to do from Rust, asked over HTTP, listened to as an app would.

mod api;
mod deliveries;
mod faults;
mod listener;
mod money;
mod pages;
mod payments;
mod shapes;
mod subscriptions;
mod wire;
mod world;
