//! One room for each command. A command loads the configuration, does its work and says what happened and what to do
//! next.

pub mod api_key;
pub mod backup;
pub mod billing;
pub mod credits;
pub mod dev;
pub mod doctor;
pub mod hooks;
pub mod init;
pub mod key;
pub mod migrate;
pub mod openapi;
pub mod organization;
pub mod secrets;
pub mod serve;
pub mod user;
