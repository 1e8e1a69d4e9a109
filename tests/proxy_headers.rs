//! What a proxy in front says of its client in headers: believed from whom the settings name, from nobody else.

use serde_json::{Map, Value};

use crate::harness::proxy::Proxy;
use crate::harness::{Client, Program, Response, Scratch, Server, each, serve, wait_until};

/// The texts of an environ, as the app `proxied` answers them.
pub struct Environ(Map<String, Value>);

impl Environ {
    #[track_caller]
    pub fn of(response: Response) -> Environ {
        let response = response.expect_status(200);
        match serde_json::from_slice(&response.body) {
            Ok(Value::Object(values)) => Environ(values),
            other => panic!("not an environ: {other:?}"),
        }
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str)
    }

    pub fn pid(&self) -> u64 {
        self.0["pid"].as_u64().expect("a process id")
    }

    /// Checks the values of some keys, `-` for one that must not be there.
    #[track_caller]
    pub fn expect(&self, expected: &[(&str, &str)]) {
        for (key, value) in expected {
            assert_eq!(self.get(key).unwrap_or("-"), *value, "{key} in {:?}", self.0);
        }
    }
}

/// A GET of `/app/page` with these field lines, each with its CRLF.
fn request(fields: &str) -> String {
    format!("GET /app/page HTTP/1.1\r\nHost: site\r\n{fields}\r\n")
}

#[track_caller]
fn environ(server: &Server, fields: &str) -> Environ {
    Environ::of(server.ask(request(fields)))
}

/// Checks the statuses of requests with these fields, and that those that are refused end their connections.
#[track_caller]
fn expect_statuses(server: &Server, cases: &[(&str, u16)]) {
    each(
        cases,
        |(fields, _)| (*fields).to_owned(),
        |(fields, status)| {
            let mut client = server.connect();
            let response = client.ask(request(fields)).expect_status(*status);
            assert_eq!(response.announces_close(), *status != 200);
            if *status != 200 {
                client.expect_end();
            }
        },
    );
    server.ask(request("")).expect_status(200);
}

/// Nobody whom the tests connect as.
const STRANGERS: [&str; 2] = ["--forwarded-allow-ips", "192.0.2.1"];

const FORGED: [&str; 38] = [
    "X-Forwarded-For: 6.6.6.6",
    "x-forwarded-for: 6.6.6.6",
    "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1",
    "X-Forwarded-For: 192.0.2.1, 6.6.6.6",
    "X_Forwarded_For: 6.6.6.6",
    "X-Forwarded_For: 6.6.6.6",
    "X-Forwarded-Host: 6.6.6.6",
    "X-Forwarded-Proto: https",
    "X-FORWARDED-PROTO: https",
    "X_Forwarded_Proto: https",
    "X-Forwarded-Protocol: ssl",
    "X-Forwarded-Ssl: on",
    "X-Forwarded-Port: 6666",
    "X-Forwarded-By: 6.6.6.6",
    "X-Forwarded-Server: 6.6.6.6",
    "X-Real-IP: 6.6.6.6",
    "Forwarded: for=6.6.6.6;host=6.6.6.6;proto=https",
    "forwarded: for=\"6.6.6.6:6666\"",
    "SCRIPT_NAME: /app",
    "script_name: /app",
    "SCRIPT-NAME: /app",
    "Script-Name: /app",
    "PATH_INFO: /6.6.6.6",
    "Path-Info: /6.6.6.6",
    "HTTP_HOST: 6.6.6.6",
    "HTTP-HOST: 6.6.6.6",
    "REMOTE_USER: 6.6.6.6",
    "Remote-User: 6.6.6.6",
    "REMOTE_ADDR: 6.6.6.6",
    "Remote-Addr: 6.6.6.6",
    "REMOTE_PORT: 6666",
    "Remote-Host: 6.6.6.6",
    "Auth-Type: 6.6.6.6",
    "SERVER_NAME: 6.6.6.6",
    "Server-Port: 6666",
    "HTTPS: on",
    "wsgi.url_scheme: https",
    "Proxy-Protocol: TCP4\r\nProxy-Addr: 6.6.6.6\r\nPROXY_ADDR: 6.6.6.6",
];

