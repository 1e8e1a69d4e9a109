//! `--log-syslog`: both logs as RFC 3164 records, over every kind of socket, and nobody waits for it.

use std::net::TcpListener;
use std::os::unix::net::{UnixDatagram, UnixListener};

use nix::sys::signal::Signal;

use crate::harness::collector::Collector;
use crate::harness::{Scratch, Server, serve, shape, wait_until};

/// `reply` with its logs at this syslog; the access log goes nowhere else.
#[track_caller]
fn serve_to(address: &str, options: &[&str]) -> Server {
    let common =
        ["--log-syslog", "--log-syslog-to", address, "--log-syslog-prefix", "site", "--access-logfile", "none"];
    serve("named", &[&common[..], &["--access-logformat", "%(r)s"], options].concat())
}

fn udp(collector: &Collector) -> String {
    format!("udp://{}", collector.host_and_port())
}

#[test]
fn records_are_as_gunicorns_handler_writes_them() {
    let collector = Collector::udp();
    let server = serve_to(&udp(&collector), &["--log-level", "debug"]);
    let pid = server.workers()[0];
    server.get("/path");
    assert_eq!(collector.wait_for("site.access"), format!("<14>minicorn.site.access: [{pid}] GET /path HTTP/1.1"));
    let start = collector.wait_for("listening on");
    assert!(start.starts_with(&format!("<14>minicorn.site.error: [{}] ", server.master)), "{start}");
    assert!(collector.wait_for("] ready").starts_with(&format!("<15>minicorn.site.error: [{pid}] ")));
    // The file, here standard error, has all of it, too.
    server.log().wait_for("listening on");
    server.get("/?raise");
    let raised = collector.wait_for("the application raised");
    let begin = format!("<11>minicorn.site.error: [{pid}] GET /?raise: the application raised\\x0aTraceback (most");
    assert!(raised.starts_with(&begin) && raised.ends_with("\\x0aRuntimeError: raised by the application"), "{raised}");
    let severities: Vec<_> = collector.messages().iter().map(|message| shape(&message[..5])).collect();
    assert!(severities.iter().all(|severity| severity == "<00>m"), "{severities:?}");
}

#[test]
fn facility_name_and_what_goes_there() {
    let collector = Collector::udp();
    let address = udp(&collector);
    let options =
        ["--log-syslog", "--log-syslog-to", &address, "--log-syslog-facility", "local3", "--proc-name", "a:b c"];
    let server = serve("hello", &[&options[..], &["--disable-redirect-access-to-syslog"]].concat());
    server.get("/");
    server.access_log().wait_for("GET / ");
    server.stop().expect_status(0);
    let messages = collector.messages();
    assert!(!messages.is_empty());
    assert!(messages.iter().all(|message| message.starts_with("<158>minicorn.a.b.c.error: [")), "{messages:?}");
}

#[test]
fn every_kind_of_socket() {
    let scratch = Scratch::new();
    let collectors = [
        (Collector::unix(&scratch.path("dgram")), format!("unix://{}#dgram", scratch.text("dgram"))),
        (Collector::unix(&scratch.path("either")), format!("unix://{}", scratch.text("either"))),
        (Collector::unix_stream(&scratch.path("stream")), format!("unix://{}#stream", scratch.text("stream"))),
        (Collector::unix_stream(&scratch.path("second")), format!("unix://{}", scratch.text("second"))),
    ];
    let tcp = Collector::tcp();
    let address = format!("tcp://{}", tcp.host_and_port());
    for (collector, address) in collectors.into_iter().chain([(tcp, address)]) {
        let server = serve_to(&address, &["--workers", "2"]);
        let mut client = server.connect();
        for number in 0..20 {
            client.get(&format!("/request-{number}"));
        }
        for number in 0..20 {
            collector.wait_for(&format!("] GET /request-{number} HTTP/1.1"));
        }
        server.get("/?raise");
        collector.wait_for("RuntimeError: raised by the application");
        server.stop().expect_status(0);
        // No record is broken by those of another process.
        assert!(collector.messages().iter().all(|message| message.starts_with('<')), "{address}");
    }
}

/// Syslog goes and comes again. What was logged meanwhile arrives then, unless a stream had taken it before it broke.
#[test]
fn it_is_found_again() {
    let scratch = Scratch::new();
    let path = scratch.path("log");
    let (dgram, stream) = (Collector::unix(&path), Collector::tcp());
    let stream_address = stream.address.expect("a port");
    let servers =
        [serve_to(&format!("unix://{}", path.display()), &[]), serve_to(&format!("tcp://{stream_address}"), &[])];
    for (server, collector) in servers.iter().zip([dgram, stream]) {
        server.get("/before");
        collector.wait_for("GET /before ");
    }
    std::fs::remove_file(&path).expect("its socket");
    servers.iter().for_each(|server| _ = server.get("/between").expect_status(200));
    let collectors = [Collector::unix(&path), Collector::tcp_at(stream_address)];
    for (server, collector) in servers.iter().zip(&collectors) {
        wait_until("a record after it", || {
            server.get("/after").expect_status(200);
            collector.messages().iter().any(|message| message.contains("GET /after "))
        });
    }
    collectors[0].wait_for("GET /between ");
}

