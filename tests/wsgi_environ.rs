//! The environ (PEP 3333, environ Variables; RFC 3875 for what CGI says of them).

use std::collections::HashMap;

use crate::harness::{Response, Scratch, Server, each, portable, serve};

/// The answer of tests/apps/environ.py: each key with the repr of its value.
struct Environ(HashMap<String, String>);

impl Environ {
    fn of(response: Response) -> Environ {
        assert_eq!(response.status, 200, "{}", response.text());
        let pairs = response.text().lines().filter_map(|line| line.split_once('='));
        Environ(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// Checks a key; an empty repr means that it must be absent.
    #[track_caller]
    fn expect(&self, key: &str, repr: &str) {
        assert_eq!(self.0.get(key).map_or("", String::as_str), repr, "{key}");
    }
}

fn environ_of(server: &Server, request: impl AsRef<[u8]>) -> Environ {
    Environ::of(server.ask(request))
}

/// Checks one key for each request line.
fn check_lines(key: &str, cases: &[(&str, &str)]) {
    let server = portable("environ");
    each(
        cases,
        |(line, _)| (*line).to_owned(),
        |(line, repr)| environ_of(&server, format!("{line}\r\nHost: a\r\n\r\n")).expect(key, repr),
    );
}

/// Checks a key for each set of fields.
fn check_fields(cases: &[(&str, &str, &str)]) {
    let server = portable("environ");
    each(
        cases,
        |(fields, key, _)| format!("{key} of {fields:?}"),
        |(fields, key, repr)| {
            environ_of(&server, format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")).expect(key, repr);
        },
    );
}

#[test]
fn it_is_a_plain_dict_with_all_that_must_be_there() {
    let environ = environ_of(&portable("environ"), "GET /path?query HTTP/1.1\r\nHost: a\r\n\r\n");
    environ.expect("type", "dict");
    environ.expect("REQUEST_METHOD", "'GET'");
    environ.expect("SCRIPT_NAME", "''");
    environ.expect("PATH_INFO", "'/path'");
    environ.expect("QUERY_STRING", "'query'");
    environ.expect("CONTENT_TYPE", "");
    environ.expect("CONTENT_LENGTH", "");
    environ.expect("SERVER_PROTOCOL", "'HTTP/1.1'");
    environ.expect("HTTP_HOST", "'a'");
    environ.expect("wsgi.version", "(1, 0)");
    environ.expect("wsgi.url_scheme", "'http'");
    environ.expect("wsgi.multithread", "False");
    environ.expect("wsgi.multiprocess", "False");
    environ.expect("wsgi.run_once", "False");
    environ.expect("wsgi.input_terminated", "True");
    for object in ["wsgi.input", "wsgi.errors", "wsgi.file_wrapper"] {
        assert!(environ.0.contains_key(object), "{object} is missing");
    }
}

#[test]
fn names_of_the_server() {
    let server = serve("environ", &["--workers", "2"]);
    let environ = environ_of(&server, "GET / HTTP/1.1\r\nHost: elsewhere:1\r\n\r\n");
    environ.expect("SERVER_SOFTWARE", &format!("'minicorn/{}'", env!("CARGO_PKG_VERSION")));
    environ.expect("SERVER_NAME", "'127.0.0.1'");
    environ
        .expect("SERVER_PORT", &format!("'{}'", server.addresses[0].to_string().rsplit(':').next().expect("a port")));
    environ.expect("wsgi.multiprocess", "True");
}

#[test]
fn address_of_the_client() {
    let server = portable("environ");
    let mut client = server.connect();
    let port = client.local_port();
    let environ = Environ::of(client.get("/"));
    environ.expect("REMOTE_ADDR", "'127.0.0.1'");
    environ.expect("REMOTE_PORT", &format!("'{port}'"));
}

/// PEP 3333: SERVER_NAME and SERVER_PORT are never empty. Names as gunicorn takes them from Host.
#[test]
fn unix_socket() {
    let scratch = Scratch::new();
    let server = serve("environ", &["--bind", &format!("unix:{}", scratch.text("app.sock"))]);
    let environ = environ_of(&server, "GET / HTTP/1.1\r\nHost: example.org:8080\r\n\r\n");
    environ.expect("REMOTE_ADDR", "''");
    environ.expect("REMOTE_PORT", "");
    environ.expect("SERVER_NAME", "'example.org'");
    environ.expect("SERVER_PORT", "'8080'");
    for request in
        ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n"]
    {
        let environ = environ_of(&server, request);
        assert!(environ.0["SERVER_NAME"].len() > 2, "{request:?}: SERVER_NAME is {}", environ.0["SERVER_NAME"]);
        environ.expect("SERVER_PORT", "'80'");
    }
}

#[test]
fn ipv6() {
    let server = serve("environ", &["--bind", "[::1]:0"]);
    let environ = environ_of(&server, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    environ.expect("SERVER_NAME", "'::1'");
    environ.expect("REMOTE_ADDR", "'::1'");
}

#[test]
fn method_and_protocol() {
    check_lines("REQUEST_METHOD", &[("DELETE / HTTP/1.1", "'DELETE'"), ("M-SEARCH / HTTP/1.1", "'M-SEARCH'")]);
    check_lines("SERVER_PROTOCOL", &[("GET / HTTP/1.0", "'HTTP/1.0'"), ("GET / HTTP/1.1", "'HTTP/1.1'")]);
}

/// Percent-decoded to bytes, and the bytes shown as latin-1 (PEP 3333, Unicode Issues).
#[test]
fn path_info() {
    let cases = [
        ("GET / HTTP/1.1", "'/'"),
        ("GET /a%20b+c HTTP/1.1", "'/a b+c'"),
        ("GET /%c3%A9 HTTP/1.1", "'/\u{c3}\u{a9}'"),
        ("GET /%FF HTTP/1.1", "'/\u{ff}'"),
        ("GET /%2f%2F HTTP/1.1", "'///'"),
        ("GET /%25%32%35 HTTP/1.1", "'/%25'"),
        ("GET /%zz%4 HTTP/1.1", "'/%zz%4'"),
        ("GET /% HTTP/1.1", "'/%'"),
        ("GET /%0d%0A HTTP/1.1", "'/\\r\\n'"),
        ("GET /a/../b//c/. HTTP/1.1", "'/a/../b//c/.'"),
        ("GET //a HTTP/1.1", "'//a'"),
        ("GET /;a=b?c HTTP/1.1", "'/;a=b'"),
        ("GET http://a/path?query HTTP/1.1", "'/path'"),
        ("GET http://a HTTP/1.1", "'/'"),
        ("GET http://a?query HTTP/1.1", "'/'"),
    ];
    check_lines("PATH_INFO", &cases);
}

#[test]
fn query_string() {
    let cases = [
        ("GET /? HTTP/1.1", "''"),
        ("GET /?a=%20+b&c HTTP/1.1", "'a=%20+b&c'"),
        ("GET /?a?b/c HTTP/1.1", "'a?b/c'"),
        ("GET /%3Fa HTTP/1.1", "''"),
        ("GET http://a?query HTTP/1.1", "'query'"),
    ];
    check_lines("QUERY_STRING", &cases);
}

#[test]
fn raw_uri() {
    let cases = [("GET /%2f?a=%20 HTTP/1.1", "'/%2f?a=%20'"), ("GET http://a/b HTTP/1.1", "'http://a/b'")];
    check_lines("RAW_URI", &cases);
}

/// RFC 9112 §3.2.4, shown as gunicorn does: wsgiref.validate wants a path there, and a `*` is none.
#[test]
fn options_for_the_whole_server() {
    let environ = environ_of(&portable("environ:bare"), "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    environ.expect("PATH_INFO", "'*'");
    environ.expect("RAW_URI", "'*'");
}

/// RFC 9112 §3.2.2: the authority of an absolute-form target replaces Host.
#[test]
fn host() {
    let cases = [
        ("GET / HTTP/1.1", "'a'"),
        ("GET http://b/ HTTP/1.1", "'b'"),
        ("GET http://b:81/ HTTP/1.1", "'b:81'"),
        ("GET HTTP://[::1]:81?q HTTP/1.1", "'[::1]:81'"),
    ];
    check_lines("HTTP_HOST", &cases);
}

#[test]
fn fields() {
    check_fields(&[
        ("X-Some-Name: value", "HTTP_X_SOME_NAME", "'value'"),
        ("x-lower: \t padded \t ", "HTTP_X_LOWER", "'padded'"),
        ("X-Empty:", "HTTP_X_EMPTY", "''"),
        ("X-Eight: \u{e9}", "HTTP_X_EIGHT", "'\u{c3}\u{a9}'"),
        ("X-Colon: a:b", "HTTP_X_COLON", "'a:b'"),
        ("A: 1\r\nB: 2\r\na: 3", "HTTP_A", "'1,3'"),
        ("Accept: a\r\nAccept:\r\nAccept: b, c", "HTTP_ACCEPT", "'a,,b, c'"),
        ("Cookie: a=1\r\nCookie: b=2; c=3", "HTTP_COOKIE", "'a=1; b=2; c=3'"),
        // In whatever spelling: of a field that a proxy has checked, a second one must not win.
        ("X-Case: a\r\nx-case: b\r\nX-CASE: c", "HTTP_X_CASE", "'a,b,c'"),
        ("Content-Type: text/x", "CONTENT_TYPE", "'text/x'"),
        ("Content-Type: text/x", "HTTP_CONTENT_TYPE", ""),
        ("Content-Length: 0", "CONTENT_LENGTH", "'0'"),
        ("Content-Length: 0", "HTTP_CONTENT_LENGTH", ""),
        ("Remote-User: me", "REMOTE_USER", ""),
        ("Remote-User: me", "HTTP_REMOTE_USER", "'me'"),
        ("Path-Info: /other", "PATH_INFO", "'/'"),
    ]);
}

/// `X_Real` and `X-Real` would share one key; a proxy that filters the one lets the other pass.
#[test]
fn underscored_names_are_dropped() {
    check_fields(&[
        ("X_Real: spoofed", "HTTP_X_REAL", ""),
        ("X-Real: true\r\nX_Real: spoofed", "HTTP_X_REAL", "'true'"),
        ("Remote_User: spoofed", "HTTP_REMOTE_USER", ""),
        ("Content_Type: spoofed", "CONTENT_TYPE", ""),
        ("_: spoofed", "HTTP__", ""),
    ]);
}

#[test]
fn chunked_body_has_a_length() {
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n";
    let environ = environ_of(&portable("environ"), request);
    environ.expect("CONTENT_LENGTH", "'11'");
    environ.expect("HTTP_TRANSFER_ENCODING", "");
    environ.expect("HTTP_X", "");
}

/// One request must not see what another one left, although they may share a template.
#[test]
fn nothing_is_left_from_the_request_before() {
    let server = portable("environ");
    let mut client = server.connect();
    let first = "POST /first?query HTTP/1.1\r\nHost: a\r\nX-First: 1\r\nContent-Type: t\r\nContent-Length: 1\r\n\r\nx";
    Environ::of(client.ask(first)).expect("HTTP_X_FIRST", "'1'");
    let second = Environ::of(client.ask("GET /second HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    for key in ["HTTP_X_FIRST", "HTTP_HOST", "CONTENT_TYPE", "CONTENT_LENGTH"] {
        second.expect(key, "");
    }
    second.expect("QUERY_STRING", "''");
}

#[test]
fn objects_kept_by_the_app_stay_as_they_were() {
    let server = portable("keeps_environ");
    let mut client = server.connect();
    client.ask("POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").expect(200, "kept");
    client.ask("POST /other HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nworld").expect(200, "kept");
    client.get("/look").expect(200, "/first b'hello' False");
}

#[test]
fn many_distinct_field_names() {
    let server = portable("environ");
    let mut client = server.connect();
    for round in 0..50 {
        let fields: String = (0..90).map(|number| format!("X-{round}-{number}: {number}\r\n")).collect();
        let environ = Environ::of(client.ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")));
        environ.expect(&format!("HTTP_X_{round}_89"), "'89'");
        assert_eq!(environ.0.keys().filter(|key| key.starts_with("HTTP_X_")).count(), 90);
    }
}

#[test]
fn errors_stream_reaches_the_log() {
    let server = serve("errors", &[]);
    server.get("/").expect(200, "logged");
    let texts =
        ["written to wsgi.errors", "first of writelines", "second of writelines", "Zażółć gęślą", "no line end"];
    for text in texts {
        server.log().wait_for(text);
    }
    server.log().wait_for("printed to stderr");
    let log = server.stop().stderr;
    assert!(log.contains("no line end and no flush"), "{log}");
    // What an app logs may come from a client: it must not reach a terminal as a control sequence.
    assert!(log.contains("[31mred") && !log.contains('\u{1b}'), "{log}");
}