/// Whatever a stranger says: the variables that are not the client's to set tell what the server itself knows.
fn expect_nothing_forged(server: &Server, fields: &str) {
    let mut client = server.connect();
    let found = Environ::of(client.ask(request(&format!("{fields}\r\n"))));
    let port = client.local_port().to_string();
    found.expect(&[
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REMOTE_PORT", &port),
        ("REMOTE_HOST", "-"),
        ("REMOTE_USER", "-"),
        ("AUTH_TYPE", "-"),
        ("HTTPS", "-"),
        ("wsgi.url_scheme", "http"),
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", "/app/page"),
        ("HTTP_HOST", "site"),
        ("SERVER_NAME", "127.0.0.1"),
        ("PROXY_PROTOCOL", "-"),
        ("PROXY_ADDR", "-"),
        ("PROXY_PORT", "-"),
        ("HTTP_X_FORWARDED_PROTO_", "-"),
    ]);
    assert_ne!(found.get("SERVER_PORT"), Some("6666"));
    if fields.split("\r\n").all(|line| line.split(':').next().is_some_and(|name| name.contains('_'))) {
        let forged = ["6.6.6.6", "6666", "https", "/app"];
        let has_come = found.0.values().find(|value| value.as_str().is_some_and(|value| forged.contains(&value)));
        assert_eq!(has_come, None, "an underscore came through");
    }
}

#[test]
fn strangers_are_not_believed() {
    let server = serve("proxied", &STRANGERS);
    each(&FORGED, |fields| (*fields).to_owned(), |fields| expect_nothing_forged(&server, fields));
    expect_nothing_forged(&server, &FORGED.join("\r\n"));
}

/// Where it is said which headers are a proxy's, strangers cannot even have the application see them.
#[test]
fn headers_of_proxies_are_seen_from_proxies_only() {
    for (trusted, map) in
        [("x-forwarded-for,x-forwarded-proto", "drop"), ("forwarded", "drop"), ("forwarded", "dangerous")]
    {
        let options = [&STRANGERS[..], &["--trusted-proxy-headers", trusted, "--header-map", map]].concat();
        let server = serve("proxied", &options);
        for fields in FORGED.iter().copied().chain([&*FORGED.join("\r\n")]) {
            if map == "drop" {
                expect_nothing_forged(&server, fields);
            }
            let found = environ(&server, &format!("{fields}\r\n"));
            let is_forwarding = |key: &&String| key.starts_with("HTTP_X_FORWARDED") || *key == "HTTP_FORWARDED";
            assert_eq!(found.0.keys().find(is_forwarding), None, "{fields}");
        }
    }
}

/// Even where a name with an underscore comes through, it stays a header.
#[test]
fn dangerous_names_from_strangers_are_headers() {
    let server = serve("proxied", &[&STRANGERS[..], &["--header-map", "dangerous"]].concat());
    let fields = "SCRIPT_NAME: /app\r\nX_Forwarded_Proto: https\r\nContent_Length: 5\r\nX-User: a\r\nX_User: b\r\n";
    environ(&server, fields).expect(&[
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", "/app/page"),
        ("HTTP_SCRIPT_NAME", "/app"),
        ("wsgi.url_scheme", "http"),
        ("CONTENT_LENGTH", "-"),
        ("HTTP_CONTENT_LENGTH", "5"),
        ("HTTP_X_USER", "a,b"),
    ]);
}

