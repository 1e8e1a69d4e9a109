//! Reads the settings, runs the program, and turns the result into an exit status.

use minicorn::program;
use minicorn::settings;
use minicorn::sys::cpus;
use std::process::ExitCode;

fn main() -> ExitCode {
    let exit = match settings::from_process(cpus::usable) {
        Ok(settings) => program::run(settings),
        Err(answer) => answer.report(),
    };
    exit.into()
}
