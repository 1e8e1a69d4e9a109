//! `--reload`: a file is saved, and the next request is answered by the new code.

use std::path::Path;

use nix::sys::signal::Signal;

use crate::harness::{Program, ROOT, Response, Scratch, Server, process, wait_for, wait_until};

/// An application in a folder of its own.
struct Project(Scratch);

/// A module whose application answers this expression.
fn answering(imports: &str, expression: &str) -> String {
    format!(
        "{imports}\n\ndef app(environ, start_response):\n    start_response('200 OK', [('Content-Type', 'text/plain')])\n    \
         return [({expression}).encode()]\n"
    )
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Project {
        let project = Project(Scratch::new());
        files.iter().for_each(|(name, content)| project.save(name, content));
        project
    }

    /// Writes a file in place.
    fn save(&self, name: &str, content: &str) {
        let path = self.0.path(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, content).expect("writing into this test's directory");
    }

    /// Writes it as editors do that never leave half a file.
    fn replace(&self, name: &str, content: &str) {
        let (temporary, path) = (self.0.path(&format!("{name}.tmp~")), self.0.path(name));
        std::fs::write(&temporary, content).expect("writing into this test's directory");
        std::fs::rename(temporary, path).expect("another name");
    }

    fn program(&self, options: &[&str]) -> Program {
        let arguments = [&["--bind", "127.0.0.1:0", "--reload"], options, &["main:app"]].concat();
        // Compiled code must be possible to be in the way.
        Program::new(&arguments).directory(self.0.path("")).without_env("PYTHONDONTWRITEBYTECODE")
    }

    #[track_caller]
    fn serve(&self, options: &[&str]) -> Server {
        Server::start(self.program(options))
    }
}

/// Asks until this is the answer.
#[track_caller]
fn wait_for_answer(server: &Server, body: &str) {
    wait_until(&format!("the answer {body:?}"), || {
        let response = server.get("/");
        response.status == 200 && response.text() == body
    });
}

/// All workers have started.
#[track_caller]
fn wait_for_idle(server: &Server, count: usize) {
    wait_until("the workers", || {
        let titles = server.workers().into_iter().map(|worker| std::fs::read(format!("/proc/{worker}/cmdline")));
        let is_idle = |title: &[u8]| title.windows(6).any(|word| word == b"[idle]");
        titles.filter(|title| title.as_ref().is_ok_and(|title| is_idle(title))).count() == count
    });
}

#[track_caller]
fn wait_for_error_page(server: &Server, text: &str) -> Response {
    wait_for(&format!("{text:?} in an error page"), || {
        Some(server.get("/")).filter(|response| response.status == 500 && response.text().contains(text))
    })
}

const ENGINES: [&str; 3] = ["auto", "inotify", "poll"];

/// Of several changes at once, and of several workers that see them, one line tells.
#[test]
fn a_change_is_told() {
    for engine in ENGINES {
        let project = Project::new(&[("main.py", &answering("import words", "words.WORD")), ("words.py", "WORD = ''")]);
        let server = project.serve(&["--reload-engine", engine, "--workers", "2"]);
        wait_for_idle(&server, 2);
        project.save("words.py", "WORD = 'two'");
        project.save("main.py", &answering("import words", "words.WORD + ' and more'"));
        server.log().wait_for("changed, reloading");
        assert_eq!(server.log().count("changed, reloading"), 1);
    }
}

#[test]
fn a_saved_file_is_served() {
    for engine in ENGINES {
        let project = Project::new(&[("main.py", &answering("", "'one'"))]);
        let server = project.serve(&["--reload-engine", engine]);
        server.get("/").expect(200, "one");
        project.save("main.py", &answering("", "'two and more'"));
        wait_for_answer(&server, "two and more");
        server.log().wait_for("main.py changed, reloading");
        project.save("main.py", &answering("", "'three'"));
        wait_for_answer(&server, "three");
    }
}

#[test]
fn a_file_that_is_replaced_is_served() {
    for engine in ENGINES {
        let project = Project::new(&[("main.py", &answering("", "'one'"))]);
        let server = project.serve(&["--reload-engine", engine]);
        for word in ["two", "three", "four"] {
            project.replace("main.py", &answering("", &format!("'{word}'")));
            wait_for_answer(&server, word);
        }
    }
}

