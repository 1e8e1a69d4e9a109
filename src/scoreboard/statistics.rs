//! [`Statistics`]: what the workers of a slot have counted. The counters go on from one worker to the next, so that their
//! sums never fall, whoever crashes or is replaced; the [`Gauges`] are those of the worker that is there.
//!
//! One writer, the worker, and of its threads the one at the desk: so a count is a load and a store.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::current::{self, Current, CurrentRequest};
use crate::sys::shared::{Line, WORDS};

/// Where the workers of one slot count. Cheap to copy and to keep.
#[derive(Clone, Copy, Debug)]
pub struct Statistics<'a>(&'a [Line]);

/// The methods that are counted apart; the last name stands for all others.
pub const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];

/// The statuses with which the server itself answers, without the application; what is not among them is not told.
const REFUSALS: [u16; 13] = [400, 403, 408, 411, 413, 414, 417, 431, 500, 501, 503, 505, 507];

/// Upper bounds of the buckets of a [`Histogram`], included in them; there is one bucket more for what is above.
pub const BOUNDS: [Duration; 13] = [
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

const BUCKETS: usize = BOUNDS.len() + 1;

/// Statuses that are counted one by one; the first is for responses without one.
const STATUSES: usize = 501;
const STATUS_MIN: usize = 100;

// The lines of a slot, and the words in the first of them.
const BODY_BYTES: usize = METHODS.len();
const TIMEOUTS: usize = 9;
const DISCONNECTS: usize = 10;
const ACCEPTED: usize = 11;
const GAUGES: usize = WORDS;
const DURATIONS: usize = 2 * WORDS;
const QUEUE_TIMES: usize = 3 * WORDS;
const REFUSED: usize = 4 * WORDS;
const FIRST_STATUS: usize = 5 * WORDS;
const CURRENT_LINE: usize = (FIRST_STATUS + STATUSES).div_ceil(WORDS);

/// How many lines the statistics of a slot take.
pub(super) const LINES: usize = CURRENT_LINE + current::LINES;

// A histogram has its buckets and behind them its sum.
const _: () = assert!(BUCKETS < WORDS && ACCEPTED < WORDS && REFUSALS.len() <= WORDS);

/// What a connection waits for that is not idle, as an index of [`Gauges::waiting`]. Those in the application are told
/// by the threads that are busy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waiting {
    /// The rest of a head.
    Head,
    /// More of a body.
    Body,
    /// A thread of the application.
    Thread,
    /// The client, to take more of its response.
    Room,
    /// The end of what the client sends behind a refusal.
    End,
    /// None of these: it is idle, or its request is in the application. Not counted.
    #[default]
    Nothing,
}

/// How many kinds of [`Waiting`] are counted.
const WAITING: usize = Waiting::Nothing as usize;

/// What a worker is busy with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Its threads that call the application.
    pub threads: u64,
    /// Those in a call.
    pub threads_busy: u64,
    /// Connections by [`Waiting`].
    pub waiting: [u64; WAITING],
}

/// How long things took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many were within each of the [`BOUNDS`] and not within the one before; the last, beyond all of them.
    pub buckets: [u64; BUCKETS],
    /// All of them together.
    pub sum: Duration,
}

/// The sums over all slots.
#[derive(Clone, Debug)]
pub struct Totals {
    /// Requests that the application was called for, by [`METHODS`].
    pub methods: [u64; METHODS.len()],
    statuses: [u64; STATUSES],
    refused: [u64; REFUSALS.len()],
    /// Of responses of the application, without framing.
    pub body_bytes: u64,
    /// Calls that took too long.
    pub timeouts: u64,
    /// Clients that had gone before they had all of their response.
    pub disconnects: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// The calls of the application.
    pub durations: Histogram,
    /// From the last byte of a request to its call.
    pub queue_times: Histogram,
}

