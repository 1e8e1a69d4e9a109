//! Configuration files, the variables that are command lines, which of them wins, and what is said of wrong ones.

use nix::sys::signal::Signal;

use crate::harness::program::Finished;
use crate::harness::{Program, Scratch, Server, each, wait_until};

const APP: &str = "
import os

def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [os.environ.get('GREETING', 'none').encode()]
";

/// A folder with an application, `my_app:app`, and these files.
fn project(files: &[(&str, &str)]) -> Scratch {
    let scratch = Scratch::new();
    scratch.write("my_app.py", APP);
    for (name, text) in files {
        scratch.write(name, text);
    }
    scratch
}

fn program(scratch: &Scratch, arguments: &[&str]) -> Program {
    Program::new(arguments).directory(scratch.path(""))
}

/// The line of `--print-config` for this setting.
#[track_caller]
fn listed(program: Program, name: &str) -> String {
    let finished = program.run().expect_status(0);
    let line = finished.stdout.lines().find(|line| line.starts_with(&format!("{name} = ")));
    line.unwrap_or_else(|| panic!("no {name} in:\n{}", finished.stdout)).to_owned()
}

#[track_caller]
fn expect_sentence(finished: Finished, sentence: &str) {
    let finished = finished.expect_status(2);
    assert_eq!(finished.stderr.trim_end(), format!("error: {sentence}"));
}

const PRINT: [&str; 2] = ["--print-config", "my_app:app"];

#[test]
fn each_layer_beats_the_one_below() {
    let scratch = project(&[]);
    let workers = |environment: &[(&str, &str)], options: &[&str]| {
        let program = program(&scratch, &[options, &PRINT].concat());
        let program = environment.iter().fold(program, |program, (name, value)| program.env(name, value));
        listed(program, "workers")
    };
    assert_eq!(workers(&[], &[]), "workers = 1  # default");
    scratch.write("minicorn.toml", "workers = 2");
    assert_eq!(workers(&[], &[]), "workers = 2  # minicorn.toml");
    let concurrency = ("WEB_CONCURRENCY", "3");
    assert_eq!(workers(&[concurrency], &[]), "workers = 3  # WEB_CONCURRENCY");
    let gunicorn = ("GUNICORN_CMD_ARGS", "--workers 4 other:app");
    assert_eq!(workers(&[concurrency, gunicorn], &[]), "workers = 4  # GUNICORN_CMD_ARGS");
    let minicorn = ("MINICORN_CMD_ARGS", "-w5");
    assert_eq!(workers(&[concurrency, minicorn, gunicorn], &[]), "workers = 5  # MINICORN_CMD_ARGS");
    assert_eq!(workers(&[concurrency, minicorn, gunicorn], &["-w", "6"]), "workers = 6  # command line");
}

#[test]
fn a_list_of_a_higher_layer_replaces_that_of_a_lower_one() {
    let scratch = project(&[("gunicorn.conf.py", "raw_env = ['A=1', 'B=2']\nbind = [':1', ':2']")]);
    let list = |options: &[&str], name| listed(program(&scratch, &[options, &PRINT].concat()), name);
    assert_eq!(list(&[], "raw_env"), "raw_env = [\"A=1\", \"B=2\"]  # gunicorn.conf.py");
    assert_eq!(list(&["-e", "C=3"], "raw_env"), "raw_env = [\"C=3\"]  # command line");
    assert_eq!(list(&["--port", "8001"], "bind"), "bind = [\"127.0.0.1:8001\"]  # command line");
}

#[test]
fn which_file_is_found() {
    let scratch = project(&[
        ("pyproject.toml", "[project]\nname = 'x'\n[tool.minicorn]\nworkers = 2\n"),
        ("gunicorn.conf.py", "workers = 3"),
        ("minicorn.conf.py", "workers = 4"),
        ("minicorn.toml", "workers = 5"),
    ]);
    let workers = || listed(program(&scratch, &PRINT), "workers");
    for (name, count) in [("minicorn.toml", 5), ("minicorn.conf.py", 4), ("gunicorn.conf.py", 3), ("pyproject.toml", 2)]
    {
        assert_eq!(workers(), format!("workers = {count}  # {name}"));
        std::fs::remove_file(scratch.path(name)).expect("it was there");
    }
    // One of somebody else's, sound or not.
    for text in ["[project]\nname = 'x'\n", "[project\n"] {
        scratch.write("pyproject.toml", text);
        assert_eq!(workers(), "workers = 1  # default");
    }
}

