//! [`Snapshot`]: all figures of one moment, for whatever form they are given in.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::unreadiness;
use crate::master::{ChildView, ServerStage, View};
use crate::net::{Listener, LocalAddress};
use crate::scoreboard::{CurrentRequest, Gauges, Scoreboard, Totals, Waiting};
use crate::sys::{backlog, process};

/// What is known without asking anybody.
#[derive(Clone, Debug)]
pub struct About {
    /// Of Python: `3.11.7`.
    pub python: &'static str,
    /// The application, as it was given; a reload may change it.
    pub app: String,
    started: Instant,
    started_at: SystemTime,
}

/// Where the figures come from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What nobody has to be asked for.
    pub about: &'a About,
    /// What the master knows.
    pub view: &'a View,
    /// What the workers tell.
    pub scoreboard: &'a Scoreboard,
    /// Where they accept.
    pub listeners: &'a [Arc<Listener>],
}

pub(super) struct Snapshot<'a> {
    pub(super) about: &'a About,
    pub(super) view: &'a View,
    pub(super) pid: u32,
    pub(super) uptime: Duration,
    /// `None`: the server is ready.
    pub(super) unready: Option<&'static str>,
    pub(super) totals: Box<Totals>,
    /// Connections that moved: sent, and taken in.
    pub(super) passes: (u64, u64),
    /// Address, and how many connections wait there to be accepted, if that is known.
    pub(super) listeners: Vec<(String, Option<u32>)>,
    pub(super) master_rss_bytes: Option<u64>,
    /// In the order of their numbers; of two with the same number, the older one first.
    pub(super) workers: Vec<Worker>,
    /// The templates of `--preload`.
    pub(super) templates: Vec<Worker>,
}

/// One child of the master.
pub(super) struct Worker {
    pub(super) child: ChildView,
    pub(super) age: Duration,
    pub(super) rss_bytes: Option<u64>,
    /// Since it was forked.
    pub(super) requests: u64,
    pub(super) threads: u64,
    pub(super) connections: Connections,
    pub(super) current: Option<CurrentRequest>,
}

/// How many connections there are, by what they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Connections {
    pub(super) idle: u64,
    pub(super) reading_head: u64,
    pub(super) reading_body: u64,
    pub(super) queued: u64,
    pub(super) in_application: u64,
    pub(super) sending: u64,
    pub(super) lingering: u64,
}

impl About {
    /// A server that starts now.
    pub fn starting(python: &'static str, app: String) -> Self {
        Self { python, app, started: Instant::now(), started_at: SystemTime::now() }
    }

    /// Seconds since the epoch.
    pub(super) fn started_at(&self) -> f64 {
        self.started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    }
}

impl<'a> Snapshot<'a> {
    pub(super) fn take(facts: &Facts<'a>) -> Self {
        let Facts { about, view, scoreboard, listeners } = *facts;
        let now = Instant::now();
        let pid = process::own_pid().as_raw().unsigned_abs();
        let children = view.children.iter().map(|child| Worker::look_at(child, scoreboard, now));
        let (templates, mut workers): (Vec<_>, Vec<_>) = children.partition(|worker| worker.child.number == 0);
        workers.sort_by_key(|worker| (worker.child.number, worker.child.forked_at));
        Self {
            about,
            view,
            pid,
            uptime: now - about.started,
            unready: unreadiness(view),
            totals: scoreboard.totals().unwrap_or_default(),
            passes: scoreboard.passes(),
            listeners: listeners.iter().map(|listener| (listener.to_string(), waiting_at(listener))).collect(),
            master_rss_bytes: process::resident_bytes(pid),
            workers,
            templates,
        }
    }

    /// In one word.
    pub(super) fn state(&self) -> &'static str {
        match self.view.stage {
            ServerStage::Starting => "starting",
            ServerStage::Serving => "serving",
            ServerStage::Stopping => "stopping",
        }
    }

    /// Of all workers.
    pub(super) fn connections(&self) -> Connections {
        self.workers.iter().fold(Connections::default(), |sum, worker| sum.plus(&worker.connections))
    }

    /// Of all workers.
    pub(super) fn threads(&self) -> u64 {
        self.workers.iter().map(|worker| worker.threads).sum()
    }
}

impl Worker {
    fn look_at(child: &ChildView, scoreboard: &Scoreboard, now: Instant) -> Self {
        let slot = scoreboard.slot(child.slot);
        let statistics = slot.statistics();
        let gauges = statistics.map(|statistics| statistics.gauges()).unwrap_or_default();
        Self {
            child: *child,
            age: now.saturating_duration_since(child.forked_at),
            rss_bytes: process::resident_bytes(child.pid.as_raw().unsigned_abs()),
            requests: slot.requests(),
            threads: gauges.threads,
            connections: Connections::of(u64::from(slot.connections()), &gauges),
            current: statistics.and_then(|statistics| statistics.current_request()),
        }
    }
}

impl Connections {
    /// The numbers are read one after another while the worker goes on, and those that wait are as of its last batch.
    fn of(total: u64, gauges: &Gauges) -> Self {
        let waiting = |kind: Waiting| gauges.waiting[kind as usize];
        let mut own = Self {
            idle: 0,
            reading_head: waiting(Waiting::Head),
            reading_body: waiting(Waiting::Body),
            queued: waiting(Waiting::Thread),
            in_application: gauges.threads_busy,
            sending: waiting(Waiting::Room),
            lingering: waiting(Waiting::End),
        };
        own.idle = total.saturating_sub(own.total());
        own
    }

    fn plus(self, other: &Self) -> Self {
        Self {
            idle: self.idle + other.idle,
            reading_head: self.reading_head + other.reading_head,
            reading_body: self.reading_body + other.reading_body,
            queued: self.queued + other.queued,
            in_application: self.in_application + other.in_application,
            sending: self.sending + other.sending,
            lingering: self.lingering + other.lingering,
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.by_state().iter().map(|(_, count)| count).sum()
    }

    /// With the names that metrics and status use.
    pub(super) fn by_state(&self) -> [(&'static str, u64); 7] {
        [
            ("idle", self.idle),
            ("reading_head", self.reading_head),
            ("reading_body", self.reading_body),
            ("queued", self.queued),
            ("in_application", self.in_application),
            ("sending", self.sending),
            ("lingering", self.lingering),
        ]
    }
}

fn waiting_at(listener: &Listener) -> Option<u32> {
    match listener.local {
        LocalAddress::Tcp(_) => backlog::of_tcp(listener.as_fd()),
        LocalAddress::Unix(_) | LocalAddress::Abstract(_) => backlog::of_unix(listener.as_fd()),
    }
}
