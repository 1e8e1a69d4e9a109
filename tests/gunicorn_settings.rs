//! Every setting of gunicorn 27.0.1, one row each: the same here, different, or refused. The page docs/gunicorn.md is made
//! from the rows, and each of them is tried on the real program, in configuration files and as an option.

mod behaviours;
mod rows;

use std::collections::BTreeMap;
use std::path::Path;

use crate::harness::server::app_path;
use crate::harness::{Program, ROOT, Scratch, each};

use self::behaviours::Given;
use self::rows::{Behaviour, OTHERS, ROWS, Row, Verdict};

/// All rows.
fn rows() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().chain(OTHERS)
}

impl Row {
    fn is_refused(&self) -> bool {
        matches!(self.verdict, Verdict::Refused(_))
    }

    fn is_hook(&self) -> bool {
        self.value.is_empty() && self.flags.is_empty()
    }

    /// A line of a configuration file in Python.
    fn python(&self, scratch: &Scratch) -> String {
        let Row { name, value, .. } = self;
        if self.is_hook() {
            let names: Vec<&str> = ["a", "b", "c"].into_iter().take(arguments_of(name)).collect();
            return format!("def {name}({}): pass\n", names.join(", "));
        }
        let value = if *value == "true" { "True" } else { value };
        let value = if value == "false" { "False" } else { value };
        let value = value.replace('{', "dict(").replace('}', ")");
        in_scratch(&format!("{name} = {value}\n"), scratch)
    }

    fn toml(&self, scratch: &Scratch) -> String {
        in_scratch(&format!("{} = {}\n", self.name, self.value), scratch)
    }

    fn options(&self, scratch: &Scratch) -> Vec<String> {
        self.flags.iter().map(|flag| in_scratch(flag, scratch)).collect()
    }

    /// The line of the listing, without where it comes from; `None`: there is none to compare.
    fn line(&self, scratch: &Scratch) -> Option<String> {
        match self.listed.unwrap_or(self.value) {
            "" => None,
            value => Some(in_scratch(&format!("{} = {value}  # ", self.name), scratch)),
        }
    }
}

/// How many arguments gunicorn wants a hook to have.
fn arguments_of(hook: &str) -> usize {
    match hook {
        "nworkers_changed" => 3,
        "pre_fork" | "post_fork" | "pre_request" | "post_request" | "child_exit" | "worker_exit" => 2,
        _ => 1,
    }
}

fn in_scratch(text: &str, scratch: &Scratch) -> String {
    let (user, group) = (nix::unistd::geteuid().to_string(), nix::unistd::getegid().to_string());
    let text = text.replace("UID", &user).replace("GID", &group);
    text.replace("DIR/", &scratch.text("")).replace("DIR", scratch.text("").trim_end_matches('/'))
}

/// A folder with the files that the examples name.
fn scratch() -> Scratch {
    let scratch = Scratch::new();
    let logging = "[loggers]\nkeys=root\n[handlers]\nkeys=\n[formatters]\nkeys=\n[logger_root]\nhandlers=\n";
    scratch.write("log.ini", logging);
    scratch.write("log.json", r#"{"version": 1}"#);
    scratch.write("named.py", "");
    scratch.write("a.txt", "");
    // For the rows that change to this folder: the application is found there, too.
    std::os::unix::fs::symlink(Path::new(ROOT).join("tests"), scratch.path("tests")).expect("a link");
    scratch
}

#[test]
fn every_setting_of_gunicorn_has_its_row() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("tests/gunicorn/settings-27.txt")).expect("the list");
    let expected: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    let mut names: Vec<&str> = rows().map(|row| row.name).collect();
    names.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!((ROWS.len(), OTHERS.len()), (95, 25));
    let flags: BTreeMap<&str, Vec<&str>> =
        text.lines().map(|line| (first(line), line.split(' ').skip(1).collect())).collect();
    // A setting with an option is tried with it. The exception's option says what is the default.
    for row in rows().filter(|row| row.name != "suppress_ragged_eofs") {
        let known = &flags[row.name];
        assert_eq!(known.is_empty(), row.flags.is_empty(), "{}", row.name);
        let is_known = |flag: &&&str| known.contains(&flag.split('=').next().unwrap_or_default());
        assert!(row.flags.first().iter().all(is_known), "{}: {:?} is none of {known:?}", row.name, row.flags);
    }
}