#[test]
fn which_file_is_named() {
    let scratch = project(&[("minicorn.toml", "workers = 2"), ("a.toml", "workers = 3"), ("b", "workers = 4")]);
    scratch.write("c.py", "workers = 5");
    let workers = |environment: &[(&str, &str)], options: &[&str]| {
        let program = program(&scratch, &[options, &PRINT].concat());
        listed(environment.iter().fold(program, |program, (name, value)| program.env(name, value)), "workers")
    };
    let (gunicorn, minicorn) = (("GUNICORN_CMD_ARGS", "-c a.toml"), ("MINICORN_CMD_ARGS", "--config=file:c.py"));
    assert_eq!(workers(&[gunicorn], &[]), "workers = 3  # a.toml");
    assert_eq!(workers(&[gunicorn, minicorn], &[]), "workers = 5  # file:c.py");
    // As with gunicorn, whatever has another ending is Python.
    assert_eq!(workers(&[gunicorn, minicorn], &["-c", "b"]), "workers = 4  # b");
    assert_eq!(workers(&[], &["-c", "python:c"]), "workers = 5  # python:c");
    assert_eq!(workers(&[], &["-c", "none"]), "workers = 1  # default");
}

#[test]
fn a_server_as_a_python_file_says() {
    let text = "
import os
host, port = '127.0.0.1', 0
bind = f'{host}:{port}'
workers = int(os.environ.get('WORKERS', 2))
raw_env = ['GREETING=hello']
wsgi_app = 'my_app:app'
accesslog = None
";
    let scratch = project(&[("gunicorn.conf.py", text)]);
    let server = Server::start(program(&scratch, &[]));
    server.get("/").expect(200, "hello");
    assert_eq!(server.workers().len(), 2);
    server.stop().expect_status(0);
}

/// As with gunicorn, which runs it in the process of the server: a .env file that is loaded there, a path to the modules.
#[test]
fn what_a_python_file_does_to_its_process_is_there_for_the_application() {
    let effects = "
import os, sys
os.environ['GREETING'] = os.environ['GREETING'] + '!'
os.environ['OVERRULED'] = 'file'
del os.environ['SECRET']
sys.path.insert(0, 'before')
sys.path.append('behind')
raw_env = ['OVERRULED=setting']
";
    let app = "
import os, sys
import first, last

def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    found = [os.environ.get(name, 'none') for name in ('GREETING', 'OVERRULED', 'SECRET')]
    return [' '.join(found + [first.where, last.where]).encode()]
";
    let hooks = ["", "def post_fork(server, worker): pass\n", "def when_ready(server): pass\n"];
    each(&hooks, ToString::to_string, |hook| {
        let scratch = project(&[("gunicorn.conf.py", &format!("{effects}{hook}"))]);
        scratch.write("my_app.py", app);
        for (folder, module) in [("before", "first"), ("", "first"), ("behind", "last")] {
            std::fs::create_dir_all(scratch.path(folder)).expect("a folder");
            scratch.write(&format!("{folder}/{module}.py"), &format!("where = '{folder}'"));
        }
        let started = |options: &[&str]| {
            let options = [&["-b127.0.0.1:0", "my_app:app"], options].concat();
            program(&scratch, &options).env("GREETING", "hi").env("SECRET", "x")
        };
        started(&["--check-config"]).run().expect_status(0);
        let server = Server::start(started(&[]));
        server.get("/").expect(200, "hi! setting none before behind");
        server.stop().expect_status(0);
    });
}

/// What gunicorn ignores and nobody can have meant for a setting; values that are enums.
#[test]
fn a_python_file_has_names_of_its_own() {
    let text = "
import enum, logging
class Level(str, enum.Enum):
    LOUD = 'debug'
class Count(int, enum.Enum):
    FEW = 3
log = logging.getLogger('x')
debug = False
django_settings = 'shop.settings'
version, environment = 1, 'prod'
loglevel = Level.LOUD
header_map = 'DROP'
workers = Count.FEW
";
    let scratch = project(&[("gunicorn.conf.py", text)]);
    assert_eq!(listed(program(&scratch, &PRINT), "workers"), "workers = 3  # gunicorn.conf.py");
    assert_eq!(listed(program(&scratch, &PRINT), "loglevel"), "loglevel = \"debug\"  # gunicorn.conf.py");
    scratch.write("gunicorn.conf.py", "acces_log = '-'");
    let told =
        "gunicorn.conf.py: 'acces_log' is no setting, and nothing in the file uses it; did you mean 'accesslog'?";
    expect_sentence(program(&scratch, &PRINT).run(), told);
}

