//! The command `fumehood`: everything is in the library.

fn main() -> std::process::ExitCode {
    fumehood::cli::main()
}