/// gunicorn's rules for the scheme, from 127.0.0.1, which is believed by default.
#[test]
fn the_scheme() {
    let server = serve("proxied", &[]);
    for (fields, scheme) in [
        ("X-Forwarded-Proto: https\r\n", "https"),
        ("x-forwarded-proto: https\r\n", "https"),
        ("X-Forwarded-Protocol: ssl\r\nX-Forwarded-Ssl: on\r\n", "https"),
        ("X-Forwarded-Proto: https\r\nX-Forwarded-Proto: https\r\n", "https"),
        ("X-Forwarded-Proto: HTTPS\r\n", "http"),
        ("X-Forwarded-Proto: https, https\r\n", "http"),
        ("X-Forwarded-Proto: http\r\nX-Forwarded-Ssl: off\r\n", "http"),
        ("X_Forwarded_Proto: https\r\n", "http"),
        ("Forwarded: proto=https\r\n", "http"),
        ("", "http"),
    ] {
        let found = environ(&server, fields);
        assert_eq!(found.get("wsgi.url_scheme"), Some(scheme), "{fields:?}");
        // This is all that these headers change without --trusted-proxy-headers.
        found.expect(&[("REMOTE_ADDR", "127.0.0.1"), ("HTTP_HOST", "site")]);
    }
    expect_statuses(
        &server,
        &[
            ("X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n", 400),
            ("X-Forwarded-Proto: http\r\nX-Forwarded-Proto: https\r\n", 400),
            ("X-Forwarded-Proto: https\r\nx-forwarded-proto: \r\n", 400),
        ],
    );
    let server = serve("proxied", &["--secure-scheme-headers", "X-Scheme=secure,Front_End_Https=1"]);
    for (fields, scheme) in [
        ("X-Scheme: secure\r\n", "https"),
        ("Front_End_Https: 1\r\n", "https"),
        ("X-Forwarded-Proto: https\r\n", "http"),
        ("Front-End-Https: 1\r\n", "http"),
    ] {
        assert_eq!(environ(&server, fields).get("wsgi.url_scheme"), Some(scheme), "{fields:?}");
    }
}

#[test]
fn the_mount() {
    let server = serve("proxied", &[]);
    for (fields, script_name, path_info) in [
        ("SCRIPT_NAME: /app\r\n", "/app", "/page"),
        ("Script_Name: /app\r\nSCRIPT_NAME: /app\r\n", "/app", "/page"),
        ("SCRIPT_NAME: /app/page\r\n", "/app/page", ""),
        ("SCRIPT_NAME: \r\n", "", "/app/page"),
        ("SCRIPT-NAME: /app\r\n", "", "/app/page"),
        ("PATH_INFO: /other\r\n", "", "/app/page"),
    ] {
        environ(&server, fields).expect(&[
            ("SCRIPT_NAME", script_name),
            ("PATH_INFO", path_info),
            ("RAW_URI", "/app/page"),
        ]);
    }
    expect_statuses(
        &server,
        &[("SCRIPT_NAME: /other\r\n", 500), ("SCRIPT_NAME: /app\r\nSCRIPT_NAME: /app/page\r\n", 400)],
    );
    let escaped = server.ask("GET /a%70p/caf%C3%A9?q=%20 HTTP/1.1\r\nHost: a\r\nSCRIPT_NAME: /a%70p\r\n\r\n");
    let values = [("SCRIPT_NAME", "/a%70p"), ("PATH_INFO", "/caf\u{c3}\u{a9}"), ("QUERY_STRING", "q=%20")];
    Environ::of(escaped).expect(&values);
}

/// The process' variable mounts all requests, but those that bring a mount of their own.
#[test]
fn the_mount_of_the_environment() {
    let server = serve("proxied", &["--env", "SCRIPT_NAME=/app"]);
    environ(&server, "").expect(&[("SCRIPT_NAME", "/app"), ("PATH_INFO", "/page")]);
    environ(&server, "SCRIPT_NAME: \r\n").expect(&[("SCRIPT_NAME", ""), ("PATH_INFO", "/app/page")]);
    server.get("/").expect_status(500);
    server.get("/app").expect_status(200);
    let program = Program::new(&["--bind", "127.0.0.1:0", "tests.apps.proxied:app"]).env("SCRIPT_NAME", "/app");
    environ(&Server::start(program), "").expect(&[("SCRIPT_NAME", "/app"), ("PATH_INFO", "/page")]);
}

