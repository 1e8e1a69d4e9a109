//! The PROXY protocol: who may speak it, what the application gets to know, and where that goes with the connection.

use std::net::TcpListener;

use nix::sys::signal::Signal;

use crate::harness::proxy::Proxy;
use crate::harness::{Address, Client, Held, Scratch, Server, each, process, serve, wait_until};
use crate::proxy_headers::Environ;

const GET: &[u8] = b"GET /app HTTP/1.1\r\nHost: a\r\n\r\n";

const V1: &[u8] = b"PROXY TCP4 192.0.2.9 203.0.113.1 4242 443\r\n";

/// The same, and something that is to be skipped behind it.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x09\xcb\0\x71\x01\x10\x92\x01\xbb\x04\0\x01\0";

const V2_SIX: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24\
    \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x10\x92\x01\xbb";

const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

const TOLD: [(&str, &str); 5] = [
    ("REMOTE_ADDR", "192.0.2.9"),
    ("REMOTE_PORT", "4242"),
    ("PROXY_PROTOCOL", "TCP4"),
    ("PROXY_ADDR", "203.0.113.1"),
    ("PROXY_PORT", "443"),
];

#[track_caller]
fn ask(client: &mut Client, before: &[u8]) -> Environ {
    Environ::of(client.ask([before, GET].concat()).expect_status(200))
}

#[track_caller]
fn expect_status(server: &Server, wire: &[u8], status: u16) {
    let mut client = server.connect();
    let response = client.send(wire).receive();
    assert_eq!(response.status, status, "{}", response.text());
    client.expect_end();
}

#[test]
fn who_the_client_is() {
    for mode in ["auto", "v1", "v2"] {
        let server = serve("proxied", &["--proxy-protocol", mode, "--access-logformat", "%(h)s"]);
        for header in [V1, V2]
            .into_iter()
            .filter(|&header| mode != "v1" || header == V1)
            .filter(|&header| mode != "v2" || header == V2)
        {
            let mut client = server.connect();
            ask(&mut client, header).expect(&TOLD);
            // For the connection as long as it lives.
            for _ in 0..3 {
                ask(&mut client, b"").expect(&TOLD);
            }
        }
        let log = server.stop().stdout;
        assert!(log.lines().count() >= 4 && log.lines().all(|line| line == "192.0.2.9"), "{log}");
    }
}

#[test]
fn over_ipv6() {
    let server = serve("proxied", &["--proxy-protocol", "auto"]);
    for header in [V2_SIX, b"PROXY TCP6 2001:db8::9 ::1 4242 443\r\n"] {
        ask(&mut server.connect(), header).expect(&[
            ("REMOTE_ADDR", "2001:db8::9"),
            ("REMOTE_PORT", "4242"),
            ("PROXY_PROTOCOL", "TCP6"),
            ("PROXY_ADDR", "::1"),
            ("PROXY_PORT", "443"),
        ]);
    }
}

/// Every piece is received by itself, which takes its time on a busy machine.
#[test]
fn byte_by_byte() {
    let server = serve("proxied", &["--proxy-protocol", "--header-timeout", "60"]);
    for header in [V1, V2] {
        let mut client = server.connect();
        for byte in header.iter().chain(GET) {
            client.send([*byte]);
            wait_until("the byte to be read", || client.has_been_read());
        }
        Environ::of(client.receive()).expect(&TOLD);
        ask(&mut client, b"").expect(&TOLD);
    }
}

