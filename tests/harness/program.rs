//! A command line to run: to its end, or as a server.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::wait::{wait_for, wait_until};
use super::{ROOT, virtual_environment};

/// What the tests' own environment must not decide.
const CLEARED: [&str; 10] = [
    "WEB_CONCURRENCY",
    "PORT",
    "FORWARDED_ALLOW_IPS",
    "SENDFILE",
    "PYTHONPATH",
    "PYTHONHOME",
    "CONDA_PREFIX",
    "SCRIPT_NAME",
    "GUNICORN_CMD_ARGS",
    "MINICORN_CMD_ARGS",
];

pub struct Program(Command);

impl Program {
    /// minicorn with these arguments, in the root of the project and with its virtual environment.
    pub fn new(arguments: &[&str]) -> Program {
        Program::prepare(env!("CARGO_BIN_EXE_minicorn"), arguments)
    }

    /// minicorn started by another program, as `["taskset", "-c", "0"]`.
    pub fn under(wrapper: &[&str], arguments: &[&str]) -> Program {
        Program::prepare(wrapper[0], &[&wrapper[1..], &[env!("CARGO_BIN_EXE_minicorn")], arguments].concat())
    }

    /// Any program, with the same surroundings.
    pub fn prepare(program: &str, arguments: &[&str]) -> Program {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(ROOT).env("VIRTUAL_ENV", virtual_environment());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that whatever it starts can be ended with it.
        command.process_group(0);
        CLEARED.iter().for_each(|name| {
            command.env_remove(name);
        });
        Program(command)
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Program {
        self.0.env(name, value);
        self
    }

    pub fn without_env(mut self, name: &str) -> Program {
        self.0.env_remove(name);
        self
    }

    pub fn directory(mut self, path: impl AsRef<std::path::Path>) -> Program {
        self.0.current_dir(path);
        self
    }

    pub fn stdin(mut self, source: impl Into<Stdio>) -> Program {
        self.0.stdin(source);
        self
    }

    pub fn stdout(mut self, target: impl Into<Stdio>) -> Program {
        self.0.stdout(target);
        self
    }

    /// Starts it and waits for its end.
    #[track_caller]
    pub fn run(self) -> Finished {
        self.spawn().wait()
    }

    #[track_caller]
    pub fn spawn(mut self) -> Running {
        let mut child = self.0.spawn().expect("starting the program");
        let stdout = child.stdout.take().map_or_else(Output::default, Output::collect);
        let stderr = child.stderr.take().map_or_else(Output::default, Output::collect);
        Running { pid: Pid::from_raw(child.id().cast_signed()), child, stdout, stderr }
    }
}

/// A program that runs. Dropped, it and all that it started are killed.
pub struct Running {
    pub pid: Pid,
    pub stdout: Output,
    pub stderr: Output,
    child: Child,
}

impl Running {
    /// Waits for its end and for all that it wrote.
    #[track_caller]
    pub fn wait(mut self) -> Finished {
        let status = wait_for("the program's end", || self.child.try_wait().expect("waiting for a child"));
        self.stdout.wait_for_end();
        self.stderr.wait_for_end();
        Finished { status, stdout: self.stdout.text(), stderr: self.stderr.text() }
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("waiting for a child").is_some()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = killpg(self.pid, Signal::SIGKILL);
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "--- standard output ---\n{}--- standard error ---\n{}---",
                self.stdout.text(),
                self.stderr.text()
            );
        }
    }
}

/// How a program ended, and all it wrote.
#[derive(Debug)]
pub struct Finished {
    status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Checks the exit status.
    #[track_caller]
    pub fn expect_status(self, status: i32) -> Finished {
        assert_eq!(self.status.code(), Some(status), "signal {:?}\n{}", self.status.signal(), self.stderr);
        self
    }

    /// Checks that standard error holds each of these texts.
    #[track_caller]
    pub fn expect_stderr(self, texts: &[&str]) -> Finished {
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} is not in:\n{}", self.stderr);
        }
        self
    }

    /// The lines of standard error that hold this text.
    pub fn count(&self, text: &str) -> usize {
        self.stderr.lines().filter(|line| line.contains(text)).count()
    }
}

/// What a program has written so far to one of its streams.
#[derive(Clone, Default)]
pub struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Output {
    fn collect(mut stream: impl Read + Send + 'static) -> Output {
        let output = Output::default();
        let bytes = Arc::clone(&output.bytes);
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 65536];
            while let Ok(count @ 1..) = stream.read(&mut piece) {
                bytes.lock().expect("no reader panics").extend_from_slice(&piece[..count]);
            }
        });
        *output.reader.lock().expect("no reader panics") = Some(reader);
        output
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no reader panics")).into_owned()
    }

    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        wait_until(&format!("{text:?} in the output"), || self.text().contains(text));
    }

    pub fn count(&self, text: &str) -> usize {
        self.text().lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until every process that could write here has ended.
    fn wait_for_end(&self) {
        let reader = self.reader.lock().expect("no reader panics").take();
        if let Some(reader) = reader {
            wait_until("the end of the output", || reader.is_finished());
        }
    }
}
