//! `--request-id-header`: a request has one name, in the application, the response and the logs.

use std::collections::HashSet;

use serde_json::Value;

use crate::harness::{Framing, Response, Server, serve, wait_for, wait_until};

const ON: [&str; 4] =
    ["--request-id-header", "X-Request-ID", "--access-logformat", "%(I)s %({x-request-id}o)s %(s)s %(q)s"];

/// One GET with this name for it, if there is one.
fn ask(server: &Server, target: &str, name: Option<&str>) -> Response {
    let header = name.map(|name| format!("x-request-id: {name}\r\n")).unwrap_or_default();
    server.ask(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{header}\r\n"))
}

fn name_of(response: &Response) -> String {
    response.value("X-Request-ID").expect("the response has a name").to_owned()
}

fn is_made_by_us(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[test]
fn a_sound_name_is_kept_everywhere() {
    let server = serve("named", &ON);
    for name in ["0123-abc", "a", &"x".repeat(128), "Root=1-2;Self=3"] {
        let response = ask(&server, "/", Some(name));
        assert_eq!(response.text(), format!("HTTP_X_REQUEST_ID={name}\nminicorn.request_id={name}\n"));
        assert_eq!(name_of(&response), name);
        server.access_log().wait_for(&format!("{name} {name} 200 \n"));
    }
}

#[test]
fn a_request_without_a_sound_name_gets_a_new_one() {
    let server = serve("named", &ON);
    let too_long = "x".repeat(129);
    let mut names = HashSet::new();
    for name in [
        None,
        Some(""),
        Some("a b"),
        Some("a,b"),
        Some("\"a\""),
        Some("a\\"),
        Some("é"),
        Some("a\tb"),
        Some(&*too_long),
    ] {
        let response = ask(&server, "/", name);
        let made = name_of(&response);
        assert!(is_made_by_us(&made), "{name:?} became {made}");
        assert_eq!(response.text(), format!("HTTP_X_REQUEST_ID={made}\nminicorn.request_id={made}\n"));
        server.access_log().wait_for(&format!("{made} {made} 200"));
        assert!(names.insert(made));
    }
}

#[test]
fn of_two_names_the_first_counts_for_everybody() {
    let server = serve("named", &ON);
    let response = server.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: one\r\nX-Request-Id: two\r\n\r\n");
    assert_eq!(
        (name_of(&response).as_str(), response.text()),
        ("one", "HTTP_X_REQUEST_ID=one\nminicorn.request_id=one\n")
    );
}

#[test]
fn the_applications_own_header_stays_alone() {
    let server = serve("named", &ON);
    let response = ask(&server, "/?own", Some("of-the-client"));
    assert_eq!(name_of(&response), "of-the-application");
    server.access_log().wait_for("of-the-client of-the-application 200 own");
}

/// Chunked, HTTP/1.0, HEAD, and the server's own 500.
#[test]
fn every_kind_of_response_has_it() {
    let server = serve("named", &ON);
    let mut client = server.connect();
    let head = client.ask("HEAD / HTTP/1.1\r\nHost: a\r\nX-Request-ID: head\r\n\r\n");
    assert_eq!((name_of(&head).as_str(), head.framing), ("head", Framing::NoBody));
    let old = client.ask("GET / HTTP/1.0\r\nX-Request-ID: old\r\n\r\n");
    assert_eq!(name_of(&old), "old");
    let failed = ask(&server, "/?raise", Some("failed"));
    assert_eq!((name_of(&failed).as_str(), failed.status), ("failed", 500));
    let lazy = serve("reply", &ON);
    let chunked = ask(&lazy, "/?lazy=1&item=a&item=b", Some("chunked"));
    assert_eq!((name_of(&chunked).as_str(), chunked.framing), ("chunked", Framing::Chunked(vec![1, 1])));
    // A name does not stay for the next response on the same connection.
    let mut client = lazy.connect();
    let names: HashSet<_> = (0..10).map(|_| name_of(&client.get("/?item=a"))).collect();
    assert_eq!(names.len(), 10);
}

/// Lines about a request say which one.
#[test]
fn the_error_log_has_it() {
    let server = serve("named", &[&ON[..], &["--slow-request-log", "40"]].concat());
    ask(&server, "/?errors", Some("id-1"));
    server.log().wait_for("request_id=id-1 written by the application");
    ask(&server, "/?raise", Some("id-2"));
    server.log().wait_for("GET /?raise request_id=id-2: the application raised");
    ask(&server, "/?sleep", Some("id-3"));
    server.log().wait_for(" request_id=id-3\n");
    let text = server.log().text();
    let slow = text.lines().find(|line| line.contains("id-3")).expect("it was found above");
    assert!(
        slow.contains("[WARNING] worker=1 pid=") && slow.contains("slow request: GET /?sleep status=200 "),
        "{slow}"
    );
    server.connect().send("GET /?short HTTP/1.1\r\nHost: a\r\nX-Request-ID: id-4\r\n\r\n").receive_cut();
    server.log().wait_for("GET /?short request_id=id-4: the application yielded");
}

#[test]
fn a_call_that_takes_too_long_has_it() {
    let server = serve("stuck", &[&ON[..], &["--timeout", "0.3"]].concat());
    let response = ask(&server, "/sleep", Some("stuck-id"));
    assert_eq!((response.status, name_of(&response).as_str()), (504, "stuck-id"));
    server.log().wait_for("GET /sleep request_id=stuck-id: no response from the application");
    server.access_log().wait_for("stuck-id - 504");
}

/// Workers that are forked from one image do not count from the same number.
#[test]
fn workers_of_a_template_do_not_repeat_each_others_names() {
    let options =
        ["--preload", "--workers", "4", "--request-id-header", "X-Request-ID", "--access-logformat", "%(p)s %(I)s"];
    let server = serve("named", &options);
    wait_for("the workers", || Some(server.workers()).filter(|workers| workers.len() == 5));
    let mut asked = 0;
    let lines = || -> Vec<(String, String)> {
        let text = server.access_log().text();
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(pid, name)| (pid.to_owned(), name.to_owned()))
            .collect()
    };
    wait_until("three workers to have answered", || {
        (0..8).for_each(|_| _ = server.get("/"));
        asked += 8;
        lines().iter().map(|(pid, _)| pid).collect::<HashSet<_>>().len() >= 3
    });
    wait_until("all lines", || lines().len() == asked);
    let names: HashSet<String> = lines().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names.len(), asked);
    assert!(names.iter().all(|name| is_made_by_us(name)));
}

