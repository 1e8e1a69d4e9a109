//! From start_response, write() and the iterable to the bytes of a response (PEP 3333, RFC 9112 §6).

use crate::harness::{Framing, Scratch, each, portable, serve};

#[track_caller]
fn query(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

// Framing.

#[test]
fn one_item_gets_a_length() {
    // The validator's iterator would hide that it is a list of one.
    let server = portable("reply:bare");
    let response = server.get("/?item=hello").expect(200, "hello");
    assert_eq!(response.framing, Framing::Length(5));
    assert_eq!(server.get("/").expect(200, "").framing, Framing::Length(0));
}

#[test]
fn several_items_become_chunks() {
    let server = portable("reply");
    let response = server.get("/?item=hello&item=&item=world!").expect(200, "helloworld!");
    assert_eq!(response.framing, Framing::Chunked(vec![5, 6]));
    // The number of items of a generator is not known beforehand.
    let response = server.get("/?item=hello&lazy=1").expect(200, "hello");
    assert_eq!(response.framing, Framing::Chunked(vec![5]));
    server.get("/?lazy=1").expect(200, "");
}

#[test]
fn the_length_of_the_app_is_kept() {
    let server = portable("reply");
    let mut client = server.connect();
    for target in [
        "/?item=hello&header=Content-Length:+5",
        "/?item=he&item=&item=llo&header=Content-Length:+5",
        "/?item=he&item=llo&header=content-length:+5&lazy=1",
    ] {
        assert_eq!(client.get(target).expect(200, "hello").framing, Framing::Length(5), "{target}");
    }
    let response = server.ask("GET /?item=hel&item=lo&header=Content-Length:+5 HTTP/1.0\r\n\r\n").expect(200, "hello");
    assert_eq!(response.framing, Framing::Length(5));
}

/// PEP 3333, Handling the Content-Length Header: the server must not send more than was announced.
#[test]
fn too_much_is_cut() {
    let server = portable("reply");
    let mut client = server.connect();
    for target in [
        "/?item=hello+world&header=Content-Length:+5",
        "/?item=hel&item=lo+world&header=Content-Length:+5",
        "/?item=hello&item=+world&item=!&header=Content-Length:+5&lazy=1",
    ] {
        client.get(target).expect(200, "hello");
    }
    client.get("/?item=hello&header=Content-Length:+0").expect(200, "");
}

/// Too little: the client must see that something is missing, not wait for it or take the next response for it.
#[test]
fn too_little_cuts_the_connection() {
    let server = serve("reply", &[]);
    for target in ["/?item=hello&header=Content-Length:+10", "/?item=he&item=llo&header=Content-Length:+10&lazy=1"] {
        let mut client = server.connect();
        let response = client.send(query(target)).receive_cut();
        assert_eq!((response.status, response.text()), (200, "hello"), "{target}");
    }
    server.log().wait_for("Content-Length");
    server.get("/?item=hello").expect(200, "hello");
}

#[test]
fn head_sends_no_body() {
    let server = portable("reply:bare");
    let mut client = server.connect();
    for (target, length) in [
        ("/?item=hello", Some("5")),
        ("/?item=hello&header=Content-Length:+5", Some("5")),
        ("/?header=Content-Length:+5", Some("5")),
        ("/?item=a&item=b", None),
        ("/?item=a&item=b&lazy=1", None),
    ] {
        let response = client.ask(format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!((response.status, response.value("Content-Length")), (200, length), "{target}");
    }
    client.get("/?item=hello").expect(200, "hello");
}

/// RFC 9110 §15.3.5, §15.4.5: these have no body, whatever the app yields.
#[test]
fn statuses_without_a_body() {
    let server = portable("reply");
    let mut client = server.connect();
    for target in [
        "/?status=204+No+Content",
        "/?status=204+No+Content&item=body",
        "/?status=204+No+Content&item=a&item=b&lazy=1",
        "/?status=204+No+Content&header=Content-Length:+0",
        "/?status=304+Not+Modified&item=body",
        "/?status=304+Not+Modified&header=Content-Length:+5",
    ] {
        let response = client.get(target);
        assert_eq!(response.framing, Framing::NoBody, "{target}");
        assert!(response.values("Content-Length").iter().all(|_| response.status == 304), "{response:?}");
    }
    client.get("/?item=hello").expect(200, "hello");
}

/// A response to HEAD and a 304 may say how long the body would be (RFC 9110 §8.6).
#[test]
fn a_304_keeps_its_length() {
    let response = portable("reply").get("/?status=304+Not+Modified&header=Content-Length:+5");
    assert_eq!(response.value("Content-Length"), Some("5"));
}

#[test]
fn a_1xx_has_no_body() {
    let server = portable("reply");
    let mut client = server.connect();
    client.send(query("/?status=101+Switching+Protocols&item=body"));
    let response = client.receive();
    assert_eq!((response.status, response.framing), (101, Framing::NoBody));
}

#[test]
fn large_responses_arrive_whole() {
    let server = portable("big");
    for path in ["/", "/items"] {
        let response = server.get(&format!("{path}?bytes=20000000"));
        assert_eq!(response.body.len(), 20_000_000);
        let is_in_place = |(place, word): (usize, &[u8])| word == u32::try_from(place).expect("small").to_be_bytes();
        assert!(response.body.chunks(4).enumerate().all(is_in_place), "{path}: bytes out of place");
    }
}

// Order in time.

/// PEP 3333, Buffering and Streaming: a block is sent before the next one is asked for, and before write() returns.
#[test]
fn each_item_is_sent_before_the_next_is_asked_for() {
    let server = portable("gate");
    for path in ["/between", "/written"] {
        let scratch = Scratch::new();
        let mut client = server.connect();
        client.send(query(&format!("{path}?release={}", scratch.text("release"))));
        assert!(matches!(client.receive_head("GET").framing, Framing::Chunked(_)));
        assert_eq!(client.receive_chunk(), b"first");
        scratch.write("release", "");
        assert_eq!(client.receive_chunk(), b"second");
        assert_eq!(client.receive_chunk(), b"");
    }
}

#[test]
fn each_item_is_sent_at_once_in_any_framing() {
    let server = portable("gate");
    for (version, length, framing) in [("1.0", "", Framing::UntilClose), ("1.1", "&length=11", Framing::Length(11))] {
        for path in ["/between", "/written"] {
            let scratch = Scratch::new();
            let mut client = server.connect();
            let release = scratch.text("release");
            client.send(format!("GET {path}?release={release}{length} HTTP/{version}\r\nHost: a\r\n\r\n"));
            assert_eq!(client.receive_head("GET").framing, framing);
            assert_eq!(client.receive_bytes(5), b"first");
            scratch.write("release", "");
            assert_eq!(client.receive_bytes(6), b"second");
        }
    }
}

/// What the app does behind its last item is no reason to hold that item back, in an iterator of any kind.
/// Pieces that come in quick succession may travel together, but not wait for one that does not come.
#[test]
fn a_burst_is_not_held_back() {
    let server = portable("gate");
    let scratch = Scratch::new();
    let mut client = server.connect();
    client.send(query(&format!("/burst?release={}", scratch.text("release"))));
    client.receive_head("GET");
    assert_eq!(client.receive_chunk(), b"first");
    assert_eq!(client.receive_chunk(), b"second");
    scratch.write("release", "");
    assert_eq!(client.receive_chunk(), b"third");
    assert_eq!(client.receive_chunk(), b"");
}

#[test]
fn the_last_item_is_sent_before_the_end_is_asked_for() {
    for app in ["gate:app", "gate:bare"] {
        let server = portable(app);
        for length in ["", "&length=5"] {
            let scratch = Scratch::new();
            let mut client = server.connect();
            client.send(query(&format!("/after?release={}{length}", scratch.text("release"))));
            let is_chunked = matches!(client.receive_head("GET").framing, Framing::Chunked(_));
            if is_chunked {
                assert_eq!(client.receive_chunk(), b"whole");
            } else {
                assert_eq!(client.receive_bytes(5), b"whole");
            }
            scratch.write("release", "");
            if is_chunked {
                assert_eq!(client.receive_chunk(), b"");
            }
            // The application must have seen the file before it goes.
            assert_eq!(client.get("/").status, 200);
        }
    }
}

#[test]
fn written_bytes_come_before_the_items() {
    let server = portable("write");
    let mut client = server.connect();
    let response = client.get("/").expect(200, "one two three end");
    assert!(matches!(response.framing, Framing::Chunked(_)), "{response:?}");
    assert_eq!(client.get("/with-length").expect(200, "one two three end").framing, Framing::Length(17));
    assert_eq!(client.ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    client.get("/").expect(200, "one two three end");
}

/// Behind the end of a chunked body, another chunk would be read as the next response.
#[test]
fn nothing_is_written_behind_the_end() {
    let server = serve("late_write", &[]);
    let mut client = server.connect();
    for _ in 0..2 {
        client.get("/").expect(200, "whole");
    }
    server.log().wait_for("write() called after the request was over");
}

#[test]
fn an_endless_iterable_is_left_where_no_body_is_wanted() {
    let server = serve("endless", &[]);
    let mut client = server.connect();
    assert_eq!(client.ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    assert_eq!(client.ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
}

// start_response.

#[test]
fn status_and_headers_are_sent_as_given() {
    let server = portable("reply");
    let target =
        "/?status=418+I%27m+a+teapot&header=X-B:+1&header=X-A:+2&header=Set-Cookie:+a%3D1&header=Set-Cookie:+b%3D2";
    let response = server.get(target);
    assert_eq!((response.status, response.reason.as_str()), (418, "I'm a teapot"));
    let own: Vec<_> =
        response.fields.iter().filter(|(name, _)| name.starts_with("X-") || name == "Set-Cookie").collect();
    let own: Vec<_> = own.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(own, ["X-B=1", "X-A=2", "Set-Cookie=a=1", "Set-Cookie=b=2"]);
    // Latin-1 is what PEP 3333 lets a header hold.
    assert_eq!(server.get("/?header=X-Eight:+%E9&item=x").value("X-Eight"), Some("\u{e9}"));
}

#[test]
fn date_and_server_of_the_app() {
    let server = portable("reply");
    let response = server.get("/?header=Date:+Sun,+06+Nov+1994+08:49:37+GMT&header=Server:+mine&item=x");
    assert_eq!(response.values("Date").len(), 1);
    assert_eq!(response.values("Server").len(), 1);
}

/// What is wrong is not sent, and the log says which header it was.
#[test]
fn wrong_headers() {
    let server = serve("response_head", &[]);
    let cases = [
        ("[('X-Cr', 'a\\rb')]", "X-Cr"),
        ("[('X-Lf', 'a\\nb')]", "X-Lf"),
        ("[('X-Split', 'a\\r\\nSet-Cookie: b=c')]", "X-Split"),
        ("[('X-Nul', 'a\\0b')]", "X-Nul"),
        ("[('X-Del', 'a\\x7fb')]", "X-Del"),
        ("[('X-Wide', 'a\\u0142b')]", "X-Wide"),
        ("[('X Space', 'a')]", "X Space"),
        ("[('X-Colon:', 'a')]", "X-Colon:"),
        ("[('X-Name\\r\\n', 'a')]", "X-Name"),
        ("[('', 'a')]", "name"),
        ("[('X-Wide-\\u0142', 'a')]", "X-Wide-"),
        ("[('X-Int', 1)]", "X-Int"),
        ("[('X-Bytes', b'a')]", "X-Bytes"),
        ("[('X-None', None)]", "X-None"),
        ("[(b'X-Bytes-Name', 'a')]", "X-Bytes-Name"),
        ("[('X-Single',)]", "X-Single"),
        ("[('X-Triple', 'a', 'b')]", "X-Triple"),
        ("[('Connection', 'close')]", "Connection"),
        ("[('Keep-Alive', 'timeout=5')]", "Keep-Alive"),
        ("[('Proxy-Authenticate', 'Basic')]", "Proxy-Authenticate"),
        ("[('Proxy-Authorization', 'Basic')]", "Proxy-Authorization"),
        ("[('TE', 'trailers')]", "TE"),
        ("[('Trailers', 'X')]", "Trailers"),
        ("[('transfer-encoding', 'chunked')]", "transfer-encoding"),
        ("[('Upgrade', 'h2c')]", "Upgrade"),
        ("[('Content-Length', 'four')]", "Content-Length"),
        ("[('Content-Length', '-4')]", "Content-Length"),
        ("[('Content-Length', '+4')]", "Content-Length"),
        ("[('Content-Length', '4'), ('Content-Length', '4')]", "Content-Length"),
    ];
    each(
        &cases,
        |(headers, _)| (*headers).to_owned(),
        |(headers, named)| {
            let logged = server.log().text().len();
            let response = server.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Headers: {headers}\r\n\r\n"));
            assert_eq!(response.status, 500, "{response:?}");
            assert!(response.values("Set-Cookie").is_empty());
            let is_named = || server.log().text()[logged..].contains(named);
            crate::harness::wait_until("the name of the header in the log", is_named);
        },
    );
}

#[test]
fn wrong_statuses() {
    let server = serve("response_head", &[]);
    let cases = [
        "''",
        "'OK'",
        "'20 OK'",
        "'2000 OK'",
        "'99 x'",
        "'abc OK'",
        "'+20 OK'",
        "200",
        "b'200 OK'",
        "None",
        "'200 OK\\r\\nX: y'",
        "'200 O\\nK'",
        "'200 \\u0142'",
    ];
    each(
        &cases,
        |status| (*status).to_owned(),
        |status| {
            let response = server.ask(format!("GET / HTTP/1.1\r\nHost: a\r\nX-Status: {status}\r\n\r\n"));
            assert_eq!(response.status, 500, "{response:?}");
        },
    );
}

/// PEP 3333, The start_response() Callable.
#[test]
fn start_response_called_twice() {
    let server = serve("start_twice", &[]);
    assert_eq!(server.get("/without-exc-info").status, 500);
    let response = server.get("/before-the-head").expect(503, "replaced");
    assert_eq!((response.value("X-First"), response.value("X-Second")), (None, Some("2")));
    server.get("/before-the-first-byte").expect(503, "replaced");
    server.get("/exc-info-at-first").expect(200, "fine");
    // Too late to change anything: the exception goes through the app, and the response is cut.
    let mut client = server.connect();
    let response = client.send(query("/after-the-head")).receive_cut();
    assert_eq!((response.status, response.text()), (200, "sent"));
    server.log().wait_for("the reason for the second call");
}

#[test]
fn start_response_not_called() {
    let server = serve("start_twice", &[]);
    assert_eq!(server.get("/never").status, 500);
    assert_eq!(server.get("/never-lazily").status, 500);
    server.log().wait_for("start_response");
}

#[test]
fn start_response_called_by_a_generator() {
    let response = portable("reply").get("/?lazy=1&status=201+Created&header=X-A:+1&item=a&item=b").expect(201, "ab");
    assert_eq!(response.value("X-A"), Some("1"));
}

// What the app does wrong.

#[test]
fn exceptions_before_the_first_byte() {
    let server = serve("raises", &[]);
    let cases = [
        ("/in-call", "raised in the call"),
        ("/after-start", "raised after start_response"),
        ("/in-first-item", "raised in the first item"),
        ("/text-item", "TypeError"),
        ("/none", "TypeError"),
        ("/number", "TypeError"),
        ("/write-text", "TypeError"),
        ("/sys-exit", "SystemExit"),
        ("/no-such-path", "KeyError"),
    ];
    each(
        &cases,
        |(path, _)| (*path).to_owned(),
        |(path, logged)| {
            let response = server.get(path);
            assert_eq!(response.status, 500);
            assert!(response.value("Content-Type").is_some_and(|value| value.starts_with("text/plain")));
            assert!(response.text().contains("Internal Server Error"), "{}", response.text());
            server.log().wait_for(logged);
        },
    );
    server.log().wait_for("Traceback (most recent call last)");
    server.log().wait_for("raises.py");
    server.get("/fine").expect(200, "fine");
    assert_eq!(server.workers().len(), 1);
}

/// The client must be able to tell that the response is not whole: no last chunk, no full length.
#[test]
fn exceptions_after_the_first_byte() {
    let server = serve("raises", &[]);
    for path in ["/in-second-item", "/in-second-item-with-length"] {
        let mut client = server.connect();
        let response = client.send(query(path)).receive_cut();
        assert_eq!((response.status, response.text()), (200, "first"));
    }
    server.log().wait_for("raised in the second item");
    server.log().wait_for("Traceback (most recent call last)");
}

#[test]
fn an_exception_in_close_is_only_logged() {
    let server = serve("raises", &[]);
    server.get("/in-close").expect(200, "whole");
    server.log().wait_for("raised in close");
    server.get("/fine").expect(200, "fine");
}

/// PEP 3333: close() is called exactly once, whether the request ended well or not.
#[test]
fn close_is_called_once() {
    let server = portable("closes");
    let mut expected = 0;
    let mut check = |name: &str| {
        expected += 1;
        let closed = || server.get("/closed").text() == expected.to_string();
        crate::harness::wait_until(&format!("close() number {expected}, of {name}"), closed);
    };
    for (target, status) in [("/one", 200), ("/empty", 200), ("/many", 200), ("/too-long", 200), ("/no-start", 500)] {
        assert_eq!(server.get(target).status, status, "{target}");
        check(target);
    }
    server.connect().send(query("/raises")).receive_cut();
    check("/raises");
    assert_eq!(server.get("/text").status, 500);
    check("/text");
    assert_eq!(server.ask("HEAD /many HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    check("HEAD /many");
    // A client that leaves in the middle, politely or not.
    for leave in [drop::<crate::harness::Client>, crate::harness::Client::reset] {
        let mut client = server.connect();
        client.send(query("/endless")).receive_head("GET");
        client.receive_chunk();
        leave(client);
        check("/endless");
    }
}

// wsgi.file_wrapper.

fn file_content() -> Vec<u8> {
    (0..256 * 4096).map(|number: u32| (number % 256) as u8).collect()
}

#[test]
fn files() {
    let server = portable("file");
    let content = file_content();
    for path in ["/real", "/memory"] {
        assert!(server.get(path).body == content, "{path}");
        let response = server.get(&format!("{path}?length={}", content.len()));
        assert_eq!(response.framing, Framing::Length(content.len()));
        assert!(response.body == content, "{path} with its length");
        let response = server.ask(format!("GET {path} HTTP/1.0\r\n\r\n"));
        assert!(response.body == content, "{path} in HTTP/1.0");
    }
    assert!(server.get("/offset").body == content[content.len() - 1000..]);
    server.get("/pipe").expect(200, "from a pipe");
}

#[test]
fn files_of_another_length_than_promised() {
    let server = portable("file");
    let mut client = server.connect();
    for path in ["/real", "/memory"] {
        assert!(client.get(&format!("{path}?length=100")).body == file_content()[..100], "{path}");
        let mut cut = server.connect();
        assert_eq!(cut.send(query(&format!("{path}?length=2000000"))).receive_cut().body.len(), file_content().len());
    }
    assert_eq!(client.ask("HEAD /real?length=100 HTTP/1.1\r\nHost: a\r\n\r\n").body.len(), 0);
    client.get("/pipe").expect(200, "from a pipe");
}

#[test]
fn files_are_closed() {
    let server = portable("file");
    for expected in 1..=3 {
        server.get("/memory?length=100");
        let closed = || server.get("/closed").text() == expected.to_string();
        crate::harness::wait_until("the file's close()", closed);
    }
}
