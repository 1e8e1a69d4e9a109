//! Finding Python, importing the app, and saying what is wrong when that fails.

use std::path::Path;

use crate::harness::program::Finished;
use crate::harness::server::app_path;
use crate::harness::{Program, ROOT, Scratch, Server, each, serve, virtual_environment};

/// Runs minicorn with an app that cannot be loaded.
fn fail(app: &str) -> Finished {
    Program::new(&["--bind", "127.0.0.1:0", app]).run()
}

/// What tests/apps/interpreter.py says of its surroundings.
fn interpreter(server: &Server) -> serde_json::Value {
    serde_json::from_slice(&server.get("/").expect_status(200).body).expect("JSON")
}

#[test]
fn every_form_of_a_name() {
    let cases = [
        ("tests.apps.forms:app", "app"),
        ("tests.apps.forms", "application"),
        ("tests.apps.only_app", "app"),
        ("tests.apps.forms:holder.inner.app", "attribute"),
        ("tests.apps.forms:instance", "instance"),
        ("tests.apps.forms:ClassApp", "class"),
        ("tests.apps.forms:create_app()", "((), {})"),
        (r#"tests.apps.forms:create_app("x", debug=True)"#, "(('x',), {'debug': True})"),
        ("tests.apps.forms:create_app(1, [2.5, None], {'a': (-3,)})", "((1, [2.5, None], {'a': (-3,)}), {})"),
    ];
    each(
        &cases,
        |(app, _)| (*app).to_owned(),
        |(app, answer)| {
            serve(app, &[]).get("/").expect(200, answer);
        },
    );
}

#[test]
fn what_cannot_be_found_is_named() {
    let cases: &[(&str, &[&str])] = &[
        ("no_such_module:app", &["no_such_module"]),
        ("tests.apps.no_such_module:app", &["tests.apps.no_such_module"]),
        ("tests.apps.forms:no_such_name", &["no_such_name", "tests.apps.forms"]),
        ("tests.apps.forms:holder.nowhere.app", &["nowhere"]),
        ("string", &["application", "app", "string"]),
        ("tests.apps.forms:not_callable", &["not_callable", "callable", "int"]),
        ("tests.apps.forms:create_none()", &["create_none", "callable", "None"]),
        ("tests.apps.forms:holder", &["holder", "callable"]),
        ("tests.apps.forms:no_such_factory()", &["no_such_factory"]),
        ("tests.apps.forms:create_app(open('/'))", &["create_app(open('/'))", "literal"]),
        ("tests.apps.forms:create_app(", &["create_app("]),
        ("tests.apps.forms:app + 1", &["app + 1"]),
        ("tests.apps.forms:", &["tests.apps.forms:"]),
        (":app", &[":app"]),
        ("tests/apps/forms.py:app", &["tests/apps/forms.py"]),
    ];
    each(cases, |(app, _)| (*app).to_owned(), |(app, named)| drop(fail(app).expect_status(4).expect_stderr(named)));
}

#[test]
fn near_misses_are_offered() {
    fail("tests.apps.forms:ap").expect_status(4).expect_stderr(&["did you mean 'app'"]);
    fail("tests.apps.forms:aplication").expect_status(4).expect_stderr(&["did you mean 'application'"]);
    fail("tests.apps.forms:holder.iner.app").expect_status(4).expect_stderr(&["did you mean 'inner'"]);
    fail("tests.apps.form:app").expect_status(4).expect_stderr(&["tests.apps.form"]);
}

#[test]
fn import_errors_come_with_their_traceback() {
    let texts = ["Traceback (most recent call last)", "broken.py", "LookupError: the database is not configured"];
    fail(&app_path("broken")).expect_status(4).expect_stderr(&texts);
    fail(&app_path("broken_syntax")).expect_status(4).expect_stderr(&["broken_syntax.py", "SyntaxError"]);
    let texts = ["Traceback", "create_broken", "LookupError: the factory is not configured"];
    fail("tests.apps.forms:create_broken()").expect_status(4).expect_stderr(&texts);
}

/// Four workers fail in the same way; the operator reads about it once.
#[test]
fn an_import_error_is_told_once() {
    let finished = Program::new(&["--bind", "127.0.0.1:0", "--workers", "4", &app_path("broken")]).run();
    let finished = finished.expect_status(4);
    assert_eq!(finished.count("LookupError: the database is not configured"), 1, "{}", finished.stderr);
    assert_eq!(finished.count("Traceback"), 1, "{}", finished.stderr);
}

#[test]
fn a_process_that_ends_while_importing() {
    let finished = Program::new(&["--bind", "127.0.0.1:0", "--workers", "2", &app_path("crash_at_import")]).run();
    finished.expect_status(3).expect_stderr(&["exited with status 9"]);
}

#[test]
fn a_missing_package_says_which_python_looked_for_it() {
    let python = virtual_environment().join("bin/python");
    let texts = ["a_package_that_is_not_installed", python.to_str().expect("UTF-8")];
    fail(&app_path("missing_import")).expect_status(4).expect_stderr(&texts);
    fail("flask_is_not_here:app").expect_status(4).expect_stderr(&[texts[1]]);
}

// Where Python looks.

#[test]
fn the_working_directory_comes_first() {
    let scratch = Scratch::new();
    scratch.write(
        "wsgiref.py",
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'mine']\n",
    );
    let program = Program::new(&["--bind", "127.0.0.1:0", "wsgiref"]).directory(scratch.path(""));
    Server::start(program).get("/").expect(200, "mine");
}

