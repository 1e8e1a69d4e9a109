//! Python's logging: gunicorn's loggers write to the error log, `--log-config` sends both logs through them; and what the
//! application writes to its standard streams.

use nix::sys::signal::Signal;

use crate::harness::server::app_path;
use crate::harness::{Program, Scratch, Server, serve, wait_until};

fn file(scratch: &Scratch, name: &str) -> String {
    std::fs::read_to_string(scratch.path(name)).unwrap_or_default()
}

#[test]
fn gunicorns_loggers_write_to_the_error_log() {
    let server = serve("python_logging", &[]);
    server.get("/").expect(200, "ok");
    let log = server.log().text();
    let line = log.lines().find(|line| line.contains("careful")).expect("the line");
    assert!(line.contains("[WARNING] worker=1 pid=") && line.ends_with("careful with 3"), "{line}");
    assert!(log.contains("[ERROR] worker=1") && log.contains("\tValueError: wrong"), "with its traceback\n{log}");
    // By way of the application's own logger.
    assert!(log.contains("through the application"), "{log}");
    assert!(!log.contains("not worth a line"), "below the level\n{log}");
}

/// Each form of the configuration, and in all of them both logs, opened anew after a rotation.
#[test]
fn a_configuration_of_logging_gets_both_logs() {
    for form in ["ini", "json", "dict", "text"] {
        let scratch = Scratch::new();
        let target = scratch.text("python.log");
        let json = format!(
            r#"{{"version": 1, "root": {{"level": "INFO", "handlers": ["h"]}},
                "formatters": {{"f": {{"format": "PY %(name)s %(levelname)s %(message)s"}}}},
                "handlers": {{"h": {{"class": "logging.FileHandler", "filename": "{target}", "formatter": "f"}}}},
                "loggers": {{"gunicorn.error": {{"handlers": ["h"], "propagate": false, "level": "DEBUG"}},
                             "gunicorn.access": {{"handlers": ["h"], "propagate": false, "level": "INFO"}}}}}}"#
        );
        let ini = format!(
            "[loggers]\nkeys=root,error,access\n[handlers]\nkeys=h\n[formatters]\nkeys=f\n\
             [logger_root]\nlevel=INFO\nhandlers=h\n\
             [logger_error]\nlevel=DEBUG\nhandlers=h\npropagate=0\nqualname=gunicorn.error\n\
             [logger_access]\nlevel=INFO\nhandlers=h\npropagate=0\nqualname=gunicorn.access\n\
             [handler_h]\nclass=FileHandler\nformatter=f\nargs=('{target}',)\n\
             [formatter_f]\nformat=PY %(name)s %(levelname)s %(message)s\n"
        );
        let config = format!("logconfig_dict = {}\n", json.replace("false", "False"));
        let option = match form {
            "ini" => ["--log-config".to_owned(), scratch.write("log.ini", &ini)],
            "json" => ["--log-config-json".to_owned(), scratch.write("log.json", &json)],
            "dict" => ["--config".to_owned(), scratch.write("gunicorn.conf.py", &config)],
            _ => ["--log-config-dict".to_owned(), json],
        };
        let app = app_path("hello");
        let options = [&option[0], &option[1], "--bind", "127.0.0.1:0", "--access-logfile", "none", &app];
        let server = Server::start(Program::new(&options));
        server.get("/first").expect(200, "Hello, world!\n");
        wait_until("a line", || {
            file(&scratch, "python.log").contains("PY gunicorn.access INFO [")
                && file(&scratch, "python.log").contains("GET /first HTTP/1.1\" 200")
        });
        std::fs::rename(scratch.path("python.log"), scratch.path("old.log")).expect("the log is there");
        server.signal(Signal::SIGUSR1);
        wait_until("another file", || scratch.path("python.log").exists());
        server.get("/second").expect(200, "Hello, world!\n");
        wait_until("a line", || file(&scratch, "python.log").contains("GET /second"));
        server.stop().expect_status(0);
        assert!(!file(&scratch, "old.log").contains("/second"), "{form}");
    }
}

