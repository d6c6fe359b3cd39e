//! Black-box tests: the real binary on both engines, through its doors only. One file per door; `harness/` starts the
//! server, speaks HTTP, receives its mail and looks into its database.
//!
//! They need a PostgreSQL: `cargo xtask test`, or `cargo xtask services cargo test -p tollgate --test blackbox`.

// The tests measure and wait by the real clock and read what `cargo xtask` hands them; the ban is for the product.
#![allow(clippy::disallowed_methods)]

mod harness;

mod accounts;
mod admin;
mod anonymous;
mod api_keys;
mod backups;
mod bearer;
mod billing_dev;
mod billing_entitlements;
mod billing_faults;
mod billing_freeze;
mod billing_order;
mod billing_packs;
mod billing_program;
mod billing_reconcile;
mod billing_rollover;
mod billing_subscriptions;
mod billing_survival;
mod billing_topup;
mod billing_webhook;
mod client_app;
mod client_calls;
mod commands;
mod credits_batches;
mod credits_door;
mod credits_holds;
mod credits_keys;
mod credits_limits;
mod credits_lists;
mod credits_own;
mod credits_prices;
mod credits_program;
mod credits_proof;
mod credits_races;
mod credits_reads;
mod credits_refunds;
mod credits_refusals;
mod credits_spending;
mod credits_survival;
mod device;
mod enumeration;
mod faults_database;
mod faults_process;
mod faults_redis;
mod gate_authorize;
mod gate_charges;
mod gate_forward;
mod gate_keys;
mod gate_payers;
mod gate_proxies;
mod gate_sessions;
mod guest_allowances;
mod guest_door;
mod guest_promotion;
mod guest_redis;
mod hooks_delivery;
mod hooks_events;
mod hooks_overview;
mod hostile_input;
mod instances;
mod limits;
mod mails;
mod matrix;
mod matrix_organizations;
mod organization_members;
mod organization_races;
mod organizations;
mod multi_session;
mod one_time;
mod operations;
mod origin;
mod pages;
mod passkeys;
mod passwords;
mod program;
mod providers_accounts;
mod providers_sign_in;
mod rates;
mod redirects;
mod second_factor;
mod secret_rotation;
mod secrets_at_rest;
mod sessions;
mod sign_in;
mod sign_in_by_mail;
mod slow_clients;
mod survival;
mod tokens;
mod usernames;