/// For the worker, by the one of its threads that is at the desk.
impl Statistics<'_> {
    /// A call of the application is over, and what was sent of its response is this.
    pub fn count_call(self, method: &[u8], status: u16, body_bytes: u64, duration: Duration) {
        add(self.word(method_index(method)), 1);
        add(self.word(FIRST_STATUS + status_index(status)), 1);
        add(self.word(BODY_BYTES), body_bytes);
        self.observe(DURATIONS, duration);
    }

    /// A request has waited so long for its call.
    pub fn count_queue_time(self, time: Duration) {
        self.observe(QUEUE_TIMES, time);
    }

    /// A request was answered without the application.
    pub fn count_refusal(self, status: u16) {
        if let Some(index) = REFUSALS.iter().position(|&known| known == status) {
            add(self.word(REFUSED + index), 1);
        }
    }

    /// A call took longer than it may.
    pub fn count_timeout(self) {
        add(self.word(TIMEOUTS), 1);
    }

    /// A client has gone before it had its response.
    pub fn count_disconnect(self) {
        add(self.word(DISCONNECTS), 1);
    }

    /// So many connections were accepted.
    pub fn count_accepted(self, count: u64) {
        add(self.word(ACCEPTED), count);
    }

    /// The worker has so many threads that call the application.
    pub fn set_threads(self, count: u64) {
        self.word(GAUGES).store(count, Relaxed);
    }

    /// One more of them is in a call.
    #[inline]
    pub fn begin_call(self) {
        add(self.word(GAUGES + 1), 1);
    }

    /// One less is.
    #[inline]
    pub fn end_call(self) {
        let busy = self.word(GAUGES + 1);
        busy.store(busy.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// So many connections wait for each of these.
    pub fn set_waiting(self, counts: &[u32; WAITING]) {
        for (index, &count) in counts.iter().enumerate() {
            self.word(GAUGES + 2 + index).store(count.into(), Relaxed);
        }
    }

    /// Shows a request that has been in the application for `age`.
    pub fn show_request(self, method: &[u8], path: &[u8], age: Duration) {
        self.current().show(method, path, age);
    }

    /// It is over.
    pub fn hide_request(self) {
        self.current().hide();
    }

    fn observe(self, first: usize, time: Duration) {
        let bucket = BOUNDS.iter().position(|&bound| time <= bound).unwrap_or(BOUNDS.len());
        add(self.word(first + bucket), 1);
        add(self.word(first + BUCKETS), time.as_nanos() as u64);
    }
}

/// For the master.
impl<'a> Statistics<'a> {
    pub(super) fn new(lines: &'a [Line]) -> Self {
        Self(lines)
    }

    /// Forgets what was true of the last worker. What it has counted stays.
    pub(super) fn prepare(self) {
        (GAUGES..GAUGES + WORDS).for_each(|word| self.word(word).store(0, Relaxed));
        self.current().reset();
    }

    /// What the worker is busy with.
    pub fn gauges(self) -> Gauges {
        let word = |index| self.word(GAUGES + index).load(Relaxed);
        Gauges { threads: word(0), threads_busy: word(1), waiting: std::array::from_fn(|index| word(2 + index)) }
    }

    /// Of the requests that have been in the application for long, the one that has been there longest.
    pub fn current_request(self) -> Option<CurrentRequest> {
        self.current().read()
    }

    fn current(self) -> Current<'a> {
        Current::new(&self.0[CURRENT_LINE..])
    }

    fn histogram(self, first: usize) -> Histogram {
        Histogram {
            buckets: std::array::from_fn(|index| self.word(first + index).load(Relaxed)),
            sum: Duration::from_nanos(self.word(first + BUCKETS).load(Relaxed)),
        }
    }

    fn word(self, index: usize) -> &'a AtomicU64 {
        &self.0[index / WORDS].0[index % WORDS]
    }
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            methods: [0; METHODS.len()],
            statuses: [0; STATUSES],
            refused: [0; REFUSALS.len()],
            body_bytes: 0,
            timeouts: 0,
            disconnects: 0,
            accepted: 0,
            durations: Histogram::default(),
            queue_times: Histogram::default(),
        }
    }
}

impl Totals {
    /// Calls of the application.
    pub fn requests(&self) -> u64 {
        self.methods.iter().sum()
    }

    /// Responses of the application by status, those that there have been; status 0: the connection was cut before there
    /// was one.
    pub fn statuses(&self) -> impl Iterator<Item = (u16, u64)> {
        let all = self.statuses.iter().enumerate();
        all.filter(|(_, count)| **count > 0).map(|(index, &count)| (status_at(index), count))
    }

    /// Requests that were answered without the application, by every status that may be.
    pub fn refusals(&self) -> impl Iterator<Item = (u16, u64)> {
        REFUSALS.into_iter().zip(self.refused)
    }