/// What formatters and filters that were written for gunicorn look at.
#[test]
fn records_of_requests_have_gunicorns_atoms() {
    let scratch = Scratch::new();
    let target = scratch.text("python.log");
    scratch.write(
        "forms.py",
        "import logging\n\
         class Atoms(logging.Formatter):\n    def format(self, record):\n        a = record.args\n        \
         return '|'.join(map(repr, [a['h'], a['l'], a['u'], a['r'], a['m'], a['U'], a['q'], a['H'], a['s'], a['b'], a['B'], a['f'],\n            \
         a['a'], a['{X-One}i'], a['{content-type}o'], a['{none}i'], a['none'], type(a['D']).__name__, a['T'], a['t'][0], record.getMessage()]))\n\
         class NoProbes(logging.Filter):\n    def filter(self, record):\n        return record.args['U'] != '/probe'\n",
    );
    let config = format!(
        "access_log_format = '%(m)s %(U)s %({{x-one}}i)s'\n\
         logconfig_dict = {{'version': 1, 'formatters': {{'f': {{'()': 'forms.Atoms'}}}}, 'filters': {{'n': {{'()': 'forms.NoProbes'}}}},\n\
         'handlers': {{'h': {{'class': 'logging.FileHandler', 'filename': '{target}', 'formatter': 'f', 'filters': ['n']}},\n\
         'e': {{'class': 'logging.StreamHandler'}}}}, 'root': {{'handlers': ['e']}},\n\
         'loggers': {{'gunicorn.access': {{'handlers': ['h'], 'propagate': False, 'level': 'INFO'}}}}}}\n",
    );
    let file_name = scratch.write("gunicorn.conf.py", &config);
    let server = serve("hello", &["-c", &file_name, "--pythonpath", &scratch.text(".")]);
    server.get("/probe").expect(200, "Hello, world!\n");
    let head = "GET /a%20b%25d?x=%41%s HTTP/1.1\r\nHost: a\r\nX-One: 1 \"%s\"\r\nUser-Agent: me\r\n\r\n";
    server.ask(head).expect(200, "Hello, world!\n");
    wait_until("a line", || !file(&scratch, "python.log").is_empty());
    server.stop().expect_status(0);
    let expected = r#"'127.0.0.1'|'-'|'-'|'GET /a%20b%25d?x=%41%s HTTP/1.1'|'GET'|'/a b%d'|'x=%41%s'|'HTTP/1.1'|'200'|'14'|14|'-'|'me'|"#
        .to_owned()
        + r#"'1 \\"%s\\"'|'text/plain'|'-'|'-'|'int'|0|'['|'GET /a b%d 1 \\"%s\\"'"#
        + "\n";
    assert_eq!(file(&scratch, "python.log"), expected);
}

/// As people keep probes out of the access log: from a hook of the master, from one of the worker, from the application.
#[test]
fn filters_of_gunicorns_access_logger_count() {
    for hook in ["on_starting(server)", "post_worker_init(worker)", "post_fork(server, worker)"] {
        for is_file in [true, false] {
            let scratch = Scratch::new();
            let config = format!(
                "import logging\n\
                 class NoProbes(logging.Filter):\n    def filter(self, record):\n        \
                 return record.args['U'] != '/probe' and '/other' not in record.getMessage()\n\
                 def {hook}:\n    logging.getLogger('gunicorn.access').addFilter(NoProbes())\n"
            );
            let file_name = scratch.write("gunicorn.conf.py", &config);
            let target = if is_file { scratch.text("access.log") } else { "-".to_owned() };
            let server = serve("hello", &["-c", &file_name, "--access-logfile", &target]);
            for path in ["/probe", "/other", "/page"] {
                server.get(path).expect(200, "Hello, world!\n");
            }
            let finished = server.stop().expect_status(0);
            let text = if is_file { file(&scratch, "access.log") } else { finished.stdout };
            assert!(text.contains("\"GET /page HTTP/1.1\" 200 14 "), "{hook} {text}");
            assert!(!text.contains("/probe") && !text.contains("/other"), "{hook} {text}");
        }
    }
}

/// Import hooks of tracers and the like do that.
#[test]
fn gunicorns_loggers_are_there_though_somebody_has_looked_for_logging_before() {
    let scratch = Scratch::new();
    let config = "import sys\nassert 'logging' not in sys.modules\nimport importlib.util\nassert importlib.util.find_spec('logging').loader.get_source('logging')\n\
                  def post_fork(server, worker):\n    import logging\n    logging.getLogger('gunicorn.error').info('BRIDGED')\n";
    let file_name = scratch.write("gunicorn.conf.py", config);
    let server = serve("hello", &["-c", &file_name]);
    server.log().wait_for("[INFO] worker=1");
    server.log().wait_for("BRIDGED");
    server.stop().expect_status(0);
}

/// Tracebacks and timeouts go there as well, from threads that have no Python.
#[test]
fn the_error_log_of_a_worker_goes_through_python() {
    let scratch = Scratch::new();
    let config = format!(
        "logconfig_dict = {{'formatters': {{'f': {{'format': 'PY %(levelname)s %(process)d %(message)s'}}}},\n\
         'handlers': {{'h': {{'class': 'logging.FileHandler', 'filename': '{}', 'formatter': 'f'}}}},\n\
         'loggers': {{'gunicorn.error': {{'handlers': ['h'], 'propagate': False, 'level': 'INFO'}}}},\n\
         'root': {{'level': 'INFO', 'handlers': ['h']}}}}\n\
         def worker_exit(server, worker):\n    worker.log.info('bye')\n",
        scratch.text("python.log")
    );
    let file_name = scratch.write("gunicorn.conf.py", &config);
    let server = serve("stuck", &["-c", &file_name, "--timeout", "0.5"]);
    let worker = server.workers()[0];
    assert_eq!(server.get("/no-such-path").status, 500);
    assert_eq!(server.get("/sleep").status, 504);
    wait_until("the end of the worker", || file(&scratch, "python.log").contains(&format!("PY INFO {worker} bye")));
    let log = file(&scratch, "python.log");
    assert!(log.contains(&format!("PY ERROR {worker} GET /no-such-path: the application raised")), "{log}");
    assert!(log.contains(&format!("PY ERROR {worker} GET /sleep: no response from the application")), "{log}");
    let own = server.stop().expect_status(0).stderr;
    assert!(own.contains("[INFO] master") && !own.contains("the application raised"), "{own}");
}

