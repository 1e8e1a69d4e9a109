//! The commands that need no process: what they refuse, and what they want done.

use super::*;
use crate::master::{ChildView, Tally};

fn view(stage: ServerStage) -> View {
    let pid = Pid::from_raw(71);
    let child =
        |number, phase| ChildView { slot: number, number, pid, generation: 1, phase, forked_at: Instant::now() };
    View {
        tally: Tally::default(),
        stage,
        wanted: 2,
        ready: 1,
        generation: 1,
        is_reloading: false,
        workers_max: 5,
        reloads: 4,
        last_reload: None,
        children: vec![
            child(1, "ready"),
            ChildView { pid: Pid::from_raw(72), ..child(2, "starting") },
            ChildView { pid: Pid::from_raw(73), ..child(0, "ready") },
        ],
    }
}

fn asked(view: &View, request: &str) -> (String, Vec<Wish>) {
    let scoreboard = Scoreboard::new(4).expect("shared memory");
    let (listeners, started_at) = (Vec::new(), Instant::now());
    let server = Server { view, scoreboard: &scoreboard, started_at, listeners, settings: None, stacks: None };
    let mut wishes = Vec::new();
    match answer(request.as_bytes(), &server, &mut wishes) {
        Answer::Reply(reply) => (String::from_utf8(reply).expect("JSON is text"), wishes),
        Answer::NeedMore => ("more".to_owned(), wishes),
        Answer::Later(_) => ("later".to_owned(), wishes),
    }
}

#[test]
fn orders_and_what_is_refused() {
    let view = view(ServerStage::Serving);
    let pid = Pid::from_raw(71);
    for (command, arguments, reply, wishes) in [
        ("workers", r#"["+1"]"#, r#"{"ok":{"workers":3}}"#, &[Wish::Workers(3)][..]),
        ("workers", r#"["-1"]"#, r#"{"ok":{"workers":1}}"#, &[Wish::Workers(1)]),
        ("workers", r#"["5"]"#, r#"{"ok":{"workers":5}}"#, &[Wish::Workers(5)]),
        ("workers", r#"["-2"]"#, r#"{"error":"the last worker stays"}"#, &[]),
        ("workers", r#"["6"]"#, r#"{"error":"6 workers: there is room for 5 until a restart"}"#, &[]),
        ("workers", r#"["+-1"]"#, r#"{"error":"workers +-1: +N, -N or N is wanted"}"#, &[]),
        (
            "workers",
            r#"["+4294967295"]"#,
            r#"{"error":"4294967295 workers: there is room for 5 until a restart"}"#,
            &[],
        ),
        ("reload", "[]", r#"{"ok":{"reload":5}}"#, &[Wish::Reload]),
        ("stop", "[]", r#"{"ok":{"stopping":2}}"#, &[Wish::Stop]),
        ("stop", r#"["quick"]"#, r#"{"ok":{"stopping":2}}"#, &[Wish::StopAtOnce]),
        ("stop", r#"["later"]"#, r#"{"error":"there is no command stop later"}"#, &[]),
        ("recycle", r#"["71"]"#, r#"{"ok":{"worker":1}}"#, &[Wish::Recycle(pid)]),
        ("recycle", r#"["72"]"#, r#"{"error":"worker 2 (pid 72) is starting and not ready"}"#, &[]),
        ("recycle", r#"["73"]"#, r#"{"error":"the process 73 is not a worker"}"#, &[]),
        ("recycle", r#"["1"]"#, r#"{"error":"there is no worker with the pid 1"}"#, &[]),
        ("recycle", "[]", r#"{"error":"recycle: the pid of one worker is wanted"}"#, &[]),
        ("reopen", "[]", r#"{"ok":null}"#, &[Wish::ReopenLogs]),
        ("dance", "[]", r#"{"error":"there is no command dance"}"#, &[]),
    ] {
        let request = format!(r#"{{"command": "{command}", "args": {arguments}}}"#);
        assert_eq!(asked(&view, &request), ("more".to_owned(), vec![]), "{request}");
        let expected = (format!("{reply}\n"), wishes.to_vec());
        assert_eq!(asked(&view, &format!("{request}\n")), expected, "{request}");
    }
}

#[test]
fn what_is_no_request() {
    let view = view(ServerStage::Serving);
    for request in
        ["\n", "status\n", "[]\n", "{\"command\": 1}\n", "{\"command\": \"stop\", \"args\": \"quick\"}\n", "\u{0}\n"]
    {
        let (reply, wishes) = asked(&view, request);
        assert_eq!(reply, "{\"error\":\"the request is not a line of JSON with a command\"}\n", "{request:?}");
        assert_eq!(wishes, []);
    }
}

#[test]
fn a_server_that_stops_takes_no_orders_but_to_stop_at_once() {
    let view = view(ServerStage::Stopping);
    for command in [r#""workers", "args": ["+1"]"#, r#""reload""#, r#""recycle", "args": ["71"]"#] {
        let (reply, wishes) = asked(&view, &format!("{{\"command\": {command}}}\n"));
        assert_eq!((reply.as_str(), wishes), ("{\"error\":\"the server is stopping\"}\n", vec![]), "{command}");
    }
    assert_eq!(asked(&view, "{\"command\": \"stop\", \"args\": [\"quick\"]}\n").1, [Wish::StopAtOnce]);
}
