/// A session check makes some sixty small allocations; see docs/decisions/0003-allocator.md for what this one saves.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tollgate::command_line::run()
}