#[test]
fn a_server_as_a_toml_file_says() {
    let text = "bind = '127.0.0.1:0'\nworkers = 2\nwsgi-app = 'my_app:app'\n[env]\nGREETING = 'hello'\n";
    let scratch = project(&[("minicorn.toml", text)]);
    let server = Server::start(program(&scratch, &[]));
    server.get("/").expect(200, "hello");
    assert_eq!(server.workers().len(), 2);
    server.stop().expect_status(0);
}

#[test]
fn the_listing_is_a_file_that_says_the_same() {
    let scratch = project(&[]);
    let options = ["--bind=:1", "--env=A=b \"c\"", "--timeout=2.5", "--preload", "--access-logformat=%(h)s"];
    let first = program(&scratch, &[&options[..], &PRINT].concat()).run().expect_status(0).stdout;
    scratch.write("minicorn.toml", &first);
    let again = program(&scratch, &["--print-config"]).run().expect_status(0).stdout;
    let values = |listing: &str| -> Vec<String> {
        listing.lines().skip(1).map(|line| line.rsplit_once("  # ").expect("an origin").0.to_owned()).collect()
    };
    assert_eq!(values(&again), values(&first));
}

#[test]
fn wrong_files() {
    let cases: &[(&str, &str, &str)] = &[
        ("c.toml", "wokers = 4", "c.toml: unknown setting 'wokers'; did you mean 'workers'?"),
        ("c.toml", "workers = [1]", "invalid value '1' for workers in c.toml: it is a list, and one value is wanted"),
        (
            "c.toml",
            "post_fork = 'a.b'",
            "c.toml: 'post_fork' is a hook, and hooks need a configuration file in Python, such as minicorn.conf.py",
        ),
        ("c.py", "workers = 'many'", "invalid value 'many' for workers in c.py: it is neither a whole number nor auto"),
        (
            "c.py",
            "certfile = 'a'",
            "c.py: certfile: it is not offered: minicorn speaks no TLS, put nginx or HAProxy in front",
        ),
        (
            "c.py",
            "worker_class = 'gevent'",
            "invalid value 'gevent' for worker_class in c.py: minicorn has no green threads; take -k gthread with \
             --threads N, slow clients cost no thread here",
        ),
        (
            "c.py",
            "chdir = '/no/such/folder'",
            "invalid value '/no/such/folder' for chdir in c.py: No such file or directory (os error 2)",
        ),
    ];
    each(
        cases,
        |(name, text, _)| format!("{name}: {text}"),
        |(name, text, sentence)| {
            let scratch = project(&[(name, text)]);
            expect_sentence(program(&scratch, &["-c", name, "my_app:app"]).run(), sentence);
        },
    );
}

#[test]
fn a_file_that_cannot_be_read() {
    let scratch = project(&[("c.toml", "workers = 4\nbind = = 1\n"), ("c.py", "workers = nothing\n")]);
    let run = |name: &str| program(&scratch, &["-c", name, "my_app:app"]).run();
    let sentence = "the configuration file 'nope.py' cannot be read: No such file or directory (os error 2)";
    expect_sentence(run("nope.py"), sentence);
    run("c.toml").expect_status(2).expect_stderr(&["error: c.toml: line 2: it is not TOML: "]);
    let cause = "error: the configuration file 'c.py' fails: NameError: name 'nothing' is not defined\nTraceback";
    run("c.py").expect_status(2).expect_stderr(&[cause]);
}