/// All workers see a change; one of them says so.
#[test]
fn several_workers_reload_once() {
    let project = Project::new(&[("main.py", &answering("import os", "f'one {os.getpid()}'"))]);
    let server = project.serve(&["--workers", "3"]);
    wait_for_idle(&server, 3);
    let before = server.workers();
    project.save("main.py", &answering("import os", "f'two {os.getpid()}'"));
    wait_until("other workers", || {
        let now = server.workers();
        now.len() == 3 && !now.iter().any(|worker| before.contains(worker))
    });
    assert!(server.get("/").text().starts_with("two"));
    assert_eq!(server.log().count("changed, reloading"), 1);
}

#[test]
fn modules_of_packages() {
    let main = answering("from outer.inner import words", "words.WORD");
    let files = [
        ("main.py", main.as_str()),
        ("outer/__init__.py", ""),
        ("outer/inner/__init__.py", ""),
        ("outer/inner/words.py", "WORD = 'one'"),
    ];
    let project = Project::new(&files);
    let server = project.serve(&[]);
    server.get("/").expect(200, "one");
    project.save("outer/inner/words.py", "WORD = 'two and more'");
    wait_for_answer(&server, "two and more");
    project.save("outer/inner/__init__.py", "from . import words; words.WORD = 'three'");
    wait_for_answer(&server, "three");
}

#[test]
fn a_module_that_a_request_imports() {
    for engine in ENGINES {
        let main = answering("import importlib", "importlib.import_module('lazy').WORD");
        let project = Project::new(&[("main.py", &main), ("lazy.py", "WORD = 'one'")]);
        let server = project.serve(&["--reload-engine", engine]);
        server.get("/").expect(200, "one");
        // Perhaps before the module has been found: it is known which version of it was read.
        project.save("lazy.py", "WORD = 'two and more'");
        wait_for_answer(&server, "two and more");
        project.save("lazy.py", "WORD = 'three'");
        wait_for_answer(&server, "three");
    }
}

#[test]
fn files_that_are_no_modules() {
    for engine in ENGINES {
        let main = answering("", "open('page.html').read() if False else PAGE") + "PAGE = open('page.html').read()\n";
        let project = Project::new(&[("main.py", &main), ("page.html", "one"), ("other.html", "")]);
        let options =
            ["--reload-engine", engine, "--reload-extra-file", "page.html", "--reload-extra-file", "later/file.txt"];
        let server = project.serve(&options);
        server.get("/").expect(200, "one");
        project.save("page.html", "two and more");
        wait_for_answer(&server, "two and more");
        server.log().wait_for("page.html changed, reloading");
        project.save("later/file.txt", "");
        server.log().wait_for("later/file.txt changed, reloading");
    }
}

/// Compiled code would pass for that of the new source: its second and its size are the same.
#[test]
fn a_change_of_the_same_length_in_the_same_second() {
    let project =
        Project::new(&[("main.py", &answering("from word import WORD", "WORD")), ("word.py", "WORD = '000'")]);
    let server = project.serve(&[]);
    for number in 1..=8 {
        project.save("word.py", &format!("WORD = '{number:03}'"));
        wait_for_answer(&server, &format!("{number:03}"));
    }
}

/// Sources that have not changed lately are not compiled again and again.
#[test]
fn compiled_code_is_used() {
    let main = answering("import old", "old.__cached__");
    let project = Project::new(&[("main.py", &main), ("old.py", "")]);
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let file = std::fs::File::options().write(true).open(project.0.path("old.py")).expect("the module");
    file.set_modified(past).expect("another time");
    let server = project.serve(&[]);
    let compiled = server.get("/").text().to_owned();
    assert!(Path::new(&compiled).exists(), "{compiled}");
    // A source as new as this one has none.
    let main = project.0.path("__pycache__").join(compiled.rsplit_once('/').expect("a path").1.replace("old", "main"));
    assert!(!main.exists(), "{}", main.display());
}

// What cannot be loaded.

#[test]
fn a_syntax_error_is_shown_and_mended() {
    for engine in ENGINES {
        let project = Project::new(&[("main.py", &answering("", "'one'"))]);
        let server = project.serve(&["--reload-engine", engine, "--workers", "2"]);
        wait_for_idle(&server, 2);
        project.save("main.py", "def app(environ, start_response:\n    return [b'<b>']\n");
        let page = wait_for_error_page(&server, "SyntaxError");
        // Until then the other worker has the old code.
        server.log().wait_for("generation 2 serves");
        assert_eq!(page.value("Content-Type"), Some("text/html; charset=utf-8"));
        assert!(page.text().contains("main.py") && page.text().contains("&quot;, line 1"), "{}", page.text());
        let head = server.ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((head.status, head.value("Content-Length")), (500, page.value("Content-Length")));
        server.ask("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").expect_status(500);
        wait_for_idle(&server, 2);
        assert_eq!(server.log().count("SyntaxError"), 1);
        project.save("main.py", &answering("", "'two'"));
        wait_for_answer(&server, "two");
    }
}

