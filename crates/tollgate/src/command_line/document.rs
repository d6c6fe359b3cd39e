//! The reference page of the command line, written from what can be typed.

use clap::{Arg, ArgAction, Command};
use std::fmt::Write as _;

/// `docs/reference/command-line.md`.
pub fn reference_page(mut program: Command) -> String {
    program.build();
    let mut out = String::from(
        "# Command line\n\n\
         <!-- Written by `tollgate reference command-line`; a test compares. Change crates/tollgate/src/command_line.rs instead. -->\n\n\
         Results go to standard output, everything else to standard error. With `--json` a result is one JSON object, and a\n\
         refusal is `{\"error\": {\"message\", \"next\", \"problems\"}}`; `doctor` always prints its findings. There is no\n\
         colour when the output is no terminal or `NO_COLOR` is set.\n\n\
         | Exit code | Meaning |\n|---|---|\n\
         | 0 | done; for `dev` and `serve`: stopped in order |\n\
         | 1 | refused or failed; the text says what to do next |\n\
         | 2 | the command line was not understood |\n\
         | 130 | `dev` and `serve`: a second signal cut the orderly stop short |\n\n\
         With every command:\n\n",
    );
    for option in program.get_arguments().filter(|arg| arg.is_global_set()) {
        bullet(&mut out, option);
    }
    commands(&mut out, &program, "");
    out
}

fn commands(out: &mut String, parent: &Command, path: &str) {
    for command in parent.get_subcommands().filter(|command| !command.is_hide_set()) {
        let path = format!("{path}{} ", command.get_name());
        if command.has_subcommands() {
            commands(out, command, &path);
        } else {
            section(out, command, path.trim_end());
        }
    }
}

fn section(out: &mut String, command: &Command, path: &str) {
    let own: Vec<&Arg> =
        command.get_arguments().filter(|arg| !arg.is_global_set() && !is_help(arg)).collect();
    let (named, values): (Vec<&Arg>, Vec<&Arg>) = own.into_iter().partition(|arg| arg.get_long().is_some());
    let usage: String = values.iter().map(|arg| format!(" {}", shown(arg))).collect();
    let _ = write!(out, "\n## `{path}{usage}`\n\n{}.\n", about(command));
    let told: Vec<&Arg> = values.into_iter().filter(|arg| !meaning(arg).is_empty()).chain(named).collect();
    if !told.is_empty() {
        out.push('\n');
    }
    for arg in told {
        bullet(out, arg);
    }
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn is_help(arg: &Arg) -> bool {
    matches!(
        arg.get_action(),
        ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version
    )
}

fn bullet(out: &mut String, arg: &Arg) {
    let meaning = meaning(arg);
    let colon = if meaning.is_empty() { "" } else { ": " };
    let _ = writeln!(out, "- `{}`{colon}{meaning}", shown(arg));
}

/// As it is typed: `--data <DIR>` or `<EMAIL>`.
fn shown(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default().iter();
    let value = Some(names.map(|name| format!("<{name}>")).collect::<Vec<_>>().join(" "));
    let value = value.filter(|_| arg.get_action().takes_values());
    [arg.get_long().map(|long| format!("--{long}")), value]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
}

/// What the help says, with the defaults and choices that it adds.
fn meaning(arg: &Arg) -> String {
    let mut parts: Vec<String> = arg.get_help().map(ToString::to_string).into_iter().collect();
    if arg.get_action().takes_values() {
        let defaults = arg.get_default_values().iter().map(|text| text.to_string_lossy().into_owned());
        let choices = arg.get_possible_values();
        parts.extend(bracketed("default: ", defaults));
        parts.extend(bracketed("one of ", choices.iter().map(|choice| choice.get_name().to_owned())));
    }
    parts.join(" ")
}

fn bracketed(what: &str, texts: impl Iterator<Item = String>) -> Option<String> {
    let list = texts.collect::<Vec<_>>().join(", ");
    (!list.is_empty()).then(|| format!("[{what}{list}]"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/command-line.md");

    #[test]
    fn the_reference_page_is_what_can_be_typed() {
        let found = std::fs::read_to_string(PAGE).unwrap_or_default();
        assert_eq!(
            found,
            reference_page(super::super::Arguments::command()),
            "run: cargo run -- reference command-line > docs/reference/command-line.md"
        );
    }
}
