//! The binary's own rooms: the configuration, the command line, and the wiring of the other rooms into one process.
//! What the server answers is decided elsewhere.
//!
//! - [`config`]: every setting, where it is read and what is wrong with it; [`unsafe_settings`]: what `serve` refuses.
//! - [`command_line`]: what can be typed; `commands` has one room for each.
//! - [`deployment`]: the database and vault that a command works on; [`data_folder`]: what `dev` and `init` keep.
//! - [`terminal`]: how commands answer.

pub mod command_line;
pub mod commands;
pub mod config;
pub mod data_folder;
pub mod deployment;
pub mod doors;
pub mod logging;
pub mod problem;
pub mod process;
pub mod settings;
pub mod sweeper;
pub mod terminal;
pub mod unsafe_settings;