#[test]
fn a_configuration_of_logging_that_is_wrong_is_named() {
    let scratch = Scratch::new();
    let wrong = scratch.write("log.json", r#"{"handlers": {"h": {"class": "no.such.Handler"}}}"#);
    for (option, value, text) in
        [("--log-config-json", wrong.as_str(), "no.such.Handler"), ("--log-config", "/no/such.ini", "it is not there")]
    {
        let app = app_path("hello");
        let finished = Program::new(&[option, value, "--bind", "127.0.0.1:0", &app]).run().expect_status(3);
        finished.expect_stderr(&[&format!("{option} {value}"), text]);
    }
}

#[test]
fn captured_output_goes_to_the_error_log() {
    let scratch = Scratch::new();
    let log = scratch.text("error.log");
    let app = app_path("python_logging");
    let mut running =
        Program::new(&["--capture-output", "--error-logfile", &log, "--bind", "127.0.0.1:0", &app]).spawn();
    wait_until("the server", || file(&scratch, "error.log").contains("listening on"));
    let text = file(&scratch, "error.log");
    assert!(text.contains("printed at the import") && text.contains("a program's line"), "{text}");
    assert!(!running.has_ended());
    std::fs::rename(&log, scratch.path("old.log")).expect("the log is there");
    crate::harness::process::signal(running.pid, Signal::SIGUSR1);
    wait_until("another file", || file(&scratch, "error.log").contains("opened anew"));
    let address = text.split("http://").nth(1).and_then(|rest| rest.split([',', ' ']).next()).expect("an address");
    let address = crate::harness::Address::Tcp(address.parse().expect("an address"));
    wait_until("a line in the new file", || {
        crate::harness::Client::connect(&address).get("/").expect(200, "ok");
        file(&scratch, "error.log").contains("printed for a request")
    });
    crate::harness::process::signal(running.pid, Signal::SIGTERM);
    let finished = running.wait().expect_status(0);
    assert!(!finished.stdout.contains("printed"), "{}", finished.stdout);
}

#[test]
fn captured_output_without_a_file_goes_to_standard_error() {
    let server = serve("python_logging", &["--capture-output"]);
    server.get("/").expect(200, "ok");
    let finished = server.stop().expect_status(0);
    assert!(finished.stderr.contains("printed at the import") && finished.stderr.contains("printed for a request"));
    // The access log is none of the application's.
    assert!(finished.stdout.contains("GET / HTTP/1.1") && !finished.stdout.contains("printed"));
}

#[test]
fn a_server_in_the_background_keeps_inherited_streams() {
    for (option, is_kept) in [("--enable-stdio-inheritance=true", true), ("--enable-stdio-inheritance=false", false)] {
        let scratch = Scratch::new();
        let (pid_file, output) = (scratch.text("pid"), scratch.text("output"));
        let app = app_path("python_logging");
        let target = std::fs::File::create(&output).expect("a file");
        let log = scratch.text("error.log");
        let options = ["--daemon", option, "--error-logfile", &log, "--pid", &pid_file];
        let program = Program::new(&[&options[..], &["--bind", "127.0.0.1:0", &app]].concat());
        let mut front = program.stdout(target).spawn();
        wait_until("the start", || front.has_ended());
        let log = file(&scratch, "error.log");
        let address = log.split("http://").nth(1).and_then(|rest| rest.split([',', ' ']).next()).expect("an address");
        let address = crate::harness::Address::Tcp(address.parse().expect("an address"));
        crate::harness::Client::connect(&address).get("/").expect(200, "ok");
        let master = file(&scratch, "pid").trim().parse().expect("a number");
        let master = nix::unistd::Pid::from_raw(master);
        crate::harness::process::signal(master, Signal::SIGTERM);
        wait_until("the end of the server", || !crate::harness::process::is_running(master));
        assert_eq!(file(&scratch, "output").contains("printed for a request"), is_kept, "{option}");
    }
}

#[test]
fn every_line_of_python_can_be_told() {
    let server = serve("hello", &["--spew", "--threads", "2"]);
    server.get("/").expect(200, "Hello, world!\n");
    server.access_log().wait_for("tests.apps.hello:6:     return [b\"Hello, world!\\n\"]");
    server.stop().expect_status(0);
}