#[test]
fn json_has_it_and_the_trace() {
    let server = serve("named", &["--request-id-header", "X-Request-ID", "--access-logformat", "json"]);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    for (traceparent, expected) in [
        (format!("00-{trace}-b7ad6b7169203331-01"), Value::from(trace)),
        (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), Value::Null),
        ("\"forged\"".to_owned(), Value::Null),
    ] {
        server.ask(format!(
            "GET /t HTTP/1.1\r\nHost: h\r\nX-Request-ID: {expected}\r\ntraceparent: {traceparent}\r\n\r\n"
        ));
        let lines = || server.access_log().text();
        wait_until("the line", || lines().lines().count() > 0 && lines().ends_with('\n'));
        let line: Value = wait_for("a line of this trace", || {
            let text = lines();
            text.lines()
                .last()
                .and_then(|line| serde_json::from_str::<Value>(line).ok())
                .filter(|line| line["trace_id"] == expected)
        });
        assert!(line["queue_ms"].is_f64() && line["host"] == "h" && line["worker"] == 1, "{line}");
        assert!(line["request_id"].is_string());
    }
}

/// Without the option nothing is different.
#[test]
fn off_by_default() {
    let server = serve("named", &["--access-logformat", "%(I)s"]);
    let response = ask(&server, "/", Some("of-the-client"));
    assert_eq!(response.value("X-Request-ID"), None);
    assert_eq!(response.text(), "HTTP_X_REQUEST_ID=of-the-client\nminicorn.request_id=None\n");
    assert_eq!(server.stop().stdout, "-\n");
}
