//! `minicorn ctl`: the client of a running server's control socket. What it says is one line of JSON, what it gets is
//! another; the server's side is `program::control`.
//!
//! `ctl` as the first argument means this program. An application module of that name is served by `minicorn ctl:app`,
//! or behind any option: `minicorn --bind :8000 ctl`, `minicorn -- ctl`.
#![forbid(unsafe_code)]

mod socket;
mod text;
mod top;

use self::socket::{Connection, Failure};
use crate::exit::Exit;
use clap::{Parser, Subcommand};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// Look at a running server, and give it orders, through its control socket
#[derive(Debug, Parser)]
#[command(name = "minicorn ctl", bin_name = "minicorn ctl", disable_help_subcommand = true)]
struct Cli {
    /// The socket; else $MINICORN_CONTROL_SOCKET, else control_socket in minicorn.toml or pyproject.toml of this folder
    #[arg(short, long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What the server and its workers do
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// The status every second; q or ctrl-C ends it
    Top {
        /// Only once
        #[arg(long)]
        once: bool,
    },
    /// Another number of workers, until the next reload
    Workers {
        /// +N, -N or N
        #[arg(value_name = "N", allow_hyphen_values = true)]
        count: String,
    },
    /// Read the configuration again and replace all workers; wait until they serve
    Reload {
        /// Do not wait
        #[arg(long)]
        no_wait: bool,
    },
    /// Stop the server, when the requests in flight are answered
    Stop {
        /// Do not wait for them
        #[arg(long)]
        quick: bool,
    },
    /// Replace one worker: another one starts, then this one leaves
    Recycle {
        /// Its process id
        pid: u32,
    },
    /// Where the threads of a worker are in Python, whatever they do
    Stacks {
        /// Its process id
        pid: u32,
    },
    /// The settings that it runs with
    Config,
    /// Open the log files anew
    Reopen,
}

/// How often it is asked how far a reload is.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Whether these arguments, the first of which is the name of the program, are for [`run`].
pub fn is_meant(arguments: &[OsString]) -> bool {
    arguments.get(1).is_some_and(|argument| argument == OsStr::new("ctl"))
}

/// Does what the arguments say, and tells it on standard output.
pub fn run(arguments: Vec<OsString>) -> Exit {
    let own = arguments.into_iter().skip(1);
    let cli = match Cli::try_parse_from(own) {
        Ok(cli) => cli,
        Err(answer) => {
            let is_asked_for = !answer.use_stderr();
            _ = answer.print();
            return if is_asked_for { Exit::Stopped } else { Exit::Usage };
        }
    };
    match obey(cli) {
        Ok(()) => Exit::Stopped,
        Err(failure) => {
            _ = writeln!(io::stderr(), "minicorn ctl: error: {}", failure.sentence);
            failure.exit
        }
    }
}

fn obey(cli: Cli) -> Result<(), Failure> {
    let socket = socket::find(cli.socket)?;
    let ask = |command: &str, arguments: &[&str]| Connection::open(&socket)?.ask(command, arguments);
    match cli.command {
        Command::Status { json: true } => say(&format!("{:#}\n", ask("status", &[])?)),
        Command::Status { json: false } => say(&text::status(&ask("status", &[])?)),
        Command::Top { once } => top::run(once, || ask("status", &[])),
        Command::Workers { count } => {
            let workers = &ask("workers", &[&count])?["workers"];
            say(&format!("{} from now on\n", text::count(workers.as_u64().unwrap_or(0), "worker")))
        }
        Command::Reload { no_wait } => {
            let attempt = ask("reload", &[])?["reload"].as_u64();
            if no_wait { say("reloading\n") } else { wait_for_reload(attempt, || ask("status", &[])) }
        }
        Command::Stop { quick } => {
            let workers = &ask("stop", if quick { &["quick"] } else { &[] })?["stopping"];
            say(&format!("stopping {}\n", text::count(workers.as_u64().unwrap_or(0), "worker")))
        }
        Command::Recycle { pid } => {
            let worker = &ask("recycle", &[&pid.to_string()])?["worker"];
            say(&format!("worker {worker} (pid {pid}) leaves when its successor is ready\n"))
        }
        Command::Stacks { pid } => say(ask("stacks", &[&pid.to_string()])?.as_str().unwrap_or_default()),
        Command::Config => say(ask("config", &[])?.as_str().unwrap_or_default()),
        Command::Reopen => ask("reopen", &[]).map(drop),
    }
}

/// On standard output, which may be a pipe that nobody reads from any more.
fn say(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout();
    let said = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    said.map_err(|error| Failure::failed(format!("standard output cannot be written: {error}")))
}

/// Until the attempt of this number has come to something. A server that is still starting begins it later.
fn wait_for_reload(attempt: Option<u64>, look: impl Fn() -> Result<Value, Failure>) -> Result<(), Failure> {
    loop {
        let status = look()?;
        let reload = &status["reload"];
        let (outcome, generation) = (reload["outcome"].as_str().unwrap_or_default(), &reload["generation"]);
        if reload["attempt"].as_u64() > attempt {
            return say("another reload has come in between\n");
        }
        if reload["attempt"].as_u64() == attempt {
            match outcome {
                "serves" => {
                    let workers = text::count(status["workers_ready"].as_u64().unwrap_or(0), "worker");
                    return say(&format!("generation {generation} serves with {workers}\n"));
                }
                "refused" => {
                    let reason = reload["reason"].as_str().unwrap_or_default();
                    return Err(Failure::failed(format!("not reloaded, all goes on as before: {reason}")));
                }
                "given up" => {
                    let before = &status["generation"];
                    return Err(Failure::failed(format!(
                        "generation {generation} is given up, its first worker did not start (the error log says why): \
                         generation {before} goes on serving"
                    )));
                }
                _ => {}
            }
        }
        if status["stage"] == "stopping" {
            return Err(Failure::failed("the server is stopping"));
        }
        thread::sleep(LOOK_INTERVAL);
    }
}