/// At the very first start there is no worker with older code.
#[test]
fn an_application_that_cannot_be_loaded_from_the_start() {
    let project = Project::new(&[("main.py", "import words\n1 / 0\n"), ("words.py", "")]);
    let server = project.serve(&["--workers", "2"]);
    let page = wait_for_error_page(&server, "ZeroDivisionError");
    assert!(page.text().contains("Traceback") && page.text().contains("main.py"), "{}", page.text());
    wait_for_idle(&server, 2);
    server.log().wait_for("every request is answered with this error");
    assert_eq!(server.log().count("Traceback"), 1);
    project.save("main.py", &answering("", "'mended'"));
    wait_for_answer(&server, "mended");
    server.stop().expect_status(0);
}

#[test]
fn what_a_module_imports_is_mended() {
    let project = Project::new(&[("main.py", &answering("import words", "words.WORD")), ("words.py", "WORD = (")]);
    let server = project.serve(&[]);
    wait_for_error_page(&server, "words.py");
    project.save("words.py", "WORD = 'mended'");
    wait_for_answer(&server, "mended");
}

#[test]
fn a_module_that_is_missing_and_comes() {
    for engine in ENGINES {
        let project = Project::new(&[("main.py", &answering("import words", "words.WORD"))]);
        let server = project.serve(&["--reload-engine", engine]);
        wait_for_error_page(&server, "words");
        project.save("words.py", "WORD = 'there'");
        wait_for_answer(&server, "there");
    }
}

#[test]
fn the_application_itself_is_missing_and_comes() {
    let project = Project::new(&[("words/one.py", "")]);
    let server = project.serve(&[]);
    wait_for_error_page(&server, "no module named &#x27;main&#x27;".replace("&#x27;", "'").as_str());
    project.save("main.py", &answering("from words import two", "two.WORD"));
    wait_for_error_page(&server, "cannot import name");
    // A package that has no `__init__.py`, and gets one.
    project.save("words/two.py", "WORD = 'there'");
    wait_for_answer(&server, "there");
    project.save("words/__init__.py", "from . import two; two.WORD = 'in a package'");
    wait_for_answer(&server, "in a package");
}

/// A file that an import reads while it is not there.
#[test]
fn what_an_import_opens_is_missing_and_comes() {
    let main = answering("WORD = open('settings.ini').read()", "WORD");
    let project = Project::new(&[("main.py", &main)]);
    let server = project.serve(&[]);
    wait_for_error_page(&server, "settings.ini");
    project.save("settings.ini", "there");
    wait_for_answer(&server, "there");
}

/// The second file is saved when the new worker has just read it as it was, and goes on importing.
#[test]
fn a_file_that_is_saved_during_the_import() {
    let main = |word: &str| {
        let imports = "import os, time\ndef stop(name):\n    open(name + '-reached', 'w').close()\n    \
                       while not os.path.exists(name):\n        time.sleep(0.005)\n\
                       stop('before')\nimport words\nstop('behind')\n";
        answering(imports, &format!("'{word} ' + words.WORD"))
    };
    let files = [("main.py", &*main("a")), ("words.py", "WORD = 'one'"), ("before", ""), ("behind", "")];
    let project = Project::new(&files);
    let server = project.serve(&[]);
    server.get("/").expect(200, "a one");
    for name in ["before-reached", "behind-reached", "before", "behind"] {
        std::fs::remove_file(project.0.path(name)).expect("a file of this test");
    }
    project.save("main.py", &main("b"));
    wait_until("the import", || project.0.path("before-reached").exists());
    project.save("before", "");
    wait_until("the import of the second file", || project.0.path("behind-reached").exists());
    project.save("words.py", "WORD = 'two and more'");
    project.save("behind", "");
    wait_for_answer(&server, "b two and more");
}

// What it leaves alone.

