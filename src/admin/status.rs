//! `/status.json`: the figures for programs that are not Prometheus, and for the page. The names are stable: what is here
//! stays, what comes is added.

use serde_json::{Value, json};

use super::response::Response;
use super::snapshot::{Connections, Snapshot, Worker};

pub(super) fn response(snapshot: &Snapshot<'_>) -> Response {
    Response::new(200, "application/json", format!("{}\n", value(snapshot)))
}

fn value(snapshot: &Snapshot<'_>) -> Value {
    let view = snapshot.view;
    let listeners = snapshot.listeners.iter().map(|(address, backlog)| json!({"address": address, "backlog": backlog}));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "python": snapshot.about.python,
        "app": snapshot.about.app,
        "pid": snapshot.pid,
        "state": snapshot.state(),
        "ready": snapshot.unready.is_none(),
        "reason": snapshot.unready,
        "generation": view.generation,
        "reloading": view.is_reloading,
        "started_at": snapshot.about.started_at(),
        "uptime_seconds": snapshot.uptime.as_secs_f64(),
        "rss_bytes": snapshot.master_rss_bytes,
        "workers_wanted": view.wanted,
        "workers_ready": view.ready,
        "listeners": listeners.collect::<Vec<_>>(),
        "totals": totals(snapshot),
        "workers": snapshot.workers.iter().map(worker).collect::<Vec<_>>(),
        "templates": snapshot.templates.iter().map(template).collect::<Vec<_>>(),
    })
}

fn totals(snapshot: &Snapshot<'_>) -> Value {
    let (totals, tally) = (&snapshot.totals, snapshot.view.tally);
    json!({
        "requests": totals.requests(),
        "responses_5xx": totals.statuses().filter(|(status, _)| *status >= 500).map(|(_, count)| count).sum::<u64>(),
        "refused": totals.refusals().map(|(_, count)| count).sum::<u64>(),
        "timeouts": totals.timeouts,
        "response_body_bytes": totals.body_bytes,
        "request_seconds": totals.durations.sum.as_secs_f64(),
        "queue_seconds": totals.queue_times.sum.as_secs_f64(),
        "client_disconnects": totals.disconnects,
        "connections": connections(&snapshot.connections()),
        "connections_accepted": totals.accepted,
        "connections_passed": snapshot.passes.0,
        "threads": snapshot.threads(),
        "workers_spawned": tally.spawned,
        "workers_crashed": tally.crashed + tally.killed + tally.given_up,
        "reloads": tally.reloaded,
        "reloads_failed": tally.reloads_failed,
    })
}

fn worker(worker: &Worker) -> Value {
    let current = worker.current.as_ref().map(|request| {
        json!({
            "method": text(&request.method),
            "path": text(&request.path),
            "age_seconds": request.age.as_secs_f64(),
        })
    });
    json!({
        "number": worker.child.number,
        "slot": worker.child.slot,
        "pid": worker.child.pid.as_raw(),
        "generation": worker.child.generation,
        "state": worker.child.phase,
        "age_seconds": worker.age.as_secs_f64(),
        "requests": worker.requests,
        "rss_bytes": worker.rss_bytes,
        "threads": worker.threads,
        "threads_busy": worker.connections.in_application,
        "connections": connections(&worker.connections),
        "current_request": current,
    })
}

fn template(template: &Worker) -> Value {
    json!({
        "pid": template.child.pid.as_raw(),
        "generation": template.child.generation,
        "state": template.child.phase,
        "age_seconds": template.age.as_secs_f64(),
        "rss_bytes": template.rss_bytes,
    })
}

fn connections(connections: &Connections) -> Value {
    let mut value = json!({"total": connections.total()});
    for (state, count) in connections.by_state() {
        value[state] = count.into();
    }
    value
}

/// What a client wrote may be any bytes; the page shows the same.
pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
