//! Finding the control socket, and one question and answer over it.

use crate::exit::Exit;
use serde_json::{Value, json};
use std::fmt::Display;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the socket is, if neither an option nor a file says so.
const VARIABLE: &str = "MINICORN_CONTROL_SOCKET";

/// A server that takes longer does not turn its loop.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// One sentence for the operator, and the status that goes with it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) sentence: String,
    pub(super) exit: Exit,
}

impl Failure {
    pub(super) fn failed(error: impl Display) -> Self {
        Self { sentence: error.to_string(), exit: Exit::Failed }
    }
}

/// The socket of the option, or the first that is named elsewhere.
pub(super) fn find(option: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let named = || std::env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    if let Some(path) = option.or_else(named) {
        return Ok(path);
    }
    if let Some(path) = of_file("minicorn.toml", &[])?.or(of_file("pyproject.toml", &["tool", "minicorn"])?) {
        return Ok(path);
    }
    let sentence = format!(
        "which server? Start it with --control-socket PATH, and name that with -s PATH, ${VARIABLE}, or control_socket \
         in minicorn.toml"
    );
    Err(Failure { sentence, exit: Exit::Usage })
}

/// What a configuration file of this folder says, if there is one.
fn of_file(name: &str, tables: &[&str]) -> Result<Option<PathBuf>, Failure> {
    let text = match std::fs::read_to_string(name) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::failed(format!("{name}: {error}"))),
    };
    let parsed: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| Failure::failed(format!("{name} is not TOML: {}", error.message())))?;
    let mut table = Some(&parsed);
    for name in tables {
        table = table.and_then(|table| table.get(*name)?.as_table());
    }
    let path = |key| table.and_then(|table| table.get(key)?.as_str());
    Ok(path("control_socket").or(path("control-socket")).map(PathBuf::from))
}

/// To a server, for one question.
pub(super) struct Connection<'s> {
    stream: UnixStream,
    path: &'s Path,
}

impl<'s> Connection<'s> {
    pub(super) fn open(path: &'s Path) -> Result<Self, Failure> {
        let stream = UnixStream::connect(path).map_err(|error| Failure::failed(reason(path, &error)))?;
        let limited = stream.set_read_timeout(Some(ANSWER_MAX)).and(stream.set_write_timeout(Some(ANSWER_MAX)));
        limited.map_err(|error| Failure::failed(reason(path, &error)))?;
        Ok(Self { stream, path })
    }

    /// What the server answers if it does not refuse.
    pub(super) fn ask(mut self, command: &str, arguments: &[&str]) -> Result<Value, Failure> {
        let request = format!("{}\n", json!({ "command": command, "args": arguments }));
        let mut answer = Vec::new();
        let asked = self.stream.write_all(request.as_bytes()).and_then(|()| self.stream.read_to_end(&mut answer));
        asked.map_err(|error| Failure::failed(reason(self.path, &error)))?;
        let mut answer: Value = serde_json::from_slice(&answer)
            .map_err(|_| Failure::failed(format!("{}: the answer is not one of minicorn's", self.path.display())))?;
        match answer["error"].as_str() {
            Some(error) => Err(Failure::failed(error)),
            None => Ok(answer["ok"].take()),
        }
    }
}

fn reason(path: &Path, error: &std::io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => format!("{path}: there is no such socket, so no server runs with it"),
        ErrorKind::ConnectionRefused => format!("{path}: nobody listens there, the server is gone"),
        ErrorKind::PermissionDenied => format!(
            "{path}: you may not give orders to this server; its --control-socket-mode and the owner of its socket say who may"
        ),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("{path}: no answer within {} s", ANSWER_MAX.as_secs())
        }
        _ => format!("{path}: {error}"),
    }
}