#[test]
fn names_with_underscores() {
    let server = serve("proxied", &["--forwarder-headers", "REMOTE_USER", "--header-map", "refuse"]);
    environ(&server, "Remote_User: me\r\n").expect(&[("HTTP_REMOTE_USER", "me"), ("REMOTE_USER", "-")]);
    expect_statuses(&server, &[("X_User: me\r\n", 400), ("SCRIPT_NAME: /app\r\n", 400), ("X-User: me\r\n", 200)]);
    let server = serve("proxied", &[&STRANGERS[..], &["--forwarder-headers", "*", "--header-map", "refuse"]].concat());
    expect_statuses(&server, &[("Remote_User: me\r\n", 400), ("SCRIPT_NAME: /app\r\n", 400)]);
    let server = serve("proxied", &["--forwarder-headers", "*"]);
    environ(&server, "X_Any: 1\r\nSCRIPT_NAME: /app\r\n").expect(&[("HTTP_X_ANY", "1"), ("SCRIPT_NAME", "/app")]);
    // There is room for so many names; those behind follow the same rules.
    let mut client = server.connect();
    for round in 0..20 {
        let names: String = (0..60).map(|name| format!("X_{round}_{name}: x\r\n")).collect();
        let found = Environ::of(client.ask(request(&format!("{names}SCRIPT_name: /app\r\n"))));
        found.expect(&[(&format!("HTTP_X_{round}_59"), "x"), ("SCRIPT_NAME", "/app")]);
    }
}

/// waitress' model, for one proxy in front.
#[test]
fn who_the_client_is() {
    let names = "x-forwarded-for,x-forwarded-host,x-forwarded-proto,x-forwarded-port";
    let server = serve("proxied", &["--trusted-proxy-headers", names]);
    let port = server_port(&server);
    environ(&server, "X-Forwarded-For: 6.6.6.6, 192.0.2.9\r\n").expect(&[
        ("REMOTE_ADDR", "192.0.2.9"),
        ("REMOTE_HOST", "192.0.2.9"),
        ("REMOTE_PORT", "-"),
        ("HTTP_X_FORWARDED_FOR", "192.0.2.9"),
        ("HTTP_HOST", "site"),
        ("SERVER_PORT", &port),
    ]);
    environ(&server, "X-Forwarded-For: \"[2001:db8::9]:4242\"\r\n")
        .expect(&[("REMOTE_ADDR", "2001:db8::9"), ("REMOTE_PORT", "4242")]);
    for (fields, expected) in [
        ("X-Forwarded-Proto: HTTPS\r\n", ["https", "site", "127.0.0.1", "443"]),
        ("X-Forwarded-Host: a.example\r\n", ["http", "a.example", "a.example", &port]),
        ("X-Forwarded-Host: a.example\r\nX-Forwarded-Proto: https\r\n", ["https", "a.example", "a.example", "443"]),
        (
            "X-Forwarded-Host: a.example:8443\r\nX-Forwarded-Proto: https\r\n",
            ["https", "a.example:8443", "a.example", "8443"],
        ),
        ("X-Forwarded-Host: a.example\r\nX-Forwarded-Port: 8080\r\n", ["http", "a.example:8080", "a.example", "8080"]),
        ("X-Forwarded-Host: [::1]\r\nX-Forwarded-Port: 443\r\n", ["http", "[::1]:443", "[::1]", "443"]),
        ("X-Forwarded-Port: 81\r\n", ["http", "site", "127.0.0.1", "81"]),
        ("X-Forwarded-Proto: http\r\n", ["http", "site", "127.0.0.1", "80"]),
    ] {
        let found = environ(&server, fields);
        let keys = ["wsgi.url_scheme", "HTTP_HOST", "SERVER_NAME", "SERVER_PORT"];
        assert_eq!(keys.map(|key| found.get(key).unwrap_or("-")), expected, "{fields:?}");
    }
    expect_statuses(
        &server,
        &[
            ("X-Forwarded-For: 6.6.6.6, nobody\r\n", 400),
            ("X-Forwarded-For: 192.0.2.9,\r\n", 400),
            ("X-Forwarded-Host: a/b\r\n", 400),
            ("X-Forwarded-Proto: https, http\r\n", 400),
            ("X-Forwarded-Proto: https\r\nX-Forwarded-Proto: https\r\n", 400),
            ("X-Forwarded-Port: 80a\r\n", 400),
            ("X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n", 400),
            ("Forwarded: for=\r\n", 200),
        ],
    );
    let text = server.ask(request("X-Forwarded-For: nobody\r\n"));
    assert!(text.text().contains("malformed X-Forwarded-For"), "{}", text.text());
}

