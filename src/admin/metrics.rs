//! `/metrics`: the figures in Prometheus's text format 0.0.4. Counters are sums over all workers there have been; labels
//! are few and bounded: a worker is named by its number and its slot, and never by its process.

use std::fmt::{Display, Write};
use std::time::Duration;

use super::response::Response;
use super::snapshot::{Snapshot, Worker};
use crate::master::Tally;
use crate::scoreboard::{BOUNDS, Histogram, METHODS, Totals};

pub(super) fn response(snapshot: &Snapshot<'_>) -> Response {
    Response::new(200, "text/plain; version=0.0.4; charset=utf-8", render(snapshot))
}

fn render(snapshot: &Snapshot<'_>) -> String {
    let mut out = Families::default();
    server(&mut out, snapshot);
    requests(&mut out, &snapshot.totals);
    connections(&mut out, snapshot);
    supervision(&mut out, &snapshot.view.tally);
    each_worker(&mut out, snapshot);
    out.0
}

/// Families of metrics, one behind the other.
#[derive(Default)]
struct Families(String);

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

type Labels<'l> = &'l [(&'static str, &'l str)];

impl Families {
    /// The two lines in front of its samples. Nothing in `help` needs escapes.
    fn begin(&mut self, kind: Kind, name: &str, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            self.write(format_args!("{before}{label}=\"{}\"", Escaped(text)));
        }
        self.write(format_args!("{} {value}\n", if labels.is_empty() { "" } else { "}" }));
    }

    fn single(&mut self, kind: Kind, name: &str, help: &str, value: impl Display) {
        self.begin(kind, name, help);
        self.sample(name, &[], value);
    }

    /// One sample for each value of a label.
    fn by<T: Display>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        label: &'static str,
        samples: impl IntoIterator<Item = (impl AsRef<str>, T)>,
    ) {
        self.begin(kind, name, help);
        for (text, value) in samples {
            self.sample(name, &[(label, text.as_ref())], value);
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.begin(Kind::Histogram, name, help);
        let bucket = format!("{name}_bucket");
        let mut sum = 0;
        for (bound, count) in BOUNDS.iter().map(Duration::as_secs_f64).zip(histogram.buckets) {
            sum += count;
            self.sample(&bucket, &[("le", &bound.to_string())], sum);
        }
        self.sample(&bucket, &[("le", "+Inf")], histogram.count());
        self.sample(&format!("{name}_sum"), &[], histogram.sum.as_secs_f64());
        self.sample(&format!("{name}_count"), &[], histogram.count());
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // A String takes all.
        _ = self.0.write_fmt(text);
    }
}

/// The value of a label.
struct Escaped<'t>(&'t str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            char => f.write_char(char),
        })
    }
}

use Kind::{Counter, Gauge};

fn server(out: &mut Families, snapshot: &Snapshot<'_>) {
    let (about, view) = (snapshot.about, snapshot.view);
    out.begin(Gauge, "minicorn_build_info", "Always 1; which minicorn this is, and which Python it runs.");
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("python", about.python)];
    out.sample("minicorn_build_info", &labels, 1);
    out.single(Gauge, "minicorn_start_time_seconds", "When the master started, since the epoch.", about.started_at());
    out.single(Gauge, "minicorn_uptime_seconds", "Since the master started.", snapshot.uptime.as_secs_f64());
    out.single(Gauge, "minicorn_ready", "Whether /readyz says so.", u8::from(snapshot.unready.is_none()));
    out.single(Gauge, "minicorn_generation", "Readings of the configuration that were not given up.", view.generation);
    out.single(Gauge, "minicorn_reloading", "Whether a reload is under way.", u8::from(view.is_reloading));
    out.single(Gauge, "minicorn_workers_wanted", "Workers asked for.", view.wanted);
    out.single(Gauge, "minicorn_workers_ready", "Workers that serve.", view.ready);
    out.single(Gauge, "minicorn_workers", "Worker processes, in whatever state.", snapshot.workers.len());
    if let Some(bytes) = snapshot.master_rss_bytes {
        out.single(Gauge, "minicorn_master_resident_memory_bytes", "Memory of the master in RAM.", bytes);
    }
}

