//! The answer to `status`.
//!
//! ```text
//! version, pid, uptime (s), stage, listeners, generation, reloading, workers_wanted, workers_ready, workers_max,
//! reload: null, or {attempt, outcome, generation | reason}; outcome: refused, under way, serves, given up
//! workers: [{number, pid, generation, state, busy, age (s), requests, connections, queued, rss (bytes)}]
//! ```
//!
//! The number 0 is a template's.

use super::Server;
use crate::master::{ChildView, LastReload, ServerStage};
use crate::sys::process;
use serde_json::{Value, json};
use std::time::Instant;

pub(super) fn status(server: &Server<'_>) -> Value {
    let view = server.view;
    let stage = match view.stage {
        ServerStage::Starting => "starting",
        ServerStage::Serving => "serving",
        ServerStage::Stopping => "stopping",
    };
    let now = Instant::now();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": process::own_pid().as_raw(),
        "uptime": now.duration_since(server.started_at).as_secs_f64(),
        "stage": stage,
        "listeners": server.listeners,
        "generation": view.generation,
        "reloading": view.is_reloading,
        "reload": reload(server),
        "workers_wanted": view.wanted,
        "workers_ready": view.ready,
        "workers_max": view.workers_max,
        "workers": view.children.iter().map(|child| worker(server, child, now)).collect::<Vec<_>>(),
    })
}

fn reload(server: &Server<'_>) -> Value {
    let attempt = server.view.reloads;
    match &server.view.last_reload {
        None => Value::Null,
        Some(LastReload::Refused(reason)) => json!({ "attempt": attempt, "outcome": "refused", "reason": reason }),
        Some(LastReload::UnderWay { generation }) => {
            json!({ "attempt": attempt, "outcome": "under way", "generation": generation })
        }
        Some(LastReload::Serves { generation }) => {
            json!({ "attempt": attempt, "outcome": "serves", "generation": generation })
        }
        Some(LastReload::GivenUp { generation }) => {
            json!({ "attempt": attempt, "outcome": "given up", "generation": generation })
        }
    }
}

fn worker(server: &Server<'_>, child: &ChildView, now: Instant) -> Value {
    let slot = server.scoreboard.slot(child.slot);
    json!({
        "number": child.number,
        "pid": child.pid.as_raw(),
        "generation": child.generation,
        "state": child.phase,
        // An odd number of heartbeats: a call of the application is under way.
        "busy": slot.sequence() % 2 == 1,
        "age": now.duration_since(child.forked_at).as_secs_f64(),
        "requests": slot.requests(),
        "connections": slot.connections(),
        "queued": slot.queued(),
        "rss": process::resident_bytes(child.pid.as_raw().unsigned_abs()),
    })
}