#[test]
fn options_for_the_application() {
    let options =
        ["--chdir", "tests/apps", "--pythonpath", "/first,/second", "-e", "A=1", "--env", "B=x=y", "-e", "C="];
    let arguments = [&["--bind", "127.0.0.1:0"][..], &options, &["interpreter:app"]].concat();
    let seen = interpreter(&Server::start(Program::new(&arguments).env("A", "outer")));
    assert_eq!(seen["cwd"], format!("{ROOT}/tests/apps"));
    let path: Vec<_> = seen["path"].as_array().expect("a list").iter().filter_map(|entry| entry.as_str()).collect();
    let place =
        |entry: &str| path.iter().position(|found| *found == entry).unwrap_or_else(|| panic!("{entry}: {path:?}"));
    assert!(place("/first") < place("/second") && place("/second") < place(path[path.len() - 1]), "{path:?}");
    for (name, value) in [("A", "1"), ("B", "x=y"), ("C", "")] {
        assert_eq!(seen["env"][name], value, "{name}");
    }
}

#[test]
fn python_is_embedded_as_if_it_had_been_started() {
    let seen = interpreter(&serve("interpreter", &[]));
    let environment = virtual_environment();
    assert_eq!(seen["executable"].as_str(), environment.join("bin/python").to_str());
    assert_eq!(seen["prefix"].as_str(), environment.to_str());
    assert_eq!(seen["cwd"], ROOT);
    assert_eq!(seen["main_thread"], true);
    assert!(seen["argv"][0].as_str().is_some_and(|name| name.ends_with("minicorn")), "{}", seen["argv"]);
}

/// A virtual environment of its own, with one module in it; `python3` on PATH is another one.
struct Environment(Scratch);

impl Environment {
    fn create() -> Environment {
        let scratch = Scratch::new();
        let python = virtual_environment().join("bin/python");
        let command = ["-m", "venv", "--without-pip", &scratch.text("venv")];
        let made = std::process::Command::new(python).args(command).status().expect("python -m venv");
        assert!(made.success());
        let environment = Environment(scratch);
        let content = "from tests.apps.interpreter import app\n";
        std::fs::write(environment.site_packages().join("only_in_this_venv.py"), content).expect("a module");
        environment
    }

    fn path(&self) -> String {
        self.0.text("venv")
    }

    fn site_packages(&self) -> std::path::PathBuf {
        let library = self.0.path("venv/lib");
        let python =
            std::fs::read_dir(library).expect("a lib directory").next().expect("one Python").expect("readable");
        python.path().join("site-packages")
    }

    #[track_caller]
    fn is_used_by(&self, program: Program) {
        let server = Server::start(program);
        assert_eq!(interpreter(&server)["prefix"], self.path());
    }
}

const ONLY_IN_THIS_VENV: [&str; 3] = ["--bind", "127.0.0.1:0", "only_in_this_venv:app"];

#[test]
fn the_virtual_environment_that_is_active() {
    let environment = Environment::create();
    environment.is_used_by(Program::new(&ONLY_IN_THIS_VENV).env("VIRTUAL_ENV", environment.path()));
}

#[test]
fn the_python_that_is_asked_for() {
    let environment = Environment::create();
    let python = format!("{}/bin/python", environment.path());
    environment.is_used_by(Program::new(&[&["--python", &python], &ONLY_IN_THIS_VENV[..]].concat()));
}

#[test]
fn a_venv_in_the_working_directory() {
    let environment = Environment::create();
    std::fs::rename(environment.path(), environment.0.path(".venv")).expect("another name");
    std::os::unix::fs::symlink(".venv", environment.path()).expect("the old name");
    let program = Program::new(&[&ONLY_IN_THIS_VENV[..2], &["--pythonpath", ROOT, ONLY_IN_THIS_VENV[2]]].concat());
    let server = Server::start(program.without_env("VIRTUAL_ENV").directory(environment.0.path("")));
    assert_eq!(interpreter(&server)["prefix"], environment.0.text(".venv"));
}

#[test]
fn the_wrong_environment_is_named() {
    let finished = Program::new(&ONLY_IN_THIS_VENV).run().expect_status(4);
    let python = virtual_environment().join("bin/python");
    finished.expect_stderr(&["only_in_this_venv", python.to_str().expect("UTF-8")]);
}

/// Nothing in CPython compares the two: another version's library would be imported, and fail somewhere deep.
#[test]
fn a_virtual_environment_of_another_python_version() {
    let environment = Environment::create();
    let file = Path::new(&environment.path()).join("pyvenv.cfg");
    let content = std::fs::read_to_string(&file).expect("pyvenv.cfg");
    let lines = content.lines().map(|line| if line.starts_with("version") { "version = 3.2.6" } else { line });
    std::fs::write(&file, lines.collect::<Vec<_>>().join("\n")).expect("pyvenv.cfg changed");
    let finished = Program::new(&ONLY_IN_THIS_VENV).env("VIRTUAL_ENV", environment.path()).run().expect_status(3);
    let finished = finished.expect_stderr(&[&environment.path(), "3.2", "3."]);
    assert!(!finished.stderr.contains("Traceback"), "{}", finished.stderr);
    assert_eq!(finished.count("3.2"), 1, "{}", finished.stderr);
}

#[test]
fn a_python_that_does_not_exist() {
    let finished = Program::new(&[&["--python", "/no/such/python"], &ONLY_IN_THIS_VENV[..]].concat()).run();
    finished.expect_stderr(&["/no/such/python"]);
}

#[test]
fn c_extensions_of_packages() {
    let file = serve("c_extension", &[]).get("/").text().to_owned();
    assert!(file.starts_with(virtual_environment().to_str().expect("UTF-8")) && file.ends_with(".so"), "{file}");
}
