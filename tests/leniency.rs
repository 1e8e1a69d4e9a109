//! Requests that are refused unless a setting of the Compatibility group asks for them, and how they arrive then.

use crate::harness::{Server, each, serve};
use crate::proxy_headers::Environ;

/// Checks what a request of this line and these fields becomes with an option, and that it is refused without.
fn expect_accepted(option: &[&str], cases: &[(&str, &str, &str, &str)]) {
    let (lenient, strict) = (serve("proxied", option), serve("proxied", &[]));
    each(
        cases,
        |(line, fields, ..)| format!("{line} {fields:?}"),
        |(line, fields, key, value)| {
            let request = format!("{line}\r\nHost: a\r\n{fields}\r\n");
            let mut client = lenient.connect();
            Environ::of(client.ask(&request)).expect(&[(key, value)]);
            // And it ends where it ends.
            client.get("/").expect_status(200);
            refuse(&strict, &request);
        },
    );
}

fn refuse(server: &Server, request: &str) {
    let mut client = server.connect();
    let status = client.send(request).receive().status;
    assert!([400, 505].contains(&status), "{status}");
    client.expect_end();
}

#[test]
fn folded_values() {
    expect_accepted(
        &["--permit-obsolete-folding"],
        &[
            ("GET / HTTP/1.1", "X-Folded: a\r\n b\r\n", "HTTP_X_FOLDED", "a b"),
            ("GET / HTTP/1.1", "X-Folded: a \r\n\t b\t\r\n  c\r\nX-Other: d\r\n", "HTTP_X_FOLDED", "a b c"),
            ("GET / HTTP/1.1", "X-Folded: a\r\n b\r\nX-Other: d\r\n", "HTTP_X_OTHER", "d"),
        ],
    );
}

#[test]
fn spaces_before_the_colon() {
    expect_accepted(
        &["--strip-header-spaces"],
        &[
            ("GET / HTTP/1.1", "X-Spaced : a\r\n", "HTTP_X_SPACED", "a"),
            ("GET / HTTP/1.1", "X-Spaced \t:a : b\r\n", "HTTP_X_SPACED", "a : b"),
        ],
    );
}

#[test]
fn methods() {
    let option = "--permit-unconventional-http-method";
    expect_accepted(
        &[option],
        &[
            ("get / HTTP/1.1", "", "REQUEST_METHOD", "get"),
            ("G# / HTTP/1.1", "", "REQUEST_METHOD", "G#"),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZ / HTTP/1.1", "", "REQUEST_METHOD", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        ],
    );
    expect_accepted(&[option, "--casefold-http-method"], &[("gEt / HTTP/1.1", "", "REQUEST_METHOD", "GET")]);
    // As with gunicorn, which looks at the case before it changes it.
    refuse(&serve("proxied", &["--casefold-http-method"]), "get / HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn versions() {
    expect_accepted(
        &["--permit-unconventional-http-version"],
        &[
            ("GET / HTTP/2.0", "", "SERVER_PROTOCOL", "HTTP/2.0"),
            ("GET / HTTP/1.9", "", "SERVER_PROTOCOL", "HTTP/1.9"),
            ("GET / HTTP/0.9", "Connection: keep-alive\r\n", "SERVER_PROTOCOL", "HTTP/0.9"),
        ],
    );
}

/// A proxy that reads these differently would see another request.
#[test]
fn framing_stays_strict() {
    let all = [
        "--permit-obsolete-folding",
        "--strip-header-spaces",
        "--permit-unconventional-http-method",
        "--permit-unconventional-http-version",
        "--casefold-http-method",
    ];
    let server = serve("proxied", &all);
    for fields in [
        "Host: a\r\nContent-Length : 3\r\n",
        "Host: a\r\nContent-Length:\r\n 3\r\n",
        "Host: a\r\nContent-Length: 3\r\n 4\r\n",
        "Host: a\r\nTransfer-Encoding : chunked\r\n",
        "Host: a\r\nTransfer-Encoding:\r\n\tchunked\r\n",
        "Host: a\r\nConnection: close\r\n , keep-alive\r\n",
        "Host : a\r\n",
        "Host: a\r\n b\r\n",
        " Host: a\r\n",
        "Host: a\r\nX: a\r\n b\0\r\n",
    ] {
        refuse(&server, &format!("POST / HTTP/1.1\r\n{fields}\r\n"));
    }
    server.get("/").expect_status(200);
}
