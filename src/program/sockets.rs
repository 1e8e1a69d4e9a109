//! [`Source`]: where the listeners come from. What this process was handed takes the place of `--bind`, as with gunicorn.
//!
//! | variables | who | what |
//! |---|---|---|
//! | `MINICORN_FD`, `MINICORN_PID` | an older master, for its [upgrade](super::upgrade) | its listeners, its process id |
//! | `LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES` | systemd, sd_listen_fds(3) | for whom, how many from 3 on, their names |

use super::start_error::StartError;
use crate::net::{self, HandedOver, Listener};
use crate::sys::environment;
use crate::sys::process::{self, Pid};
use crate::wsgi::interpreter;
use pyo3::Python;
use std::{env, io};

/// The listeners, as [`HandedOver`] writes them.
pub(super) const HANDED_OVER: &str = "MINICORN_FD";
/// The master that hands them over.
pub(super) const OLD_MASTER: &str = "MINICORN_PID";

/// All that are read here: for this process alone, neither for the application nor for a later master.
pub(super) const VARIABLES: [&str; 5] = [HANDED_OVER, OLD_MASTER, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// The first descriptor that systemd passes: SD_LISTEN_FDS_START.
const FIRST_OF_SYSTEMD: u32 = 3;

/// What the process was started with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Nothing: the settings say where to listen.
    Settings,
    /// Sockets of systemd's.
    Systemd { count: u32, names: Option<String> },
    /// Those of an older master.
    Master { pid: Pid, sockets: HandedOver },
}

impl Source {
    /// Reads the variables and removes them. To be called before the process changes its id: systemd has written down
    /// for which one the sockets are.
    pub(super) fn claim() -> Result<Self, StartError> {
        let source = Self::read(&|name| env::var(name).ok(), process::own_pid())?;
        for name in VARIABLES.into_iter().filter(|name| env::var_os(name).is_some()) {
            remove_variable(name)
                .map_err(|error| StartError::failed(format!("{name} cannot be kept from the application: {error}")))?;
        }
        Ok(source)
    }

    fn read(variable: &dyn Fn(&str) -> Option<String>, own_pid: Pid) -> Result<Self, StartError> {
        if let Some(text) = variable(HANDED_OVER) {
            let pid = variable(OLD_MASTER).and_then(|pid| pid.parse().ok()).map(Pid::from_raw);
            return match (pid, HandedOver::parse(&text)) {
                (Some(pid), Some(sockets)) => Ok(Self::Master { pid, sockets }),
                _ => Err(StartError::failed(format!(
                    "{HANDED_OVER}={text} with {OLD_MASTER}={} is not what a master hands over",
                    variable(OLD_MASTER).unwrap_or_default()
                ))),
            };
        }
        let is_for_us = variable("LISTEN_PID").is_some_and(|pid| pid == own_pid.to_string());
        let Some(count) = variable("LISTEN_FDS").filter(|_| is_for_us) else { return Ok(Self::Settings) };
        match count.parse::<u32>() {
            Ok(0) => Ok(Self::Settings),
            Ok(count) => Ok(Self::Systemd { count, names: variable("LISTEN_FDNAMES") }),
            Err(_) => Err(StartError::failed(format!("LISTEN_FDS={count} is not a number of sockets"))),
        }
    }

    /// The sockets that were handed over, and are taken with it: a second call finds none.
    pub(super) fn listen(&self) -> Result<Vec<Listener>, StartError> {
        let listeners = match self {
            Self::Settings => Ok(Vec::new()),
            Self::Systemd { count, .. } => {
                let end = FIRST_OF_SYSTEMD.saturating_add(*count);
                (FIRST_OF_SYSTEMD..end).map(net::adopt).collect()
            }
            Self::Master { sockets, .. } => sockets.adopt(),
        };
        let listeners = listeners.map_err(StartError::failed)?;
        match self {
            Self::Settings => {}
            Self::Systemd { count, names } => {
                let names = names.as_deref().unwrap_or("without names");
                ::log::info!("sockets from systemd in place of --bind: {count} ({names})");
            }
            Self::Master { pid, .. } => ::log::info!("listening beside the old master, pid {pid}, which goes on"),
        }
        Ok(listeners)
    }

    /// The master that this one is to replace.
    pub(super) fn old_master(&self) -> Option<Pid> {
        match self {
            Self::Master { pid, .. } => Some(*pid),
            Self::Settings | Self::Systemd { .. } => None,
        }
    }
}

/// Python has a copy of them all, if it runs.
fn remove_variable(name: &str) -> io::Result<()> {
    if interpreter::is_running() {
        return Python::attach(|py| interpreter::set_variable(py, name, None)).map_err(io::Error::other);
    }
    environment::remove(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: i32 = 42;

    fn read(variables: &[(&str, &str)]) -> Result<Source, String> {
        let variable =
            |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        Source::read(&variable, Pid::from_raw(OWN)).map_err(|error| error.sentence)
    }

    #[test]
    fn sockets_of_systemd_are_taken_by_the_process_they_are_for() {
        let names = Some("web:admin".to_owned());
        let given = [("LISTEN_PID", "42"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "web:admin")];
        assert_eq!(read(&given), Ok(Source::Systemd { count: 2, names }));
        for given in [
            &[][..],
            &[("LISTEN_PID", "41"), ("LISTEN_FDS", "2")],
            &[("LISTEN_FDS", "2")],
            &[("LISTEN_PID", "42")],
            &[("LISTEN_PID", "42"), ("LISTEN_FDS", "0")],
        ] {
            assert_eq!(read(given), Ok(Source::Settings), "{given:?}");
        }
        assert!(read(&[("LISTEN_PID", "42"), ("LISTEN_FDS", "x")]).is_err());
    }

    #[test]
    fn an_older_master_comes_before_systemd() {
        let given = [("MINICORN_FD", "3,5"), ("MINICORN_PID", "7"), ("LISTEN_PID", "42"), ("LISTEN_FDS", "1")];
        let sockets = HandedOver::parse("3,5").expect("two sockets");
        let source = read(&given).expect("a source");
        assert_eq!(source, Source::Master { pid: Pid::from_raw(7), sockets });
        assert_eq!(source.old_master(), Some(Pid::from_raw(7)));
    }

    #[test]
    fn half_an_upgrade_is_refused() {
        for given in [&[("MINICORN_FD", "3")][..], &[("MINICORN_FD", "three"), ("MINICORN_PID", "7")]] {
            assert!(read(given).is_err_and(|sentence| sentence.contains("MINICORN_FD=")), "{given:?}");
        }
    }
}
