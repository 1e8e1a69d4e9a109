//! [`WorkerTitle`]: `minicorn: worker 3 [idle] NAME`.

use crate::sys::title::Title;

/// The title of a worker, with what it does now. The default one is shown nowhere.
#[derive(Debug, Default)]
pub struct WorkerTitle {
    title: Title,
    /// What stands before the state, and behind it.
    front: String,
    back: String,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Starting,
    Idle,
    Busy,
    Draining,
}

/// The states that follow each other with each request are of the same length, so that four bytes are written for them.
const IDLE: &str = "idle";
const BUSY: &str = "busy";

impl WorkerTitle {
    /// Of a worker that starts.
    pub fn new(title: Title, number: u32, name: &str) -> Self {
        let (front, back) = (format!("minicorn: worker {number} ["), format!("] {name}"));
        let mut new = Self { title, front, back, state: State::Starting };
        new.write();
        new
    }

    /// It could take a request.
    #[inline]
    pub(super) fn be_idle(&mut self) {
        self.follow(State::Idle, IDLE);
    }

    /// It has something to do.
    #[inline]
    pub(super) fn be_busy(&mut self) {
        self.follow(State::Busy, BUSY);
    }

    /// It finishes what it has, and stays at that.
    pub(super) fn be_draining(&mut self) {
        self.state = State::Draining;
        self.write();
    }

    #[inline]
    fn follow(&mut self, state: State, word: &str) {
        match self.state {
            State::Draining => {}
            State::Starting => {
                self.state = state;
                self.write();
            }
            State::Idle | State::Busy => {
                self.state = state;
                self.title.overwrite(self.front.len(), word.as_bytes());
            }
        }
    }

    fn write(&mut self) {
        let word = match self.state {
            State::Starting => "starting",
            State::Idle => IDLE,
            State::Busy => BUSY,
            State::Draining => "draining",
        };
        self.title.set(&[&self.front, word, &self.back].concat());
    }
}