/// The proxy speaks for itself, does not know, or says nothing: then the peer is who it is.
#[test]
fn nothing_about_a_client() {
    let server = serve("proxied", &["--proxy-protocol", "auto"]);
    for (header, protocol) in [
        (&b""[..], "-"),
        (b"PROXY UNKNOWN\r\n", "UNKNOWN"),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "UNKNOWN"),
        (V2_LOCAL, "LOCAL"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0", "UNKNOWN"),
        (b"\r\n", "-"),
    ] {
        let mut client = server.connect();
        let port = client.local_port().to_string();
        for before in [header, b""] {
            ask(&mut client, before).expect(&[
                ("REMOTE_ADDR", "127.0.0.1"),
                ("REMOTE_PORT", &port),
                ("PROXY_PROTOCOL", protocol),
                ("PROXY_ADDR", "-"),
                ("PROXY_PORT", "-"),
            ]);
        }
    }
    let unix = [b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8".as_slice(), &[0; 216]].concat();
    ask(&mut server.connect(), &unix).expect(&[("REMOTE_ADDR", ""), ("REMOTE_PORT", ""), ("PROXY_PROTOCOL", "UNIX")]);
    // The proxy may connect long before it has a request to send.
    server.connect().send(V1).end_sending().expect_end();
}

#[test]
fn refused() {
    let with_get = |header: &[u8]| [header, GET].concat();
    let malformed: [&[u8]; 7] = [
        b"PROXY TCP4 192.0.2.9 203.0.113.1 4242\r\n",
        b"PROXY TCP4 2001:db8::9 ::1 4242 443\r\n",
        b"PROXY TCP4 192.0.2.9 203.0.113.1 4242 65536\r\n",
        b"PROXY SCTP 192.0.2.9 203.0.113.1 4242 443\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04\0\0\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0",
    ];
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    let server = serve("proxied", &["--proxy-protocol", "auto"]);
    let nobody = serve("proxied", &["--proxy-protocol", "--proxy-allow-from", "192.0.2.1"]);
    each(
        &[&malformed[..], &[&endless]].concat(),
        |header| header.escape_ascii().to_string(),
        |header| {
            expect_status(&server, &with_get(header), 400);
            expect_status(&nobody, &with_get(header), 403);
        },
    );
    expect_status(&nobody, &with_get(V1), 403);
    expect_status(&nobody, &with_get(V2), 403);
    expect_status(&nobody, &with_get(V2_LOCAL), 403);
    // Who says nothing is served.
    ask(&mut nobody.connect(), b"").expect(&[("REMOTE_ADDR", "127.0.0.1")]);
    // Once, and at the beginning.
    let twice = [V1, V1, GET].concat();
    expect_status(&server, &twice, 400);
    let mut client = server.connect();
    ask(&mut client, b"");
    client.send(with_get(V1)).receive().expect_status(400);
    client.expect_end();
}

/// A header that is not looked for is no request.
#[test]
fn off_or_of_another_version() {
    for (options, header) in [
        (&[][..], V1),
        (&[], V2),
        (&["--proxy-protocol", "v1"], V2),
        (&["--proxy-protocol", "v2"], V1),
        (&["--proxy-protocol", "off", "--proxy-allow-from", "*"], V1),
    ] {
        let server = serve("proxied", options);
        expect_status(&server, &[header, GET].concat(), 400);
        ask(&mut server.connect(), b"").expect(&[("REMOTE_ADDR", "127.0.0.1"), ("PROXY_PROTOCOL", "-")]);
    }
}

/// Nobody becomes trusted by saying that his client is.
#[test]
fn trust_is_about_the_peer_itself() {
    let header = b"PROXY TCP4 192.0.2.9 203.0.113.1 4242 443\r\n";
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n";
    let wire = [&header[..], request].concat();
    let options = ["--proxy-protocol", "--trusted-proxy-headers", "x-forwarded-for,x-forwarded-proto"];
    for (trusted, address, scheme) in [("192.0.2.9", "192.0.2.9", "http"), ("127.0.0.1", "198.51.100.7", "https")] {
        let server = serve("proxied", &[&options[..], &["--forwarded-allow-ips", trusted]].concat());
        Environ::of(server.ask(&wire)).expect(&[("REMOTE_ADDR", address), ("wsgi.url_scheme", scheme)]);
    }
}

#[test]
fn peers_of_a_unix_socket_may_speak_it() {
    let scratch = Scratch::new();
    let bind = format!("unix:{}", scratch.text("socket"));
    let server = serve("proxied", &["--bind", &bind, "--proxy-protocol", "--proxy-allow-from", ""]);
    ask(&mut server.connect(), V1).expect(&TOLD);
    ask(&mut server.connect(), b"").expect(&[("REMOTE_ADDR", ""), ("PROXY_PROTOCOL", "-")]);
}

/// It is part of the head as far as time goes.
#[test]
fn a_header_that_does_not_come() {
    let server = serve("proxied", &["--proxy-protocol", "--header-timeout", "1"]);
    for header in [V1, V2] {
        expect_status(&server, &header[..header.len() - 1], 408);
    }
}

/// Which worker has answered, by the pid in its answer.
#[track_caller]
fn serve_with_workers(count: usize) -> Server {
    let workers = count.to_string();
    let server = serve("proxied", &["--proxy-protocol", "--workers", &workers, "--access-logfile", "none"]);
    wait_until("all workers to answer", || {
        let mut clients: Vec<Client> = (0..4 * count).map(|_| server.connect()).collect();
        let mut pids: Vec<u64> = clients.iter_mut().map(|client| ask(client, b"").pid()).collect();
        pids.sort_unstable();
        pids.dedup();
        pids.len() == count
    });
    server
}

/// A call holds one worker; the connections that wait there move to the other one, with what is known of them.
#[test]
fn it_moves_with_the_connection() {
    let server = serve_with_workers(2);
    let mut first = server.connect();
    let busy = ask(&mut first, V1).pid();
    let mut others = Vec::new();
    let mut elsewhere = Vec::new();
    wait_until("connections to the same worker", || {
        let mut client = server.connect();
        if ask(&mut client, V2).pid() == busy {
            others.push(client)
        } else {
            elsewhere.push(client)
        }
        others.len() == 3
    });
    let mut held = Held::on(first, "/wait");
    for round in 0..3 {
        for client in &mut others {
            let found = ask(client, b"");
            assert_ne!(found.pid(), busy, "round {round}");
            found.expect(&TOLD);
        }
    }
    held.gate.open();
    Environ::of(held.client.receive()).expect(&TOLD);
    ask(&mut held.client, b"").expect(&TOLD);
}

/// Some have said who they are, some have begun to, some will, and some never: a reload changes nothing about that.
#[test]
fn it_is_handed_over() {
    let server = serve_with_workers(2);
    let mut told: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    told.iter_mut().for_each(|client| ask(client, V1).expect(&TOLD));
    let mut untold: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    untold.iter_mut().for_each(|client| ask(client, b"").expect(&[("PROXY_PROTOCOL", "-")]));
    let mut begun: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut begun {
        client.send(&V2[..14]);
        wait_until("the first half to be read", || client.has_been_read());
    }
    let mut fresh: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    let former = server.workers();
    server.signal(Signal::SIGHUP);
    wait_until("the former workers to end", || !former.iter().any(|&worker| process::is_running(worker)));
    told.iter_mut().for_each(|client| ask(client, b"").expect(&TOLD));
    begun.iter_mut().for_each(|client| ask(client, &V2[14..]).expect(&TOLD));
    fresh.iter_mut().for_each(|client| ask(client, V2).expect(&TOLD));
    for mut client in untold {
        ask(&mut client, b"").expect(&[("PROXY_PROTOCOL", "-"), ("REMOTE_ADDR", "127.0.0.1")]);
        client.send([V1, GET].concat()).receive().expect_status(400);
    }
}

/// HAProxy itself, whose checks speak the protocol too.
#[test]
fn behind_haproxy() {
    for (option, protocol) in [("send-proxy", "TCP4"), ("send-proxy-v2", "TCP4")] {
        let start = || serve("proxied", &["--proxy-protocol", "--access-logfile", "none"]);
        let (one, two) = (start(), start());
        let probe = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = probe.local_addr().expect("its number");
        drop(probe);
        let haproxy = Proxy::haproxy_with(&one.addresses[0], &two.addresses[0], option, Some(address.port()));
        for _ in 0..4 {
            let mut client = Client::connect(&Address::Tcp(address));
            let (local, port) = (client.local_port().to_string(), address.port().to_string());
            for _ in 0..3 {
                ask(&mut client, b"").expect(&[
                    ("REMOTE_ADDR", "127.0.0.1"),
                    ("REMOTE_PORT", &local),
                    ("PROXY_PROTOCOL", protocol),
                    ("PROXY_ADDR", "127.0.0.1"),
                    ("PROXY_PORT", &port),
                ]);
            }
        }
        for server in ["one", "two"] {
            assert!(haproxy.state_of(server).is_up(), "{}", haproxy.log());
        }
        // A client of whom there is no address to tell.
        Environ::of(Client::connect(&haproxy.address).ask(GET)).expect(&[("REMOTE_ADDR", "127.0.0.1")]);
    }
}
