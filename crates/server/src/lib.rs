//! The doors: HTTP in, a call into the rooms behind, an outcome back out as HTTP. No rule and no SQL lives here.
//!
//! - [`edge`] stands before every door: connections, limits, request ids, headers, CORS, log and metrics.
//! - [`auth`] is the Better Auth door, `/api/auth`.
//! - [`credits`] is the door for an app's backend, `/api/credits`; [`service`] is what such doors have in common.
//! - [`billing`] hears from Stripe and sells for an app's backend, `/api/billing`.
//! - [`adapter`] keeps what an app with Auth.js hands over, `/api/internal/auth`.
//! - [`gate`] is asked by backends and proxies whether a request may pass, `/api/gate`.
//! - [`guest`] gives visitors without an account a cookie, `/api/guest`.
//! - [`dev`] is what only `tollgate dev` shows: the start page and the inbox.
//! - [`pages`] is what people see: signing in, the balance, buying.
//! - [`operations`] answers operators: health, readiness, metrics, the OpenAPI document.
//! - [`openapi`] is the table of routes that the document is made of.
//! - [`app`] puts them together.

pub mod adapter;
pub mod app;
pub mod auth;
pub mod billing;
pub mod credits;
pub mod dev;
pub mod edge;
pub mod gate;
pub mod guest;
pub mod openapi;
pub mod operations;
pub mod pages;
mod service;
pub mod settings;
pub mod tokens;
mod views;

pub use app::App;
pub use settings::Settings;
