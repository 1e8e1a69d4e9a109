//! The rules of the source tree: who may import whom, and what a part of it does without.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::ROOT;

/// Who may import what of ours; arrows point down only. What is not listed may import nothing of ours.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["program", "settings", "ctl", "sys"]),
    ("ctl", &["sys", "exit"]),
    ("python", &["program", "settings", "ctl", "sys", "exit"]),
    (
        "program",
        &[
            "settings",
            "net",
            "master",
            "worker",
            "wsgi",
            "scoreboard",
            "inboxes",
            "orders",
            "sys",
            "log",
            "statsd",
            "exit",
            "banner",
            "admin",
        ],
    ),
    ("admin", &["master", "net", "scoreboard", "sys"]),
    ("banner", &["settings", "net", "wsgi"]),
    ("worker", &["http", "wsgi", "net", "scoreboard", "inboxes", "orders", "sys", "settings", "log", "statsd", "exit"]),
    ("master", &["scoreboard", "inboxes", "orders", "sys", "settings", "log", "exit"]),
    ("wsgi", &["http", "settings", "log", "exit"]),
    ("net", &["sys", "settings", "exit"]),
    ("scoreboard", &["sys"]),
    ("inboxes", &["sys"]),
    ("orders", &[]),
    ("log", &["sys", "settings", "exit"]),
    ("statsd", &["log", "sys", "settings"]),
    ("settings", &["exit"]),
    ("http", &[]),
    ("exit", &[]),
    ("sys", &[]),
    ("lib", &[]),
];

struct Source {
    /// The module at the top of src/ that it belongs to.
    module: String,
    path: PathBuf,
    /// Without comments and without unit tests.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(ROOT).join("src");
    let mut found = Vec::new();
    collect(&root, &mut found);
    assert!(found.len() > 20, "only {} files under {}", found.len(), root.display());
    let source = |path: PathBuf| {
        let relative = path.strip_prefix(&root).expect("it is below src").with_extension("");
        let module = relative.iter().next().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a readable source");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        Source { module, code: code.lines().filter(is_code).collect::<Vec<_>>().join("\n"), path }
    };
    found.into_iter().map(source).collect()
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every module named behind `crate::` (in main.rs `minicorn::`), in imports and in paths.
fn imports(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for prefix in ["crate::", "minicorn::"] {
        for (place, _) in source.code.match_indices(prefix) {
            let rest = &source.code[place + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(list) => found.extend(heads_of_list(list)),
                None => found.push(first_word(rest)),
            }
        }
    }
    found.retain(|name| name != &source.module && name.starts_with(|char: char| char.is_ascii_lowercase()));
    found
}

/// `http::{a, b}, sys}` names http and sys.
fn heads_of_list(list: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads = vec![first_word(list)];
    for (place, char) in list.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(first_word(list[place + 1..].trim_start())),
            _ => {}
        }
    }
    heads
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|char| char.is_alphanumeric() || *char == '_').collect()
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for source in sources() {
        let arrow = ARROWS.iter().find(|(module, _)| *module == source.module);
        let (_, allowed) = arrow.unwrap_or_else(|| panic!("{} has no row in this test", source.path.display()));
        let forbidden = imports(&source).into_iter().filter(|name| !allowed.contains(&name.as_str()));
        wrong.extend(forbidden.map(|name| format!("{} imports {name}", source.path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stays_where_it_is_allowed() {
    for source in sources() {
        let is_allowed = source.module == "sys" || source.path.to_string_lossy().contains("/wsgi/ffi");
        assert!(is_allowed || !source.code.contains("unsafe {"), "unsafe code in {}", source.path.display());
        assert!(is_allowed || !source.code.contains("allow(unsafe_code)"), "{} lifts the ban", source.path.display());
    }
    for module in ["settings", "master", "worker", "log", "http", "admin"] {
        let path = Path::new(ROOT).join("src").join(module).join("mod.rs");
        let text = fs::read_to_string(&path).expect("a module file");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{} does not forbid unsafe code", path.display());
    }
}

/// http is sans-IO; Python is wsgi's alone, the raw system calls are those of sys, and no master touches the app.
#[test]
fn what_each_part_does_without() {
    let absences: &[(&str, &[&str])] = &[
        ("http", &["TcpStream", "UnixStream", "std::fs", "Instant::now", "SystemTime::now", "pyo3", "nix", "libc"]),
        ("settings", &["pyo3", "nix", "libc"]),
        ("master", &["pyo3", "nix", "libc"]),
        ("worker", &["nix", "libc"]),
        ("wsgi", &["nix", "libc", "TcpStream", "UnixStream"]),
        ("log", &["pyo3", "nix", "libc"]),
        ("scoreboard", &["pyo3", "nix", "libc"]),
        ("inboxes", &["pyo3", "nix", "libc"]),
        ("sys", &["pyo3"]),
        ("net", &["pyo3", "libc"]),
        ("admin", &["pyo3", "nix", "libc", "TcpStream", "UnixStream"]),
    ];
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((_, absent)) = absences.iter().find(|(module, _)| *module == source.module) else { continue };
        let present = absent.iter().filter(|name| names(&source.code, name));
        wrong.extend(present.map(|name| format!("{} uses {name}", source.path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether the code has this name as a whole word: `std::os::unix` does not name nix.
fn names(code: &str, name: &str) -> bool {
    let is_word = |char: char| char.is_alphanumeric() || char == '_';
    code.match_indices(name)
        .any(|(place, _)| !code[..place].ends_with(is_word) && !code[place + name.len()..].starts_with(is_word))
}

#[test]
fn every_source_begins_with_what_belongs_there() {
    for source in sources() {
        let text = fs::read_to_string(&source.path).expect("a readable source");
        assert!(text.starts_with("//!"), "{} has no header", source.path.display());
    }
}
