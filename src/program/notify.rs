//! [`Notifier`]: what systemd is told of the server (sd_notify(3)), if it has said where it listens.
//!
//! The variables that say so are not for the workers, who remove them before they start Python: what an application
//! sends there would be taken for the server's word.

use crate::master::News;
use crate::sys::clock;
use crate::sys::process::{self, Pid};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Tells the supervisor; silent if there is none.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    supervisor: Option<(UnixDatagram, SocketAddr)>,
    alive_interval: Option<Duration>,
    /// The last numbers told, ready and wanted.
    serving: Option<(u32, u32)>,
    has_failed: bool,
}

impl Notifier {
    /// By the variables `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
    pub(super) fn new(environment: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let Some(path) = environment("NOTIFY_SOCKET") else { return Self::default() };
        match connect(&path) {
            Ok(supervisor) => {
                let alive_interval = alive_interval(environment, process::own_pid());
                Self { supervisor: Some(supervisor), alive_interval, ..Self::default() }
            }
            Err(error) => {
                log::debug!("NOTIFY_SOCKET {}: {error}", path.to_string_lossy());
                Self::default()
            }
        }
    }

    /// Whether somebody wants to be told.
    pub(super) fn has_supervisor(&self) -> bool {
        self.supervisor.is_some()
    }

    /// How often [`News::Alive`] is to be told.
    pub(super) fn alive_interval(&self) -> Option<Duration> {
        self.alive_interval
    }

    /// Tells what has become of the server.
    pub(super) fn announce(&mut self, news: News) {
        match news {
            News::Ready | News::Reloaded => self.send("READY=1"),
            News::Serving { ready, wanted } => {
                if self.serving.replace((ready, wanted)) != Some((ready, wanted)) {
                    self.send(&format!("STATUS={ready} of {wanted} workers ready"));
                }
            }
            // Without the time systemd would not know a reload that it has asked for from an earlier one.
            News::Reloading => {
                self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_now().as_micros()));
            }
            News::Stopping => self.send("STOPPING=1"),
            News::Alive => self.send("WATCHDOG=1"),
        }
    }

    /// Another process than the one that was started is the master.
    pub(super) fn main_pid(&mut self, pid: Pid) {
        self.send(&format!("MAINPID={pid}"));
    }

    fn send(&mut self, message: &str) {
        let Some((socket, address)) = &self.supervisor else { return };
        let sent = socket.send_to_addr(message.as_bytes(), address);
        if let Err(error) = sent
            && !std::mem::replace(&mut self.has_failed, true)
        {
            log::debug!("systemd cannot be told {message:?}: {error}");
        }
    }
}

/// Not connected: a supervisor that has been started anew listens at the same address. A full queue is not waited for.
fn connect(path: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match path.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(path)?,
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => return Err(io::Error::other("it is neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// Half of what systemd waits for, as sd_watchdog_enabled(3) says.
fn alive_interval(environment: &dyn Fn(&str) -> Option<OsString>, own: Pid) -> Option<Duration> {
    let number = |name| environment(name)?.to_str()?.parse::<u64>().ok();
    let is_for_us = environment("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == u64::try_from(own.as_raw()).ok();
    let limit = number("WATCHDOG_USEC").filter(|&microseconds| is_for_us && microseconds > 0)?;
    Some(Duration::from_micros(limit) / 2)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn variables(pairs: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
        |name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
    }

    /// What a notifier sends to, and the notifier.
    struct Heard {
        supervisor: UnixDatagram,
        notifier: Notifier,
        /// Where the supervisor has its name.
        _folder: tempfile::TempDir,
    }

    impl Heard {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("notify");
            let supervisor = UnixDatagram::bind(&path).unwrap();
            supervisor.set_nonblocking(true).unwrap();
            let notifier = Notifier::new(&|name| (name == "NOTIFY_SOCKET").then(|| path.clone().into_os_string()));
            Self { supervisor, notifier, _folder: folder }
        }

        fn of(&mut self, news: News) -> Option<String> {
            self.notifier.announce(news);
            self.next()
        }

        fn next(&self) -> Option<String> {
            let mut bytes = [0; 256];
            let count = self.supervisor.recv(&mut bytes).ok()?;
            Some(String::from_utf8(bytes[..count].to_vec()).unwrap())
        }
    }

    #[test]
    fn each_piece_of_news_has_its_message() {
        let mut heard = Heard::new();
        for (news, message) in [
            (News::Ready, "READY=1"),
            (News::Serving { ready: 2, wanted: 4 }, "STATUS=2 of 4 workers ready"),
            (News::Reloaded, "READY=1"),
            (News::Stopping, "STOPPING=1"),
            (News::Alive, "WATCHDOG=1"),
        ] {
            assert_eq!(heard.of(news).as_deref(), Some(message));
        }
        heard.notifier.main_pid(Pid::from_raw(42));
        assert_eq!(heard.next().as_deref(), Some("MAINPID=42"));
    }

    #[test]
    fn a_reload_says_its_time() {
        let mut heard = Heard::new();
        let before = clock::monotonic_now().as_micros();
        let message = heard.of(News::Reloading).unwrap();
        let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!((before..=clock::monotonic_now().as_micros()).contains(&time), "{message:?}");
    }

    #[test]
    fn numbers_that_have_not_changed_are_not_told_again() {
        let mut heard = Heard::new();
        let news = News::Serving { ready: 1, wanted: 2 };
        assert!(heard.of(news).is_some());
        assert_eq!(heard.of(news), None);
        assert!(heard.of(News::Serving { ready: 2, wanted: 2 }).is_some());
        assert!(heard.of(news).is_some());
    }

    /// The kernel takes a handful of messages for a supervisor that hangs.
    #[test]
    fn a_supervisor_that_does_not_listen_is_not_waited_for() {
        let mut heard = Heard::new();
        (0..10_000).for_each(|_| heard.notifier.announce(News::Alive));
        assert!(heard.notifier.has_failed);
        let mut gone = Heard::new();
        gone.supervisor = UnixDatagram::unbound().unwrap();
        gone.notifier.announce(News::Ready);
        assert!(gone.notifier.has_failed);
    }

    #[test]
    fn addresses() {
        for (address, has_supervisor) in
            [("/run/n", true), ("@minicorn", true), ("run/n", false), ("vsock:2:1", false), ("", false)]
        {
            let notifier = Notifier::new(&|name| (name == "NOTIFY_SOCKET").then(|| address.into()));
            assert_eq!(notifier.has_supervisor(), has_supervisor, "{address:?}");
        }
        Notifier::default().announce(News::Ready);
    }

    #[test]
    fn the_watchdog_gets_a_sign_in_half_its_time() {
        let own = Pid::from_raw(7);
        assert_eq!(alive_interval(&variables(&[]), own), None);
        for (pairs, seconds) in [
            (&[("WATCHDOG_USEC", "4000000")][..], Some(2)),
            (&[("WATCHDOG_USEC", "4000000"), ("WATCHDOG_PID", "7")], Some(2)),
            (&[("WATCHDOG_USEC", "4000000"), ("WATCHDOG_PID", "8")], None),
            (&[("WATCHDOG_USEC", "4000000"), ("WATCHDOG_PID", "x")], None),
            (&[("WATCHDOG_USEC", "0")], None),
            (&[("WATCHDOG_USEC", "soon")], None),
        ] {
            assert_eq!(alive_interval(&variables(pairs), own), seconds.map(Duration::from_secs), "{pairs:?}");
        }
    }
}