    pub(super) fn add(&mut self, own: Statistics<'_>) {
        let add = |sums: &mut [u64], first: usize| {
            sums.iter_mut().zip(first..).for_each(|(sum, word)| *sum += own.word(word).load(Relaxed));
        };
        add(&mut self.methods, 0);
        add(&mut self.statuses, FIRST_STATUS);
        add(&mut self.refused, REFUSED);
        let single = |word: usize| own.word(word).load(Relaxed);
        self.body_bytes += single(BODY_BYTES);
        self.timeouts += single(TIMEOUTS);
        self.disconnects += single(DISCONNECTS);
        self.accepted += single(ACCEPTED);
        self.durations.add(&own.histogram(DURATIONS));
        self.queue_times.add(&own.histogram(QUEUE_TIMES));
    }
}

impl Histogram {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, count)| *sum += count);
        self.sum += other.sum;
    }
}

fn add(word: &AtomicU64, amount: u64) {
    word.store(word.load(Relaxed).wrapping_add(amount), Relaxed);
}

fn method_index(method: &[u8]) -> usize {
    match method {
        b"GET" => 0,
        b"HEAD" => 1,
        b"POST" => 2,
        b"PUT" => 3,
        b"PATCH" => 4,
        b"DELETE" => 5,
        b"OPTIONS" => 6,
        _ => METHODS.len() - 1,
    }
}

fn status_index(status: u16) -> usize {
    let index = usize::from(status).checked_sub(STATUS_MIN).map_or(0, |index| index + 1);
    if index < STATUSES { index } else { 0 }
}

fn status_at(index: usize) -> u16 {
    if index == 0 { 0 } else { (STATUS_MIN + index - 1) as u16 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::scoreboard::Scoreboard;

    #[test]
    fn counters_outlive_the_worker_and_gauges_do_not() {
        let board = Scoreboard::with_statistics(2).unwrap();
        let slot = board.slot(1);
        slot.prepare();
        let own = slot.statistics().unwrap();
        own.count_call(b"GET", 200, 14, Duration::from_millis(1));
        own.count_call(b"BREW", 599, 1, Duration::from_secs(11));
        own.count_call(b"POST", 0, 0, Duration::from_millis(2));
        own.count_queue_time(Duration::ZERO);
        own.count_refusal(431);
        own.count_timeout();
        own.count_disconnect();
        own.count_accepted(3);
        own.set_threads(4);
        own.begin_call();
        own.set_waiting(&[1, 2, 3, 4, 5]);
        own.show_request(b"GET", b"/slow", Duration::from_secs(1));
        assert_eq!(own.gauges(), Gauges { threads: 4, threads_busy: 1, waiting: [1, 2, 3, 4, 5] });
        slot.prepare();
        assert_eq!((own.gauges(), own.current_request()), (Gauges::default(), None));
        board.slot(0).statistics().unwrap().count_call(b"GET", 200, 100, Duration::ZERO);

        let totals = board.totals().unwrap();
        assert_eq!(totals.methods, [2, 0, 1, 0, 0, 0, 0, 1]);
        assert_eq!(totals.statuses().collect::<Vec<_>>(), [(0, 1), (200, 2), (599, 1)]);
        assert_eq!(totals.refusals().filter(|(_, count)| *count > 0).collect::<Vec<_>>(), [(431, 1)]);
        assert_eq!((totals.body_bytes, totals.timeouts, totals.disconnects, totals.accepted), (115, 1, 1, 3));
        assert_eq!((totals.requests(), totals.durations.count(), totals.queue_times.count()), (4, 4, 1));
        assert_eq!(totals.durations.sum, Duration::from_millis(11_003));
    }

    /// Nothing is written beside its own word.
    #[test]
    fn every_status_has_a_word_and_bounds_belong_to_their_buckets() {
        let board = Scoreboard::with_statistics(1).unwrap();
        let own = board.slot(0).statistics().unwrap();
        for status in 100..=599 {
            own.count_call(b"PUT", status, 0, BOUNDS[usize::from(status) % BOUNDS.len()]);
        }
        let totals = board.totals().unwrap();
        assert!(totals.statuses().eq((100..=599).map(|status| (status, 1))));
        assert_eq!(
            (totals.methods[3], totals.requests(), totals.refusals().map(|(_, count)| count).sum()),
            (500, 500, 0)
        );
        assert!(totals.durations.buckets[..BOUNDS.len()].iter().all(|&count| count >= 38));
        assert_eq!((totals.durations.buckets[BOUNDS.len()], totals.queue_times.count()), (0, 0));
    }

    #[test]
    fn what_nobody_wants_is_not_counted() {
        let board = Scoreboard::new(1).unwrap();
        assert!(board.totals().is_none() && board.slot(0).statistics().is_none());
    }
}
