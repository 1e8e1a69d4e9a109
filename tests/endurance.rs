//! Many requests, and much garbage: nothing dies, nothing grows.

use crate::harness::{Client, process, serve};

#[test]
fn a_thousand_requests_on_one_connection() {
    let server = serve("echo", &["--access-logfile", "none"]);
    let mut client = server.connect();
    for number in 0..1000 {
        let body = format!("number {number}");
        let length = body.len();
        client.ask(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}")).expect(200, &body);
    }
}

#[test]
fn many_connections_at_once() {
    let server = serve("hello", &["--access-logfile", "none", "--workers", "2"]);
    let mut clients: Vec<Client> = (0..500).map(|_| server.connect()).collect();
    for _ in 0..2 {
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        }
        for client in &mut clients {
            client.receive().expect(200, "Hello, world!\n");
        }
    }
}

/// The same names and paths over and over would hide a cache that grows with what clients choose: each is new here.
#[test]
fn memory_stays_level_over_200_000_requests() {
    const BATCH: usize = 100;
    let server = serve("hello", &["--access-logfile", "none"]);
    let worker = server.workers()[0];
    let mut client = server.connect();
    let mut run = |requests: std::ops::Range<usize>| {
        for start in requests.step_by(BATCH) {
            let request =
                |number| format!("GET /{number}?{number} HTTP/1.1\r\nHost: a\r\nX-{number}: {number}\r\n\r\n");
            client.send((start..start + BATCH).map(request).collect::<String>());
            (0..BATCH).for_each(|_| assert_eq!(client.receive().status, 200));
        }
    };
    run(0..20_000);
    let before = process::resident_bytes(worker);
    run(20_000..200_000);
    let growth = process::resident_bytes(worker).saturating_sub(before);
    assert!(growth < 1024 * 1024, "{growth} bytes more after 180,000 requests");
}

/// Every kind of ending, with bodies and without: nothing of a connection stays behind.
#[test]
fn memory_stays_level_over_5_000_connections() {
    let server = serve("big", &["--access-logfile", "none"]);
    let worker = server.workers()[0];
    let request = "GET /?bytes=100000 HTTP/1.1\r\nHost: a\r\n\r\n";
    let run = |count: usize| {
        for number in 0..count {
            let mut client = server.connect();
            client.send(&request[..request.len() - number % 2]);
            match number % 4 {
                0 => assert_eq!(client.receive().body.len(), 100_000),
                2 => client.reset(),
                _ => drop(client),
            }
        }
        server.get("/?bytes=4");
    };
    run(1000);
    let before = process::resident_bytes(worker);
    run(4000);
    let growth = process::resident_bytes(worker).saturating_sub(before);
    assert!(growth < 2 * 1024 * 1024, "{growth} bytes more after 4,000 connections");
}

/// xorshift64*: the same garbage in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next().to_le_bytes()[7]).collect()
    }

    /// Half of it is noise, half nearly a request: the noise does not get far into a parser.
    fn garbage(&mut self) -> Vec<u8> {
        const SEEDS: [&str; 4] = [
            "GET /path?query HTTP/1.1\r\nHost: a\r\nCookie: a=b\r\nConnection: keep-alive\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n",
            "OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        ];
        if self.below(2) == 0 {
            let count = self.below(4096);
            return self.bytes(count);
        }
        let mut request = SEEDS[self.below(SEEDS.len())].repeat(1 + self.below(3)).into_bytes();
        for _ in 0..1 + self.below(4) {
            let place = self.below(request.len());
            match self.below(4) {
                0 => request[place] = self.bytes(1)[0],
                1 => drop(request.remove(place)),
                2 => request.insert(place, b"\r\n\0 \t:;,0f"[self.below(10)]),
                _ => request.truncate(place.max(1)),
            }
        }
        request
    }
}

#[test]
fn garbage_on_2_000_connections() {
    let server = serve("echo", &["--access-logfile", "none", "--workers", "2"]);
    let workers = server.workers();
    let mut random = Random(0x6d69_6e69_636f_726e);
    for _ in 0..2000 {
        let mut client = server.connect();
        // The server may have refused and closed before all was sent.
        let _ = client.try_send(random.garbage());
        match random.below(3) {
            0 => client.reset(),
            1 => drop(client),
            _ => client.end_and_drain(),
        }
    }
    let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok";
    server.ask(request).expect(200, "ok");
    assert_eq!(server.workers(), workers, "a worker died");
    assert!(!server.log().text().contains("panicked"), "{}", server.log().text());
}