#[test]
fn wrong_command_lines_in_the_environment() {
    let cases = [
        ("--no-such-option", "unexpected argument '--no-such-option' found"),
        (
            "--timeout soon",
            "invalid value 'soon' for '--timeout <SECONDS>': it is not a number of seconds such as 30 or 0.5",
        ),
        ("--env 'A=1", "a quotation mark is not closed"),
        ("--paste a.ini", "--paste: it is not offered: minicorn reads no Paste files"),
        ("--version", "--help and the like belong on the command line"),
    ];
    let scratch = project(&[]);
    for name in ["GUNICORN_CMD_ARGS", "MINICORN_CMD_ARGS"] {
        for (words, sentence) in cases {
            let finished = program(&scratch, &["my_app:app"]).env(name, words).run().expect_status(2);
            finished.expect_stderr(&[&format!("error: {name}: {sentence}")]);
        }
    }
}

#[test]
fn a_reload_reads_the_file_again() {
    let scratch = project(&[("gunicorn.conf.py", "workers = 1\nraw_env = ['GREETING=before']")]);
    let server = Server::start(program(&scratch, &["-b127.0.0.1:0", "my_app:app"]));
    server.get("/").expect(200, "before");
    scratch.write("gunicorn.conf.py", "workers = 2\nraw_env = ['GREETING=after']");
    server.signal(Signal::SIGHUP);
    wait_until("the new configuration", || server.workers().len() == 2 && server.get("/").body == b"after");
    for (name, text, told) in [
        ("gunicorn.conf.py", "workers = (", "the configuration file 'gunicorn.conf.py' fails: SyntaxError"),
        ("gunicorn.conf.py", "workers = 'x'", "invalid value 'x' for workers in gunicorn.conf.py"),
        ("minicorn.toml", "wokers = 3", "minicorn.toml: unknown setting 'wokers'"),
    ] {
        scratch.write(name, text);
        server.signal(Signal::SIGHUP);
        server.log().wait_for(told);
        server.get("/").expect(200, "after");
    }
    assert_eq!(server.workers().len(), 2);
    server.stop().expect_status(0);
}

/// The file lies where the server was started, wherever it has gone since.
#[test]
fn a_reload_finds_the_file_in_the_folder_of_the_start() {
    let elsewhere = project(&[]);
    let scratch = Scratch::new();
    let write = |greeting: &str| {
        let text = format!("chdir = '{}'\nraw_env = ['GREETING={greeting}']", elsewhere.text(""));
        scratch.write("gunicorn.conf.py", &text);
    };
    write("before");
    let server = Server::start(program(&scratch, &["-b127.0.0.1:0", "my_app:app"]));
    server.get("/").expect(200, "before");
    write("after");
    server.signal(Signal::SIGHUP);
    wait_until("the new configuration", || server.get("/").body == b"after");
    server.stop().expect_status(0);
}

#[test]
fn what_is_printed_without_settings() {
    let scratch = project(&[("minicorn.toml", "nonsense")]);
    for (options, start) in [
        (&["--print-reference"][..], "**Application**"),
        (&["--print-man"], ".ie"),
        (&["--print-completions", "bash"], "_minicorn()"),
        (&["--print-completions", "zsh"], "#compdef minicorn"),
        (&["--print-completions", "fish"], "complete -c minicorn"),
    ] {
        let finished = program(&scratch, options).env("GUNICORN_CMD_ARGS", "--nonsense").run().expect_status(0);
        assert!(finished.stdout.starts_with(start), "{}", finished.stdout);
    }
}

/// Where the server was started stays on `sys.path`, behind `--chdir`.
#[test]
fn the_folder_of_the_start_can_be_imported_from() {
    let scratch = project(&[]);
    std::fs::create_dir(scratch.path("inner")).expect("a folder");
    program(&scratch, &["--check-config", "--chdir", "inner", "my_app:app"]).run().expect_status(0);
    scratch.write("inner/my_app.py", "app = 'not callable'");
    program(&scratch, &["--check-config", "--chdir", "inner", "my_app:app"]).run().expect_status(4);
}

/// gunicorn's default, which is not ours.
#[test]
fn no_access_log_in_a_python_file_is_none() {
    let scratch = project(&[("gunicorn.conf.py", "accesslog = None\nerrorlog = None\n")]);
    assert_eq!(listed(program(&scratch, &PRINT), "accesslog"), "accesslog = \"none\"  # gunicorn.conf.py");
    assert_eq!(listed(program(&scratch, &PRINT), "errorlog"), "errorlog = \"-\"  # default");
}