fn server_port(server: &Server) -> String {
    let address = server.addresses[0].to_string();
    address.rsplit(':').next().expect("a port").to_owned()
}

/// RFC 7239. What is not named is not believed, nor seen.
#[test]
fn forwarded_alone() {
    let server = serve("proxied", &["--trusted-proxy-headers", "forwarded", "--trusted-proxy-count", "2"]);
    let fields = "Forwarded: for=6.6.6.6;host=evil\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: http\r\n\
                  Forwarded: for=\"[2001:db8::9]:4242\";host=a.example;proto=https, for=10.0.0.1\r\n";
    environ(&server, fields).expect(&[
        ("REMOTE_ADDR", "2001:db8::9"),
        ("REMOTE_PORT", "4242"),
        ("HTTP_HOST", "a.example"),
        ("SERVER_NAME", "a.example"),
        ("SERVER_PORT", "443"),
        ("wsgi.url_scheme", "https"),
        ("HTTP_FORWARDED", "for=\"[2001:db8::9]:4242\";host=a.example;proto=https, for=10.0.0.1"),
        ("HTTP_X_FORWARDED_FOR", "-"),
        ("HTTP_X_FORWARDED_PROTO", "-"),
    ]);
    environ(&server, "Forwarded: for=unknown;proto=http\r\n")
        .expect(&[("REMOTE_ADDR", "unknown"), ("wsgi.url_scheme", "http")]);
    let only_other = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n";
    environ(&server, only_other).expect(&[("REMOTE_ADDR", "127.0.0.1"), ("wsgi.url_scheme", "http")]);
    expect_statuses(
        &server,
        &[
            ("Forwarded: for=6.6.6.6, for=\"10.0.0.1\r\n", 400),
            ("Forwarded: for=10.0.0.1;for=10.0.0.2\r\n", 400),
            ("Forwarded: for=10.0.0.1;proto=ftp\r\n", 400),
            ("Forwarded: nonsense\r\n", 400),
        ],
    );
}

/// What one request of a connection says is not believed of the next one.
#[test]
fn each_request_speaks_for_itself() {
    let server = serve("proxied", &["--trusted-proxy-headers", "x-forwarded-for,x-forwarded-proto"]);
    let mut client = server.connect();
    let port = client.local_port().to_string();
    for _ in 0..3 {
        let fields = "X-Forwarded-For: 192.0.2.9:1\r\nX-Forwarded-Proto: https\r\nSCRIPT_NAME: /app\r\n";
        Environ::of(client.ask(request(fields))).expect(&[
            ("REMOTE_ADDR", "192.0.2.9"),
            ("wsgi.url_scheme", "https"),
            ("PATH_INFO", "/page"),
        ]);
        Environ::of(client.ask(request(""))).expect(&[
            ("REMOTE_ADDR", "127.0.0.1"),
            ("REMOTE_PORT", &port),
            ("REMOTE_HOST", "-"),
            ("wsgi.url_scheme", "http"),
            ("PATH_INFO", "/app/page"),
            ("HTTP_X_FORWARDED_FOR", "-"),
        ]);
    }
}

