//! Random commands against the model, and single cases that once went wrong.

mod cases;
mod model;
mod random;
mod windows;
