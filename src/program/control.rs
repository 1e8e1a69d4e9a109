//! What is said at the control socket: one line of JSON, answered by one line of JSON, for each connection.
//!
//! ```text
//! {"command": "workers", "args": ["+1"]}        →  {"ok": {"workers": 3}}
//! {"command": "recycle", "args": ["1"]}         →  {"error": "there is no worker with the pid 1"}
//! ```
//!
//! | command | `args` | `ok` | what is done |
//! |---|---|---|---|
//! | `status` | | an object, see [`status`] | |
//! | `config` | | text, as `--print-config` prints it | |
//! | `workers` | `+N`, `-N` or `N` | `workers`: so many from now on | as by SIGTTIN and SIGTTOU |
//! | `reload` | | `reload`: the number of this attempt | as by SIGHUP; what becomes of it is in the status |
//! | `stop` | none, or `quick` | `stopping`: so many workers | as by SIGTERM; quick: the workers are killed |
//! | `recycle` | a pid | `worker`: its number | another worker comes, then this one leaves |
//! | `stacks` | a pid | text | that process writes down where the threads of its Python are |
//! | `reopen` | | `null` | as by SIGUSR1 |
//!
//! Whoever may write to the socket may give orders: its permission bits say who that is (`--control-socket-mode`), and
//! nothing else does. The kernel keeps to them, `ls` shows them, and an operator who has opened the socket for a group
//! means it; a second rule behind the first, by the user of the peer, would only be a surprise.

mod stacks;
mod status;

pub(super) use self::stacks::Stacks;

use super::door::Answer;
use crate::master::{ServerStage, View, Wish};
use crate::scoreboard::Scoreboard;
use crate::settings::Settings;
use crate::sys::process::Pid;
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Instant;

/// What the commands are about.
pub(super) struct Server<'s> {
    pub(super) view: &'s View,
    pub(super) scoreboard: &'s Scoreboard,
    pub(super) started_at: Instant,
    /// As URLs.
    pub(super) listeners: Vec<String>,
    /// Of the generation that all workers are to be of.
    pub(super) settings: Option<&'s Settings>,
    /// `None`: there is no memory for them.
    pub(super) stacks: Option<&'s Rc<Stacks>>,
}

/// What the commands say and do.
struct Request {
    command: String,
    arguments: Vec<String>,
}

/// Answers a request, if the bytes are one, and adds to `wishes` what is to be done.
pub(super) fn answer(bytes: &[u8], server: &Server<'_>, wishes: &mut Vec<Wish>) -> Answer {
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else { return Answer::NeedMore };
    let Some(request) = parse(&bytes[..end]) else {
        return Answer::Reply(line(Err("the request is not a line of JSON with a command".to_owned())));
    };
    match (request.command.as_str(), server.stacks) {
        ("stacks", Some(stacks)) => match server.child(&request) {
            Ok(pid) => Answer::Later(stacks::ask(stacks, pid)),
            Err(error) => Answer::Reply(line(Err(error))),
        },
        _ => Answer::Reply(line(server.run(&request, wishes))),
    }
}

fn parse(line: &[u8]) -> Option<Request> {
    let json: Value = serde_json::from_slice(line).ok()?;
    let arguments = match &json["args"] {
        Value::Null => Vec::new(),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()?,
        _ => return None,
    };
    Some(Request { command: json["command"].as_str()?.to_owned(), arguments })
}

fn line(result: Result<Value, String>) -> Vec<u8> {
    let json = match result {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "error": error }),
    };
    format!("{json}\n").into_bytes()
}

impl Server<'_> {
    fn run(&self, request: &Request, wishes: &mut Vec<Wish>) -> Result<Value, String> {
        match (request.command.as_str(), request.arguments.as_slice()) {
            ("status", []) => Ok(status::status(self)),
            ("config", []) => Ok(self.settings.map(Settings::listing).unwrap_or_default().into()),
            ("workers", [count]) => self.workers(count, wishes),
            ("reload", []) => self.reload(wishes),
            ("stop", []) => Ok(self.stop(Wish::Stop, wishes)),
            ("stop", [how]) if how == "quick" => Ok(self.stop(Wish::StopAtOnce, wishes)),
            ("recycle", _) => self.recycle(request, wishes),
            ("reopen", []) => {
                wishes.push(Wish::ReopenLogs);
                Ok(Value::Null)
            }
            ("stacks", _) => Err("there is no memory for stacks".to_owned()),
            (command, arguments) => Err(format!("there is no command {}", told(command, arguments))),
        }
    }

    fn workers(&self, count: &str, wishes: &mut Vec<Wish>) -> Result<Value, String> {
        self.check_that_it_goes_on()?;
        let wanted = self.view.wanted;
        let asked = match count.strip_prefix('+') {
            Some(more) => number(more).map(|more| wanted.saturating_add(more)),
            None => match count.strip_prefix('-') {
                Some(fewer) => number(fewer).map(|fewer| wanted.saturating_sub(fewer)),
                None => number(count),
            },
        };
        let asked = asked.ok_or_else(|| format!("workers {count}: +N, -N or N is wanted"))?;
        let max = self.view.workers_max;
        match asked {
            0 => Err("the last worker stays".to_owned()),
            _ if asked > max => Err(format!("{asked} workers: there is room for {max} until a restart")),
            _ => {
                wishes.push(Wish::Workers(asked));
                Ok(json!({ "workers": asked }))
            }
        }
    }

    fn reload(&self, wishes: &mut Vec<Wish>) -> Result<Value, String> {
        self.check_that_it_goes_on()?;
        let before = wishes.iter().filter(|wish| **wish == Wish::Reload).count() as u32;
        wishes.push(Wish::Reload);
        Ok(json!({ "reload": self.view.reloads + before + 1 }))
    }

    fn stop(&self, wish: Wish, wishes: &mut Vec<Wish>) -> Value {
        wishes.push(wish);
        json!({ "stopping": self.view.children.iter().filter(|child| child.number > 0).count() })
    }

    fn recycle(&self, request: &Request, wishes: &mut Vec<Wish>) -> Result<Value, String> {
        self.check_that_it_goes_on()?;
        let pid = self.child(request)?;
        let found = self.view.children.iter().find(|child| child.pid == pid && child.number > 0);
        let worker = found.ok_or_else(|| format!("the process {pid} is not a worker"))?;
        if worker.phase != "ready" {
            return Err(format!("worker {} (pid {pid}) is {} and not ready", worker.number, worker.phase));
        }
        wishes.push(Wish::Recycle(pid));
        Ok(json!({ "worker": worker.number }))
    }

    /// The child that the one argument names.
    fn child(&self, request: &Request) -> Result<Pid, String> {
        let [text] = request.arguments.as_slice() else {
            return Err(format!("{}: the pid of one worker is wanted", request.command));
        };
        let pid = number(text).and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let found = self.view.children.iter().find(|child| Some(child.pid) == pid);
        found.map(|child| child.pid).ok_or_else(|| format!("there is no worker with the pid {text}"))
    }

    fn check_that_it_goes_on(&self) -> Result<(), String> {
        if self.view.stage == ServerStage::Stopping { Err("the server is stopping".to_owned()) } else { Ok(()) }
    }
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn told(command: &str, arguments: &[String]) -> String {
    std::iter::once(command).chain(arguments.iter().map(String::as_str)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
