//! What every black-box test starts from: `Server::start(engine)`, `Browser::new(&server)`, `server.mail`,
//! `server.database`.
//!
//! A test is a function over the engine, run on both:
//!
//! ```ignore
//! fn a_revoked_session_is_dead(engine: Engine) {
//!     let server = Server::start(engine);
//!     let mut browser = Browser::new(&server);
//!     browser.sign_up("ada@example.com");
//!     …
//! }
//! on_both_engines!(a_revoked_session_is_dead);
//! ```

// The doors' tests arrive one file at a time, and not every one uses all of this.
#![allow(dead_code)]

pub mod adapter;
pub mod app;
pub mod authenticator;
pub mod browser;
pub mod credits;
pub mod database;
pub mod gate;
pub mod guest;
pub mod guide;
pub mod http;
pub mod issuer;
pub mod mail;
pub mod mail_sink;
pub mod output;
pub mod parallel;
pub mod proxy;
pub mod receiver;
pub mod regular;
pub mod second_factor;
pub mod server;
pub mod shop;
pub mod wait;

pub use browser::{Browser, PASSWORD, path_of};
pub use http::{Connection, Failure, Request, Response};
pub use parallel::{at_full_length, in_parallel};
pub use server::{Engine, Server};
pub use wait::until;

/// Makes the tests `name::sqlite` and `name::postgres` of `fn name(engine: Engine)`.
#[macro_export]
macro_rules! on_both_engines {
    ($name:ident) => {
        mod $name {
            #[test]
            fn sqlite() {
                super::$name($crate::harness::Engine::Sqlite);
            }

            #[test]
            fn postgres() {
                super::$name($crate::harness::Engine::Postgres);
            }
        }
    };
}