fn first(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// What --print-config says must be the example of each row, wherever that was written.
#[track_caller]
fn expect_listed(scratch: &Scratch, program: Program, place: &str, is_there: impl Fn(&Row) -> bool) {
    let listing = program.run().expect_status(0).stdout;
    let lines = ROWS.iter().filter(|row| is_there(row)).filter_map(|row| row.line(scratch));
    let missing: Vec<String> = lines
        .map(|line| format!("{line}{place}"))
        .filter(|line| !listing.lines().any(|listed| listed == line))
        .collect();
    assert!(missing.is_empty(), "{missing:#?} are not in\n{listing}");
}

#[test]
fn every_setting_is_understood_in_a_python_file() {
    let scratch = scratch();
    let is_there = |row: &&Row| !row.is_refused() && row.name != "print_config";
    let text: String = ROWS
        .iter()
        .filter(is_there)
        .map(|row| row.python(&scratch))
        .filter(|line| !line.starts_with("config ="))
        .collect();
    let file = scratch.write("gunicorn.conf.py", &text);
    let program = Program::new(&["-c", &file, "--print-config"]);
    expect_listed(&scratch, program, &file, |row| !row.is_refused());
}

#[test]
fn every_setting_is_understood_in_a_toml_file() {
    let scratch = scratch();
    let is_there = |row: &&Row| !row.is_refused() && !row.is_hook() && !["print_config", "config"].contains(&row.name);
    let text: String = ROWS.iter().filter(is_there).map(|row| row.toml(&scratch)).collect();
    let file = scratch.write("minicorn.toml", &text);
    let program = Program::new(&["-c", &file, "--print-config"]);
    expect_listed(&scratch, program, &file, |row| !row.is_refused());
}

#[test]
fn every_option_is_understood() {
    let scratch = scratch();
    let app = app_path("hello");
    let options: Vec<String> =
        ROWS.iter().filter(|row| !row.is_refused()).flat_map(|row| row.options(&scratch)).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    // The option with the optional value stands last, as with gunicorn it would take the application for it.
    let program = Program::new(&[&["--print-config", &app][..], &options].concat());
    expect_listed(&scratch, program, "command line", |row| !row.is_refused() && !row.flags.is_empty());
    // And in the variable.
    let words: Vec<String> = options.iter().map(|option| format!("'{option}'")).collect();
    let program = Program::new(&["--print-config", &app]).env("GUNICORN_CMD_ARGS", words.join(" "));
    expect_listed(&scratch, program, "GUNICORN_CMD_ARGS", |row| !row.is_refused() && !row.flags.is_empty());
}

#[test]
fn what_is_refused() {
    let cases: Vec<&Row> = rows().filter(|row| row.is_refused()).collect();
    each(
        &cases,
        |row| row.name.to_owned(),
        |row| {
            let (scratch, app) = (scratch(), app_path("hello"));
            let expect = |arguments: &[&str], sentence: String| {
                let finished = Program::new(&[arguments, &["--check-config", &app]].concat()).run().expect_status(2);
                assert!(finished.stderr.starts_with(&sentence), "{sentence:?} does not begin\n{}", finished.stderr);
                assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
            };
            for (name, text) in [("c.py", row.python(&scratch)), ("c.toml", row.toml(&scratch))] {
                let file = scratch.write(name, &text);
                expect(&["-c", &file], format!("error: {file}: {}: it is not offered: ", row.name));
            }
            if let Some(flag) = row.flags.first() {
                let options = row.options(&scratch);
                let options: Vec<&str> = options.iter().map(String::as_str).collect();
                expect(&options, format!("error: {flag}: it is not offered: "));
            }
        },
    );
}

/// gunicorn's defaults may be written out.
#[test]
fn what_is_refused_may_have_its_default() {
    let text = "
import ssl
certfile = keyfile = ca_certs = ciphers = paste = None
cert_reqs = ssl.CERT_NONE
ssl_version = ssl.PROTOCOL_TLS
do_handshake_on_connect = False
suppress_ragged_eofs = True
protocol = 'http'
uwsgi_allow_ips = '127.0.0.1,::1'
http_protocols = 'h1'
http2_cleartext = 'off'
dirty_apps = raw_paste_global_conf = []
dirty_workers = 0
root_path = ''
asgi_loop = asgi_lifespan = 'auto'
default_proc_name = 'gunicorn'
";
    let scratch = Scratch::new();
    let file = scratch.write("c.py", text);
    let options = ["-c", &file, "--check-config", "--protocol=http", "--suppress-ragged-eofs", &app_path("hello")];
    Program::new(&options).run().expect_status(0);
}

#[test]
fn what_settings_do() {
    let cases: Vec<(&Row, bool)> = rows().flat_map(|row| [(row, false), (row, true)]).collect();
    let cases: Vec<_> = cases.into_iter().filter(|(row, is_option)| !is_option || !row.flags.is_empty()).collect();
    each(
        &cases,
        |(row, is_option)| format!("{} {}", row.name, if *is_option { "as an option" } else { "in a file" }),
        |(row, is_option)| {
            let Behaviour::Here(_, check) = row.behaviour else { return };
            let scratch = scratch();
            let options = match is_option {
                true => row.options(&scratch),
                false => vec!["-c".to_owned(), scratch.write("gunicorn.conf.py", &row.python(&scratch))],
            };
            check(&Given { options, scratch });
        },
    );
}

/// A test that the page names is there.
#[test]
fn the_tests_of_other_modules_exist() {
    for row in rows() {
        let Behaviour::Elsewhere(path) = row.behaviour else { continue };
        let (module, name) = path.split_once("::").expect("module::name");
        let source = std::fs::read_to_string(Path::new(ROOT).join(format!("tests/{module}.rs"))).expect(module);
        assert!(source.contains(&format!("fn {name}()")), "{path}, for {}, is not there", row.name);
    }
}

/// `MINICORN_TEST_WRITE=1 cargo test --test integration gunicorn_settings` writes it.
#[test]
fn the_page_is_as_the_rows_say() {
    let path = Path::new(ROOT).join("docs/gunicorn.md");
    let page = page();
    if std::env::var_os("MINICORN_TEST_WRITE").is_some() {
        std::fs::write(&path, &page).expect("docs/gunicorn.md");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/gunicorn.md is not what the rows say; MINICORN_TEST_WRITE=1 writes it");
}

fn page() -> String {
    let count = |wanted: fn(&Verdict) -> bool| ROWS.iter().filter(|row| wanted(&row.verdict)).count();
    let same = count(|verdict| matches!(verdict, Verdict::Same | Verdict::SameWith(_)));
    let other_default = count(|verdict| matches!(verdict, Verdict::OtherDefault(_)));
    let differ = count(|verdict| matches!(verdict, Verdict::Differs(_)));
    let refused = count(|verdict| matches!(verdict, Verdict::Refused(_)));
    let offered = ROWS.len() - refused;
    let mut page = format!(
        "# gunicorn's settings\n\n\
         All settings of gunicorn 27.0.1. Of the {} for WSGI, {refused} are for TLS, which is refused; of the other {offered}, {same} are \
         the same here (names, options, values, meaning), {other_default} have another default and are the same once they are set, and \
         {differ} differ: {:.1} % are the same. {} more are for other protocols and refused, too. What is refused ends the start \
         with a sentence and exit status 2, unless it has its default. One rule holds for all: variables of the environment \
         (PORT, WEB_CONCURRENCY, FORWARDED_ALLOW_IPS) win over a configuration file; with gunicorn they are defaults. Made from \
         `tests/gunicorn_settings/rows.rs`, whose rows are tried on the program.\n\n",
        ROWS.len(),
        100.0 * (same + other_default) as f64 / offered as f64,
        OTHERS.len(),
    );
    page += &table(ROWS);
    page += "\n## For other protocols\n\n";
    page += &table(OTHERS);
    page
}

fn table(rows: &[Row]) -> String {
    let text = std::fs::read_to_string(Path::new(ROOT).join("tests/gunicorn/settings-27.txt")).expect("the list");
    let mut table = "| setting | option | here | test |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        let line = text.lines().find(|line| first(line) == row.name).expect("compared by another test");
        let flags: Vec<String> = line.split(' ').skip(1).map(|flag| format!("`{flag}`")).collect();
        let verdict = match row.verdict {
            Verdict::Same => "same".to_owned(),
            Verdict::SameWith(note) => format!("same; {note}"),
            Verdict::OtherDefault(default) => format!("same, other default: {default}"),
            Verdict::Differs(how) => format!("differs: {how}"),
            Verdict::Refused(instead) => format!("refused: {instead}"),
        };
        let test = match row.behaviour {
            Behaviour::Here(name, _) => format!("`gunicorn_settings::what_settings_do` ({name})"),
            Behaviour::Elsewhere(path) => format!("`{path}`"),
        };
        table += &format!("| `{}` | {} | {verdict} | {test} |\n", row.name, flags.join(", "));
    }
    table
}
