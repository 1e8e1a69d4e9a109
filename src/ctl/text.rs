//! The status as people read it.

use serde_json::Value;
use std::fmt::Write;

/// Some lines about the server, and one for each worker.
pub(super) fn status(status: &Value) -> String {
    let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
    let number = |name: &str| status[name].as_u64().unwrap_or(0);
    let mut out = String::new();
    let (pid, uptime) = (number("pid"), time(status["uptime"].as_f64()));
    _ = writeln!(out, "minicorn {} (pid {pid}), {} for {uptime}", text("version"), text("stage"));
    let listeners = status["listeners"].as_array().map(Vec::as_slice).unwrap_or_default();
    let listeners: Vec<&str> = listeners.iter().filter_map(Value::as_str).collect();
    _ = writeln!(out, "listening on {}", listeners.join(", "));
    let (ready, wanted) = (number("workers_ready"), number("workers_wanted"));
    let reload = reload(status);
    _ = writeln!(out, "{ready} of {} ready, generation {}{reload}", count(wanted, "worker"), number("generation"));
    out.push('\n');
    out.push_str(&workers(status));
    out
}

/// How the last reload stands, if there is something to say.
fn reload(status: &Value) -> String {
    let reload = &status["reload"];
    let reason = reload["reason"].as_str().unwrap_or_default();
    match reload["outcome"].as_str() {
        Some("under way") => ", reloading".to_owned(),
        Some("refused") => format!("; the last reload was refused: {reason}"),
        Some("given up") => "; the last reload was given up, see the error log".to_owned(),
        _ => String::new(),
    }
}

const HEADER: [&str; 9] = ["WORKER", "PID", "GEN", "STATE", "AGE", "REQUESTS", "CONNECTIONS", "QUEUED", "MEMORY"];

fn workers(status: &Value) -> String {
    let workers = status["workers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(workers.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADER.len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (index, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            // Words to the left, numbers to the right.
            match index {
                0 | 3 => _ = write!(line, "{cell:<width$}  "),
                _ => _ = write!(line, "{cell:>width$}  "),
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn row(worker: &Value) -> [String; 9] {
    let number = |name: &str| worker[name].as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string());
    let state = match (worker["state"].as_str().unwrap_or("-"), worker["busy"].as_bool()) {
        ("ready", Some(true)) => "busy",
        ("ready", _) if worker["number"] != 0 => "idle",
        (state, _) => state,
    };
    let name = if worker["number"] == 0 { "template".to_owned() } else { number("number") };
    let (age, memory) = (time(worker["age"].as_f64()), memory(worker["rss"].as_u64()));
    [
        name,
        number("pid"),
        number("generation"),
        state.to_owned(),
        age,
        number("requests"),
        number("connections"),
        number("queued"),
        memory,
    ]
}

/// "1 worker", "2 workers".
pub(super) fn count(number: u64, name: &str) -> String {
    format!("{number} {name}{}", if number == 1 { "" } else { "s" })
}

/// The two largest units: "4 s", "3 min 10 s", "2 d 5 h".
fn time(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return "-".to_owned() };
    let seconds = seconds as u64;
    let parts = [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let first = parts.iter().position(|(number, _)| *number > 0).unwrap_or(3);
    let shown = parts[first..].iter().take(2).filter(|(number, _)| *number > 0 || first == 3);
    shown.map(|(number, unit)| format!("{number} {unit}")).collect::<Vec<_>>().join(" ")
}

fn memory(bytes: Option<u64>) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1} MiB", bytes as f64 / MIB))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_have_two_units() {
        for (seconds, text) in [
            (0.2, "0 s"),
            (59.9, "59 s"),
            (60.0, "1 min"),
            (190.0, "3 min 10 s"),
            (3600.0, "1 h"),
            (190_800.0, "2 d 5 h"),
        ] {
            assert_eq!(time(Some(seconds)), text);
        }
    }

    #[test]
    fn a_status_has_a_line_for_each_worker() {
        let worker = |number: u32, state: &str, busy: bool| {
            json!({ "number": number, "pid": 70 + number, "generation": 2, "state": state, "busy": busy, "age": 61.0,
                    "requests": 1000, "connections": 3, "queued": 0, "rss": 3 << 19 })
        };
        let given = json!({
            "version": "1.2", "pid": 70, "uptime": 5.0, "stage": "serving", "generation": 2,
            "listeners": ["http://127.0.0.1:8000", "unix:/s"], "workers_ready": 2, "workers_wanted": 3,
            "reload": { "outcome": "under way" },
            "workers": [worker(1, "ready", true), worker(2, "ready", false), worker(0, "ready", false)],
        });
        let expected = "\
minicorn 1.2 (pid 70), serving for 5 s
listening on http://127.0.0.1:8000, unix:/s
2 of 3 workers ready, generation 2, reloading

WORKER    PID  GEN  STATE      AGE  REQUESTS  CONNECTIONS  QUEUED   MEMORY
1          71    2  busy   1 min 1 s      1000            3       0  1.5 MiB
2          72    2  idle   1 min 1 s      1000            3       0  1.5 MiB
template   70    2  ready  1 min 1 s      1000            3       0  1.5 MiB
";
        let squeezed = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(squeezed(&status(&given)), squeezed(expected));
        let lengths: Vec<usize> = workers(&given).lines().map(str::len).collect();
        assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
    }
}
