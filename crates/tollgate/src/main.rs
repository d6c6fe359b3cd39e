fn main() -> std::process::ExitCode {
    tollgate::command_line::run()
}
