//! The page for people: the figures as they are when it is asked for, which a little script then keeps up to date.
//!
//! It shows what clients wrote. So everything is escaped here, the script makes text and never HTML, and the browser runs
//! nothing but this one script, which it knows by its hash (Content-Security-Policy).

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use super::response::Response;
use super::snapshot::{Snapshot, Worker};
use super::status::text;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// SHA-256 of the two files above, as `openssl dgst -sha256 -binary | base64` prints it; a test holds them together.
const STYLE_HASH: &str = "/NEVt5c88lEIRjrKcR3PoHLAkyi0oLyyktV6h7ABMtc=";
const SCRIPT_HASH: &str = "Mdn4UhLV1i5OCAhH+5wAfQX12pdEetL5GqASZfP0eTM=";

pub(super) fn response(snapshot: &Snapshot<'_>) -> Response {
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{STYLE_HASH}'; script-src 'sha256-{SCRIPT_HASH}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    Response::new(200, "text/html; charset=utf-8", render(snapshot))
        .with("Content-Security-Policy", policy)
        .with("Referrer-Policy", "no-referrer")
}

fn render(snapshot: &Snapshot<'_>) -> String {
    let state = match snapshot.unready {
        None => snapshot.state().to_owned(),
        Some(reason) => format!("{}, not ready: {reason}", snapshot.state()),
    };
    let parts = [
        ("app", escaped(&snapshot.about.app).into_owned()),
        ("style", STYLE.to_owned()),
        ("server", escaped(&server_line(snapshot)).into_owned()),
        ("class", if snapshot.unready.is_none() { "good" } else { "bad" }.to_owned()),
        ("state", escaped(&state).into_owned()),
        ("totals", totals(snapshot)),
        ("workers", snapshot.workers.iter().map(row).collect()),
        ("script", SCRIPT.to_owned()),
    ];
    fill(PAGE, &parts)
}

/// Puts each part where its name is, once: what looks like a name inside of a part is text.
fn fill(page: &str, parts: &[(&str, String)]) -> String {
    let mut out = String::new();
    for piece in page.split("{{") {
        match piece.split_once("}}") {
            Some((name, rest)) => {
                let part = parts.iter().find(|(own, _)| *own == name);
                out.push_str(part.map_or("", |(_, text)| text));
                out.push_str(rest);
            }
            None => out.push_str(piece),
        }
    }
    out
}

fn server_line(snapshot: &Snapshot<'_>) -> String {
    let addresses: Vec<_> = snapshot.listeners.iter().map(|(address, _)| address.as_str()).collect();
    format!(
        "minicorn {}, CPython {}, process {}, listening on {}",
        env!("CARGO_PKG_VERSION"),
        snapshot.about.python,
        snapshot.pid,
        addresses.join(", ")
    )
}

/// The names of the places are the script's, too.
fn totals(snapshot: &Snapshot<'_>) -> String {
    let (totals, view, connections) = (&snapshot.totals, snapshot.view, snapshot.connections());
    let errors: u64 = totals.statuses().filter(|(status, _)| *status >= 500).map(|(_, count)| count).sum();
    let refused: u64 = totals.refusals().map(|(_, count)| count).sum();
    let figures = [
        ("uptime", "Up for", age(snapshot.uptime)),
        ("workers", "Workers ready", format!("{}/{}", view.ready, view.wanted)),
        ("generation", "Generation", view.generation.to_string()),
        ("requests", "Requests", count(totals.requests())),
        ("rate", "Requests/s", NONE.to_owned()),
        ("errors", "Answered 5xx", count(errors)),
        ("refused", "Refused", count(refused)),
        ("timeouts", "Timeouts", count(totals.timeouts)),
        ("connections", "Connections", count(connections.total())),
        ("queued", "Queued", count(connections.queued)),
        ("threads", "Threads busy", format!("{}/{}", connections.in_application, snapshot.threads())),
    ];
    let mut out = String::new();
    for (id, name, figure) in figures {
        _ = writeln!(out, "<div><dt>{name}</dt><dd id=\"total-{id}\">{figure}</dd></div>");
    }
    out
}

fn row(worker: &Worker) -> String {
    let child = &worker.child;
    let (request, request_age) = worker.current.as_ref().map_or_else(Default::default, |request| {
        (format!("{} {}", text(&request.method), text(&request.path)), age(request.age))
    });
    let cells = [
        child.pid.to_string(),
        child.phase.to_owned(),
        age(worker.age),
        count(worker.requests),
        NONE.to_owned(),
        worker.rss_bytes.map_or(NONE.to_owned(), |bytes| format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0))),
        count(worker.connections.total()),
        format!("{}/{}", worker.connections.in_application, worker.threads),
        request,
        request_age,
    ];
    let mut out = format!("<tr><th scope=\"row\">{}</th>", child.number);
    for cell in cells {
        _ = write!(out, "<td>{}</td>", escaped(&cell));
    }
    out.push_str("</tr>\n");
    out
}

/// What is not known.
const NONE: &str = "–";

fn age(age: Duration) -> String {
    match age.as_secs() {
        0..60 => format!("{:.1} s", age.as_secs_f64()),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds @ 3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        seconds => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// With a comma between thousands.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// As text between tags, or as the value of an attribute in double quotes.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return text.into();
    }
    let mut out = String::new();
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char => out.push(char),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        let counts = [0, 999, 1000, 1_234_567].map(count);
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
        let ages = [0.04, 59.0, 61.0, 3_660.0, 90_000.0].map(|seconds| age(Duration::from_secs_f64(seconds)));
        assert_eq!(ages, ["0.0 s", "59.0 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn what_is_put_in_is_text() {
        assert_eq!(escaped("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
        let parts = [("a", "{{b}}".to_owned()), ("b", "2".to_owned())];
        assert_eq!(fill("x{{a}}y{{b}}z", &parts), "x{{b}}y2z");
    }
}
