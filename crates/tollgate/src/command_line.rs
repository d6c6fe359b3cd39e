//! The command line: what can be typed, and which room carries it out.

mod document;

use crate::commands;
use crate::config::{Environment, load};
use crate::terminal::{Outcome, Terminal};
use clap::{CommandFactory as _, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Accounts, sessions, credits and billing for your app, in one binary.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, disable_help_subcommand = true)]
struct Arguments {
    /// Configuration file [default: tollgate.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer with one JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try it out or develop against it: no configuration, sample users, every mail in an inbox page
    Dev(commands::dev::Options),
    /// Write a configuration file with every setting explained
    Init(commands::init::Options),
    /// Run in production; refuses unsafe settings
    Serve,
    /// Bring the database to this version's schema (`serve` does it at start)
    Migrate,
    /// Check the configuration and everything it needs, and say what to change
    Doctor,
    /// Service keys for your backend
    #[command(subcommand)]
    Key(KeyCommand),
    /// Keys of users and organizations for their programs, with what only an operator sets
    #[command(subcommand)]
    ApiKey(ApiKeyCommand),
    /// Users, seen from the operator's side
    #[command(subcommand)]
    User(UserCommand),
    /// Organizations, seen from the operator's side
    #[command(subcommand)]
    Organization(OrganizationCommand),
    /// The ledger, seen from the operator's side; the server may run meanwhile
    #[command(subcommand)]
    Credits(CreditsCommand),
    /// Stripe's events and what came of them; the server may run meanwhile
    #[command(subcommand)]
    Billing(BillingCommand),
    /// Outgoing events: who is told what happened, and how that went; the server may run meanwhile
    #[command(subcommand)]
    Hooks(HooksCommand),
    /// The secrets that sign sessions and seal the database's key
    #[command(subcommand)]
    Secrets(SecretsCommand),
    /// Copies of an SQLite database
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Print the OpenAPI document of every door
    Openapi,
    /// Print completions for a shell
    Completions { shell: clap_complete::Shell },
    /// Print a page of the reference that is written from the code
    #[command(hide = true)]
    Reference { page: ReferencePage },
}

#[derive(Debug, Clone, clap::ValueEnum)]
enum ReferencePage {
    CommandLine,
    Configuration,
}

#[derive(Debug, Subcommand)]
enum OrganizationCommand {
    /// Give a member another role, such as to an organization that has lost its owner
    Appoint {
        /// Slug or id
        organization: String,
        /// Address or id of the member
        user: String,
        /// owner, admin or member; several are separated by commas
        #[arg(long, default_value = "owner")]
        role: String,
    },
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a key and show it once
    Create {
        /// What it is for, such as the name of your backend
        name: String,
        /// What it may do [default: everything]
        #[arg(long, value_delimiter = ',', value_name = "SCOPE")]
        scopes: Option<Vec<String>>,
    },
    /// List all keys with their last use
    List,
    /// End a key at once
    Revoke {
        /// As `key list` shows it
        id: String,
    },
}

