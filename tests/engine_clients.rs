//! Many clients at once, most of them slow or silent (DESIGN §1, P1).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Client, Program, Server, SetAtEnd};

/// Starts a server that may have so many connections, and lets this process have as many.
#[track_caller]
fn serve_many(app: &str, connections: usize) -> Server {
    let descriptors = connections + 1000;
    raise_own_limit(descriptors + 2000);
    let (limit, count) = (format!("--nofile={descriptors}"), connections.to_string());
    let options = ["--bind", "127.0.0.1:0", "--access-logfile", "none", "--worker-connections", &count];
    let arguments = [&options[..], &["--header-timeout", "0", "--body-timeout", "0", app]].concat();
    Server::start(Program::under(&["prlimit", &limit], &arguments))
}

/// The tests run in one process: its limit is only ever raised, and then belongs to all of them.
#[track_caller]
fn raise_own_limit(descriptors: usize) {
    let pid = std::process::id().to_string();
    let limits = |arguments: &[&str]| {
        let command = std::process::Command::new("prlimit").args(["--pid", &pid]).args(arguments).output();
        let output = command.expect("starting prlimit");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let hard = limits(&["--nofile", "--output=HARD", "--noheadings"]);
    let hard: usize = hard.trim().parse().unwrap_or(usize::MAX);
    assert!(hard >= descriptors, "this test needs {descriptors} descriptors, and may have {hard}");
    limits(&[&format!("--nofile={}:", hard.min(1 << 20))]);
}

/// Each of them sends a byte now and then and never ends; half of them in a head, half in a body.
#[test]
fn two_thousand_clients_that_dribble() {
    let server = serve_many("tests.apps.echo:app", 2100);
    let mut dribblers: Vec<Client> = (0..2000).map(|_| server.connect()).collect();
    for (number, client) in dribblers.iter_mut().enumerate() {
        client.send(match number % 2 {
            0 => "GET / HTTP/1.1\r\nX-Long: ",
            _ => "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n",
        });
    }
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for part in (0..20).cycle().take_while(|_| !is_over.load(Ordering::Relaxed)) {
                for client in &mut dribblers[part * 100..][..100] {
                    // A connection that was given up fails the check below, not this thread.
                    let _ = client.try_send("x");
                }
                // Each sends one byte a second.
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let _end = SetAtEnd(&is_over);
        let slowest = ask_200_times(&server);
        assert!(slowest.is_some_and(|slowest| slowest < Duration::from_secs(1)), "{slowest:?}");
    });
    let given_up = dribblers.iter().filter(|client| !client.is_quiet()).count();
    assert_eq!(given_up, 0, "of the connections that dribble");
}

/// How long the slowest of 200 requests took, half of them on fresh connections; none if an answer was wrong.
fn ask_200_times(server: &Server) -> Option<Duration> {
    let mut client = server.connect();
    let mut slowest = Duration::ZERO;
    for number in 0..200 {
        if number % 2 == 0 {
            client = server.connect();
        }
        let body = number.to_string();
        let start = Instant::now();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        let response = client.ask_or_end(head + &body)?;
        slowest = slowest.max(start.elapsed());
        if response.body != body.as_bytes() {
            return None;
        }
    }
    Some(slowest)
}

#[test]
fn ten_thousand_idle_connections() {
    let server = serve_many("tests.apps.hello:app", 10_000);
    let mut clients: Vec<Client> = (0..10_000).map(|_| server.connect()).collect();
    for round in 0..2 {
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let response = client.receive();
            assert_eq!((response.status, response.text()), (200, "Hello, world!\n"), "{number} in round {round}");
        }
    }
}
