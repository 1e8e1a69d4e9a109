//! What a worker does upon a signal, whoever polls at that moment.

use super::engine::Engine;
use crate::log as logs;
use crate::sys::signal::Signal;

impl Engine<'_> {
    /// Takes in the signals that have come.
    pub(super) fn on_signals(&mut self) {
        for signal in self.signals.drain() {
            match signal {
                Signal::Term => {
                    self.departure.is_asked = true;
                    if self.departure.is_interrupted() {
                        self.last_calls.interrupt(self.slot.requests());
                    }
                }
                Signal::Usr1 => self.reopen_logs(),
                // Not caught.
                Signal::Hup | Signal::Int | Signal::Quit | Signal::Usr2 => {}
                Signal::Winch | Signal::Ttin | Signal::Ttou | Signal::Chld => {}
            }
        }
    }

    /// The master has opened the files before it has sent the signal, so they are there, and belong to the worker's user.
    /// But the folder may be closed to it: that is said once, since it stays so.
    fn reopen_logs(&mut self) {
        let failures = logs::reopen_all(&mut self.access_log);
        if !failures.is_empty() && !std::mem::replace(&mut self.has_told_of_logs, true) {
            log::warn!("logs go on in their old files: {}", failures.join(", "));
        }
    }
}