#[test]
fn without_the_option_nothing_is_watched() {
    let project = Project::new(&[("main.py", "1 / 0\n")]);
    let arguments = ["--bind", "127.0.0.1:0", "main:app"];
    let finished = Program::new(&arguments).directory(project.0.path("")).run();
    finished.expect_status(4).expect_stderr(&["ZeroDivisionError"]);
    let arguments = ["--bind", "127.0.0.1:0", "tests.apps.hello:app"];
    let server = Server::start(Program::new(&arguments).directory(ROOT));
    assert!(!thread_names(&server).iter().any(|name| name == "minicorn-watch"));
}

/// The other files of a folder are none of the application's: not its log, its database, or its compiled code.
#[test]
fn other_files_do_not_matter() {
    let project = Project::new(&[("main.py", &answering("", "'one'")), ("page.html", "")]);
    let server = project.serve(&["--reload-extra-file", "page.html"]);
    let workers = server.workers();
    for name in ["app.log", "other.py", "main.pyc", "main.py~"] {
        project.save(name, "something");
    }
    // This one does, and comes behind them.
    project.save("page.html", "something");
    server.log().wait_for("changed, reloading");
    assert_eq!(server.log().count("page.html changed, reloading"), 1);
    wait_until("another worker", || server.workers().iter().all(|worker| !workers.contains(worker)));
}

/// One look at inotify for each folder, not for each file; and no descriptor for either.
#[test]
fn few_watches() {
    let project = Project::new(&[("main.py", &answering("import json, email.message, http.client", "'one'"))]);
    let server = project.serve(&[]);
    let worker = server.workers()[0];
    let watches = wait_for("watches", || Some(inotify_watches(worker)).filter(|&count| count > 1));
    assert!(watches < 40, "{watches} folders");
    assert_eq!(watches, wait_for("watches", || Some(inotify_watches(worker))));
}

fn inotify_watches(worker: nix::unistd::Pid) -> usize {
    let entries = std::fs::read_dir(format!("/proc/{worker}/fdinfo")).expect("the worker runs");
    let texts = entries.filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok());
    texts.map(|text| text.lines().filter(|line| line.starts_with("inotify ")).count()).sum()
}

fn thread_names(server: &Server) -> Vec<String> {
    let threads = server.workers().into_iter().flat_map(process::threads);
    threads.filter_map(|thread| Some(std::fs::read_to_string(thread.join("comm")).ok()?.trim().to_owned())).collect()
}

/// Neither its wait nor its signals are of concern to the worker.
#[test]
fn a_worker_that_watches_leaves_at_once() {
    for engine in ENGINES {
        let project = Project::new(&[("main.py", &answering("", "'one'"))]);
        // Killing the worker takes longer than the test waits.
        let server = project.serve(&["--reload-engine", engine, "--graceful-timeout", "3600"]);
        let worker = server.workers()[0];
        let watch = wait_for("the thread", || {
            let is_watch = |thread: &&std::path::PathBuf| {
                std::fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim() == "minicorn-watch")
            };
            process::threads(worker).iter().find(is_watch).cloned()
        });
        let status = std::fs::read_to_string(watch.join("status")).expect("the thread runs");
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).expect("a mask");
        let blocked = u64::from_str_radix(blocked, 16).expect("a mask");
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD, Signal::SIGUSR1] {
            assert_eq!(blocked >> (signal as i32 - 1) & 1, 1, "{signal}");
        }
        server.stop().expect_status(0);
    }
}

/// With no room for inotify left, files are polled, unless that was forbidden. The limits are those of a namespace that the
/// server has to itself.
#[test]
fn without_room_for_inotify() {
    for limit in ["max_inotify_instances", "max_inotify_watches"] {
        let project = Project::new(&[("main.py", &answering("", "'one'"))]);
        let set_and_start = format!("echo 0 > /proc/sys/user/{limit} && exec \"$@\"");
        let wrapper = ["unshare", "--user", "--map-root-user", "sh", "-c", &set_and_start, "sh"];
        let start = |engine| {
            let arguments = ["--bind", "127.0.0.1:0", "--reload", "--reload-engine", engine, "main:app"];
            Server::start(Program::under(&wrapper, &arguments).directory(project.0.path("")))
        };
        let [server, refused] = ["auto", "inotify"].map(start);
        server.log().wait_for("files are polled for changes: inotify");
        refused.log().wait_for("changes are not noticed any more: --reload-engine inotify: ");
        refused.get("/").expect(200, "one");
        project.save("main.py", &answering("", "'two and more'"));
        wait_for_answer(&server, "two and more");
        refused.get("/").expect(200, "one");
    }
}
