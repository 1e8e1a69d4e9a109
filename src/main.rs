//! Reads the settings, runs the program, and turns the result into an exit status. `minicorn ctl` is another program.

use minicorn::ctl;
use minicorn::program;
use minicorn::settings;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if ctl::is_meant(&arguments) {
        return ctl::run(arguments).into();
    }
    let exit = match settings::read(arguments, program::SURROUNDINGS) {
        Ok(settings) => program::run(settings, None),
        Err(answer) => answer.report(),
    };
    exit.into()
}