/// Neither one that is not there, nor one that takes nothing any more, costs a request; but it is said, now and then.
#[test]
fn a_syslog_that_does_not_work_hurts_nobody() {
    let scratch = Scratch::new();
    let full = UnixDatagram::bind(scratch.path("full")).expect("a free path");
    let stuck = UnixListener::bind(scratch.path("stuck")).expect("a free path");
    let refused = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("its number");
    let addresses = [
        format!("unix://{}", scratch.text("missing")),
        format!("unix://{}", scratch.text("full")),
        format!("unix://{}#stream", scratch.text("stuck")),
        format!("tcp://{refused}"),
        format!("udp://{refused}"),
        "udp://no-such-host.invalid:514".to_owned(),
    ];
    for address in &addresses {
        let server = serve_to(address, &[]);
        let mut client = server.connect();
        let target = format!("/{}", "x".repeat(3000));
        for _ in 0..400 {
            client.get(&target).expect_status(200);
        }
        let is_silent = address.starts_with("udp://127");
        if !is_silent {
            server.log().wait_for("does not take what is sent there");
        }
        let finished = server.stop().expect_status(0);
        let told = finished.count("does not take what is sent there");
        assert!(told <= 8 && (told > 0 || is_silent), "{address}: told {told} times");
    }
    drop((full, stuck));
}

/// It is what the configuration says after a reload; and SIGUSR1 connects anew.
#[test]
fn settings_are_those_of_the_generation() {
    let scratch = Scratch::new();
    let (first, second) = (Collector::udp(), Collector::unix(&scratch.path("log")));
    let write = |address: &str| scratch.write("conf.py", &format!("syslog = True\nsyslog_addr = '{address}'\n"));
    let config = write(&udp(&first));
    let server = serve("hello", &["--config", &config, "--access-logfile", "none"]);
    server.get("/one");
    first.wait_for("GET /one ");
    write(&format!("unix://{}", scratch.text("log")));
    server.signal(Signal::SIGHUP);
    second.wait_for("minicorn.tests.apps.hello.app.error: ");
    wait_until("a request of the new generation", || {
        server.get("/two");
        second.messages().iter().any(|message| message.contains("GET /two "))
    });
    drop(second);
    std::fs::remove_file(scratch.path("log")).expect("its socket");
    let third = Collector::unix(&scratch.path("log"));
    server.signal(Signal::SIGUSR1);
    third.wait_for("log files opened anew");
    server.get("/three");
    third.wait_for("GET /three ");
}

#[test]
fn workers_of_a_template_log_there_too() {
    let collector = Collector::tcp();
    let server = serve_to(&format!("tcp://{}", collector.host_and_port()), &["--preload", "--workers", "2"]);
    server.get("/?errors");
    collector.wait_for("written by the application");
    collector.wait_for("GET /?errors ");
    server.stop().expect_status(0);
    assert!(collector.messages().iter().all(|message| message.starts_with('<')));
}

/// What waits while there is no room is the master's to send, not that of the workers it forks, and a reload loses none
/// of it.
#[test]
fn what_waits_is_sent_once() {
    let scratch = Scratch::new();
    let path = scratch.path("log");
    let queue = UnixDatagram::bind(&path).expect("a free path");
    queue.set_nonblocking(true).expect("a socket");
    let take = || -> Vec<String> {
        let mut room = [0; 4096];
        let record =
            |room: &mut [u8]| queue.recv(room).map(|count| String::from_utf8_lossy(&room[..count]).into_owned());
        std::iter::from_fn(|| record(&mut room).ok()).collect()
    };
    let filler = UnixDatagram::unbound().expect("a socket");
    filler.set_nonblocking(true).expect("a socket");
    while filler.send_to(b"filler", &path).is_ok() {}
    let address = format!("unix://{}#dgram", scratch.text("log"));
    let options = ["--log-syslog-to", &address, "--disable-redirect-access-to-syslog", "--workers", "2"];
    let server = serve("hello", &[&["--log-syslog"], &options[..]].concat());
    server.signal(Signal::SIGHUP);
    server.log().wait_for("generation 2 serves");
    let mut records = take();
    // Each of the workers looks whether something waits.
    for _ in 0..20 {
        server.get("/").expect_status(200);
    }
    records.extend(take());
    server.stop().expect_status(0);
    records.extend(take());
    for text in ["listening on", "SIGHUP: reloading", "generation 2 serves", "stopped"] {
        let count = records.iter().filter(|record| record.contains(text)).count();
        assert_eq!(count, 1, "{text}: {records:#?}");
    }
}