/// Who may open the socket has been decided by its permissions.
#[test]
fn peers_of_a_unix_socket_are_believed() {
    let scratch = Scratch::new();
    let bind = format!("unix:{}", scratch.text("socket"));
    let options = ["--bind", &bind, "--forwarded-allow-ips", "", "--trusted-proxy-headers", "x-forwarded-for"];
    let server = serve("proxied", &options);
    environ(&server, "X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Ssl: on\r\n").expect(&[
        ("REMOTE_ADDR", "192.0.2.9"),
        ("REMOTE_PORT", "-"),
        ("wsgi.url_scheme", "https"),
        ("SERVER_NAME", "site"),
        ("SERVER_PORT", "443"),
    ]);
    environ(&server, "").expect(&[("REMOTE_ADDR", ""), ("SERVER_PORT", "80")]);
}

#[test]
fn the_access_log_shows_the_client() {
    let options = ["--trusted-proxy-headers", "x-forwarded-for", "--access-logformat", "%(h)s %(s)s"];
    let server = serve("proxied", &options);
    let mut client = server.connect();
    for fields in ["X-Forwarded-For: 6.6.6.6, 192.0.2.9\r\n", "", "X-Forwarded-For: 2001:db8::9\r\n"] {
        client.ask(request(fields)).expect_status(200);
    }
    assert_eq!(server.stop().stdout, "192.0.2.9 200\n127.0.0.1 200\n2001:db8::9 200\n");
}

/// The log of a request that takes too long has its client, too.
#[test]
fn the_client_of_a_late_request() {
    let options = ["--trusted-proxy-headers", "x-forwarded-for", "--timeout", "1", "--access-logformat", "%(h)s %(s)s"];
    let server = serve("proxied", &options);
    let gate = crate::harness::Gate::new();
    let late = format!("GET {} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n", gate.target("/wait"));
    server.ask(late).expect_status(504);
    wait_until("its line", || server.access_log().text().contains("192.0.2.9 504\n"));
    gate.open();
}

/// A body that the application reads as it comes does not delay what is known of the client.
#[test]
fn without_request_buffering() {
    let options = ["--trusted-proxy-headers", "x-forwarded-for", "--no-request-buffering"];
    let server = serve("proxied", &options);
    let post = |fields: &str| format!("POST /app HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{fields}\r\nhello");
    Environ::of(server.ask(post("X-Forwarded-For: 192.0.2.9\r\n"))).expect(&[("REMOTE_ADDR", "192.0.2.9")]);
    server.ask(post("X-Forwarded-For: nobody\r\n")).expect_status(400);
}

/// nginx with the file of examples/deploy: what its clients forge does not come through.
#[test]
fn behind_nginx() {
    let names = "x-forwarded-for,x-forwarded-host,x-forwarded-proto";
    let server = serve("proxied", &["--trusted-proxy-headers", names]);
    let nginx = Proxy::nginx(&server.addresses[0]);
    let mut client = Client::connect(&nginx.address);
    let forged = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n\
                  Forwarded: for=6.6.6.6\r\nSCRIPT_NAME: /app\r\nX_Forwarded_For: 6.6.6.6\r\n";
    let found = Environ::of(client.ask(request(forged)));
    found.expect(&[
        // It listens at a Unix socket here.
        ("REMOTE_ADDR", ""),
        ("HTTP_X_FORWARDED_FOR", "unix:"),
        ("wsgi.url_scheme", "http"),
        ("HTTP_HOST", "site"),
        ("SERVER_NAME", "site"),
        ("SCRIPT_NAME", ""),
        ("HTTP_FORWARDED", "-"),
    ]);
}