fn requests(out: &mut Families, totals: &Totals) {
    let methods = METHODS.into_iter().zip(totals.methods);
    out.by(Counter, "minicorn_requests_total", "Calls of the application that are over.", "method", methods);
    let help = "Their responses; none: the connection was cut before there was one.";
    let statuses = totals
        .statuses()
        .map(|(status, count)| (if status == 0 { "none".to_owned() } else { status.to_string() }, count));
    out.by(Counter, "minicorn_responses_total", help, "status", statuses);
    let help = "Bytes of their bodies, without framing.";
    out.single(Counter, "minicorn_response_body_bytes_total", help, totals.body_bytes);
    let help = "How long the calls took, until the last piece of the response was made.";
    out.histogram("minicorn_request_duration_seconds", help, &totals.durations);
    let help = "How long requests that were complete waited for the application.";
    out.histogram("minicorn_request_queue_seconds", help, &totals.queue_times);
    let help = "Requests that the server answered itself, without the application.";
    let refusals = totals.refusals().map(|(status, count)| (status.to_string(), count));
    out.by(Counter, "minicorn_refused_requests_total", help, "status", refusals);
    out.single(Counter, "minicorn_request_timeouts_total", "Calls that took longer than --timeout.", totals.timeouts);
    let help = "Clients that were gone before they had their response.";
    out.single(Counter, "minicorn_client_disconnects_total", help, totals.disconnects);
}

fn connections(out: &mut Families, snapshot: &Snapshot<'_>) {
    let own = snapshot.connections();
    out.by(Gauge, "minicorn_connections", "Open connections by what they do.", "state", own.by_state());
    let help = "Connections accepted.";
    out.single(Counter, "minicorn_connections_accepted_total", help, snapshot.totals.accepted);
    let passes = [("sent", snapshot.passes.0), ("received", snapshot.passes.1)];
    let help = "Connections that moved from one worker to another.";
    out.by(Counter, "minicorn_connections_passed_total", help, "direction", passes);
    let backlogs = snapshot.listeners.iter().filter_map(|(address, backlog)| Some((address, (*backlog)?)));
    out.by(Gauge, "minicorn_listener_backlog", "Connections that wait to be accepted.", "listener", backlogs);
    let help = "Complete requests that wait for the application, or are in it.";
    out.single(Gauge, "minicorn_requests_in_flight", help, own.queued + own.in_application);
    let busy = own.in_application;
    let threads = [("busy", busy), ("idle", snapshot.threads().saturating_sub(busy))];
    out.by(Gauge, "minicorn_application_threads", "Threads that call the application.", "state", threads);
}

fn supervision(out: &mut Families, tally: &Tally) {
    out.single(Counter, "minicorn_workers_spawned_total", "Workers forked.", tally.spawned);
    let help = "Workers and templates that could not be forked.";
    out.single(Counter, "minicorn_worker_spawn_failures_total", help, tally.spawns_failed);
    let ends =
        [("clean", tally.ended), ("crashed", tally.crashed), ("killed", tally.killed), ("given_up", tally.given_up)];
    out.by(Counter, "minicorn_worker_exits_total", "Workers that have ended.", "how", ends);
    let reasons =
        [("max_requests", tally.worn_by_requests), ("lifetime", tally.worn_by_age), ("rss", tally.worn_by_memory)];
    out.by(Counter, "minicorn_worker_recycles_total", "Workers replaced while they served.", "reason", reasons);
    let results = [("ok", tally.reloaded), ("failed", tally.reloads_failed)];
    out.by(Counter, "minicorn_reloads_total", "Reloads that are over.", "result", results);
    let help = "Workers given up for a request that took longer than --timeout.";
    out.single(Counter, "minicorn_workers_condemned_total", help, tally.condemned);
    let help = "Workers given up for not responding.";
    out.single(Counter, "minicorn_workers_unresponsive_total", help, tally.unresponsive);
    let help = "Workers that were not ready within --boot-timeout.";
    out.single(Counter, "minicorn_worker_boot_timeouts_total", help, tally.boots_late);
}

fn each_worker(out: &mut Families, snapshot: &Snapshot<'_>) {
    let mut family = |kind, name, help, value: &dyn Fn(&Worker) -> Option<f64>| {
        out.begin(kind, name, help);
        for worker in &snapshot.workers {
            let (number, slot) = (worker.child.number.to_string(), worker.child.slot.to_string());
            if let Some(value) = value(worker) {
                out.sample(name, &[("worker", &number), ("slot", &slot)], value);
            }
        }
    };
    family(Gauge, "minicorn_worker_resident_memory_bytes", "Memory in RAM.", &|worker| {
        worker.rss_bytes.map(|bytes| bytes as f64)
    });
    family(Gauge, "minicorn_worker_age_seconds", "Since the fork.", &|worker| Some(worker.age.as_secs_f64()));
    let help = "Requests answered since the fork.";
    family(Counter, "minicorn_worker_requests_total", help, &|worker| Some(worker.requests as f64));
    family(
        Gauge,
        "minicorn_worker_connections",
        "Open connections.",
        &|worker| Some(worker.connections.total() as f64),
    );
    let help = "Age of the oldest request in the application; 0 if none takes long.";
    family(Gauge, "minicorn_worker_current_request_seconds", help, &|worker| {
        Some(worker.current.as_ref().map_or(0.0, |request| request.age.as_secs_f64()))
    });
}
