//! `minicorn ctl top`: the status again and again. On a terminal each frame takes the place of the one before; elsewhere
//! they follow each other.

use super::socket::Failure;
use super::{say, text};
use crate::sys::terminal::{self, CTRL_C, Keyboard};
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);

// ECMA-48, which all terminals of today know.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
const OTHER_SCREEN: &str = "\x1b[?1049h";
const USUAL_SCREEN: &str = "\x1b[?1049l";

/// Shows what `look` finds until the user has seen enough.
pub(super) fn run(once: bool, look: impl Fn() -> Result<Value, Failure>) -> Result<(), Failure> {
    if once {
        return say(&text::status(&look()?));
    }
    // A server that is not there is told on the screen that the user sees.
    let first = look()?;
    match terminal::size() {
        None => follow(first, look),
        Some(_) => {
            let _screen = Screen::open()?;
            watch(first, look)
        }
    }
}

fn follow(mut status: Value, look: impl Fn() -> Result<Value, Failure>) -> Result<(), Failure> {
    let mut rate = Rate::default();
    loop {
        say(&format!("{}{}\n", text::status(&status), rate.line(&status)))?;
        std::thread::sleep(INTERVAL);
        status = look()?;
    }
}

fn watch(mut status: Value, look: impl Fn() -> Result<Value, Failure>) -> Result<(), Failure> {
    let keyboard = Keyboard::open();
    let mut rate = Rate::default();
    loop {
        let frame = format!("{}{}q: quit\n", text::status(&status), rate.line(&status));
        say(&fitted(&frame, terminal::size().unwrap_or((80, 24))))?;
        if matches!(keyboard.key(INTERVAL), Some(b'q' | b'Q' | CTRL_C)) {
            return Ok(());
        }
        status = look()?;
    }
}

/// What there is room for, over what was there.
fn fitted(frame: &str, (columns, rows): (usize, usize)) -> String {
    let mut out = HOME.to_owned();
    for (index, line) in frame.lines().take(rows).enumerate() {
        let line: String = line.chars().take(columns).collect();
        _ = write!(out, "{}{line}{CLEAR_LINE}", if index == 0 { "" } else { "\r\n" });
    }
    out + CLEAR_BELOW
}

/// The screen of its own that programs such as this have, so that what was there before is there after it.
struct Screen;

impl Screen {
    fn open() -> Result<Self, Failure> {
        say(&format!("{OTHER_SCREEN}{HIDE_CURSOR}")).map(|()| Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        _ = say(&format!("{SHOW_CURSOR}{USUAL_SCREEN}"));
    }
}

/// Requests per second, from one frame to the next.
#[derive(Default)]
struct Rate {
    /// When it was, and what each process had answered.
    before: Option<(Instant, HashMap<u64, u64>)>,
}

impl Rate {
    fn line(&mut self, status: &Value) -> String {
        let workers = status["workers"].as_array().map(Vec::as_slice).unwrap_or_default();
        let counts = workers.iter().filter_map(|own| Some((own["pid"].as_u64()?, own["requests"].as_u64()?)));
        let now = (Instant::now(), counts.collect::<HashMap<_, _>>());
        let rate = self.before.as_ref().map(|(then, before)| {
            let answered = now.1.iter().map(|(pid, count)| count.saturating_sub(before.get(pid).copied().unwrap_or(0)));
            answered.sum::<u64>() as f64 / now.0.duration_since(*then).as_secs_f64().max(0.001)
        });
        self.before = Some(now);
        rate.map_or_else(String::new, |rate| format!("\n{rate:.0} requests per second\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_cut_to_the_terminal() {
        assert_eq!(fitted("one\ntwo\nthree\n", (2, 2)), "\x1b[Hon\x1b[K\r\ntw\x1b[K\x1b[J");
    }
}