#[derive(Debug, Subcommand)]
enum ApiKeyCommand {
    /// Make a key and show it once
    Create(commands::api_key::CreateOptions),
    /// List the keys of a user or an organization
    List(commands::api_key::HolderOptions),
    /// Change what a key may do, and how often
    Set {
        /// As `api-key list` shows it
        id: String,
        #[command(flatten)]
        terms: commands::api_key::Terms,
    },
    /// End a key at once
    Revoke {
        /// As `api-key list` shows it
        id: String,
    },
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Make a user with a verified address; without --password-stdin the password is generated and shown once
    Create(commands::user::CreateOptions),
    /// Show a user with sessions and accounts
    Show {
        /// Address or id
        user: String,
    },
    /// Give a user a role
    Promote {
        /// Address or id
        user: String,
        /// Several are separated by commas; `user` takes the others away
        #[arg(long, default_value = "admin")]
        role: String,
    },
    /// Ban a user and end all sessions
    Ban {
        /// Address or id
        user: String,
        /// What `user show` tells about the ban [default: none]
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
        /// How long, such as 7d, or until when, such as 2027-01-01T00:00:00Z [default: for ever]
        #[arg(long)]
        until: Option<String>,
    },
    /// Lift a ban
    Unban {
        /// Address or id
        user: String,
    },
    /// Take away the second factor of somebody who has lost it; passkeys stay
    ResetSecondFactor {
        /// Address or id
        user: String,
    },
    /// Delete a user with everything that belongs to them
    Delete {
        /// Address or id
        user: String,
        /// Do not ask; needed where there is no terminal to ask on
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
enum CreditsCommand {
    /// Show what an owner has, and of which grants it is left
    Balance(commands::credits::BalanceOptions),
    /// Give an owner credits
    Grant(commands::credits::GrantOptions),
    /// Correct a balance; the entry names you and the reason
    Adjust(commands::credits::AdjustOptions),
    /// Check that every entry is as it was written and every balance what its entries add up to
    Verify,
    /// Write entries as CSV or as JSON lines, newest first
    Export(commands::credits::export::ExportOptions),
}

#[derive(Debug, Subcommand)]
enum BillingCommand {
    /// List the events that came, newest first, with what each one did
    Events(commands::billing::EventsOptions),
    /// Do again what an event led to; what was done is not done twice
    Replay(commands::billing::ReplayOptions),
    /// Ask Stripe for what never came, 30 days back, and put it right
    Sync(commands::billing::SyncOptions),
    /// Show what waits, what was given up, and what a person should look at
    Status,
}

#[derive(Debug, Subcommand)]
enum HooksCommand {
    /// Send events to an address from now on; shows the secret that signs them, once
    Add(commands::hooks::AddOptions),
    /// List all endpoints, and whether they take what is sent
    List,
    /// End an endpoint at once, with what waits for it
    Remove {
        /// As `hooks list` shows it
        endpoint: String,
    },
    /// Switch an endpoint on again that was switched off because it took nothing for days
    Enable {
        /// As `hooks list` shows it
        endpoint: String,
    },
    /// Send events again: to endpoints that missed them, lost them or did not exist yet
    Resend(commands::hooks::ResendOptions),
    /// Show deliveries with what the endpoints answered, newest first
    Log(commands::hooks::LogOptions),
}

#[derive(Debug, Subcommand)]
enum SecretsCommand {
    /// Put a new secret first; the old ones go on verifying
    Rotate,
    /// Print secrets that others may have
    Show {
        /// `guest`: those of the guest cookie, newest first, for a backend in Python that reads it
        whose: ShownSecrets,
    },
}

#[derive(Debug, Clone, clap::ValueEnum)]
enum ShownSecrets {
    Guest,
}

#[derive(Debug, Subcommand)]
enum BackupCommand {
    /// Copy the database while it is in use, and check the copy
    Create {
        /// Where the copy goes; an existing file is not replaced
        file: PathBuf,
    },
    /// Check a copy and put it in the database's place; the server must be stopped
    Restore {
        /// A copy that `backup create` made
        file: PathBuf,
    },
}

/// Reads the command line, does what it says, and gives the exit code: 0 done, 1 refused or failed, 2 usage.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let environment = Environment::of_process();
    let terminal = Terminal::new(arguments.json, environment.get("NO_COLOR").is_some());
    let outcome = carry_out(arguments, &environment, &terminal);
    terminal.finish(outcome)
}

fn carry_out(arguments: Arguments, environment: &Environment, terminal: &Terminal) -> Outcome {
    let load = || load(arguments.config.as_deref(), environment);
    match arguments.command {
        Command::Dev(options) => commands::dev::run(load(), &options, terminal),
        Command::Init(options) => commands::init::run(arguments.config.as_deref(), &options, terminal),
        Command::Serve => commands::serve::run(load(), terminal),
        Command::Migrate => commands::migrate::run(load(), terminal),
        Command::Doctor => commands::doctor::run(load(), terminal),
        Command::ApiKey(command) => match command {
            ApiKeyCommand::Create(options) => commands::api_key::create(load(), &options, terminal),
            ApiKeyCommand::List(options) => commands::api_key::list(load(), &options, terminal),
            ApiKeyCommand::Set { id, terms } => commands::api_key::set(load(), &id, &terms, terminal),
            ApiKeyCommand::Revoke { id } => commands::api_key::revoke(load(), &id, terminal),
        },
        Command::Key(command) => match command {
            KeyCommand::Create { name, scopes } => {
                commands::key::create(load(), &name, scopes.as_deref(), terminal)
            }
            KeyCommand::List => commands::key::list(load(), terminal),
            KeyCommand::Revoke { id } => commands::key::revoke(load(), &id, terminal),
        },
        Command::Organization(OrganizationCommand::Appoint { organization, user, role }) => {
            commands::organization::appoint(load(), &organization, &user, &role, terminal)
        }
        Command::User(command) => match command {
            UserCommand::Create(options) => commands::user::create(load(), &options, terminal),
            UserCommand::Show { user } => commands::user::show(load(), &user, terminal),
            UserCommand::Promote { user, role } => commands::user::promote(load(), &user, &role, terminal),
            UserCommand::Ban { user, reason, until } => {
                commands::user::ban(load(), &user, &reason, until.as_deref(), terminal)
            }
            UserCommand::Unban { user } => commands::user::unban(load(), &user, terminal),
            UserCommand::ResetSecondFactor { user } => {
                commands::user::reset_second_factor(load(), &user, terminal)
            }
            UserCommand::Delete { user, yes } => commands::user::delete(load(), &user, yes, terminal),
        },
        Command::Credits(command) => match command {
            CreditsCommand::Balance(options) => commands::credits::balance(load(), &options, terminal),
            CreditsCommand::Grant(options) => {
                commands::credits::grant(load(), &options, environment, terminal)
            }
            CreditsCommand::Adjust(options) => {
                commands::credits::adjust(load(), &options, environment, terminal)
            }
            CreditsCommand::Verify => commands::credits::verify(load(), terminal),
            CreditsCommand::Export(options) => commands::credits::export::export(load(), &options, terminal),
        },
        Command::Billing(command) => match command {
            BillingCommand::Events(options) => commands::billing::events(load(), &options, terminal),
            BillingCommand::Replay(options) => commands::billing::replay(load(), &options, terminal),
            BillingCommand::Sync(options) => commands::billing::sync(load(), &options, terminal),
            BillingCommand::Status => commands::billing::status(load(), terminal),
        },
        Command::Hooks(command) => match command {
            HooksCommand::Add(options) => commands::hooks::add(load(), &options, terminal),
            HooksCommand::List => commands::hooks::list(load(), terminal),
            HooksCommand::Remove { endpoint } => commands::hooks::remove(load(), &endpoint, terminal),
            HooksCommand::Enable { endpoint } => commands::hooks::enable(load(), &endpoint, terminal),
            HooksCommand::Resend(options) => commands::hooks::resend(load(), &options, terminal),
            HooksCommand::Log(options) => commands::hooks::log(load(), &options, terminal),
        },
        Command::Secrets(SecretsCommand::Rotate) => commands::secrets::rotate(load(), terminal),
        Command::Secrets(SecretsCommand::Show { whose: ShownSecrets::Guest }) => {
            commands::secrets::show_guest(load(), terminal)
        }
        Command::Backup(BackupCommand::Create { file }) => commands::backup::create(load(), &file, terminal),
        Command::Backup(BackupCommand::Restore { file }) => {
            commands::backup::restore(load(), &file, terminal)
        }
        Command::Openapi => commands::openapi::run(load(), terminal),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "tollgate", &mut std::io::stdout());
            Ok(())
        }
        Command::Reference { page: ReferencePage::CommandLine } => {
            print!("{}", document::reference_page(Arguments::command()));
            Ok(())
        }
        Command::Reference { page: ReferencePage::Configuration } => {
            print!("{}", crate::config::document::reference_page());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
