//! The files of examples/deploy are what they should be: their programs accept them, and so does minicorn its command lines.

use std::path::Path;

use crate::harness::proxy::{deploy_file, replaced, system_program};
use crate::harness::{Program, ROOT, Scratch, each};

const BINARY: &str = env!("CARGO_BIN_EXE_minicorn");
const KUBERNETES: [&str; 5] =
    ["deployment.yaml", "service.yaml", "autoscaler.yaml", "disruption.yaml", "kustomization.yaml"];

/// Runs a program that has nothing to say when all is well.
#[track_caller]
fn expect_silent(program: &str, arguments: &[&str]) {
    let finished = Program::prepare(program, arguments).run().expect_status(0);
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("", ""), "{program} {arguments:?}");
}

/// `[Service]` and `[Socket]` as systemd understands them; it wants the program to exist.
#[test]
fn systemd_units() {
    let scratch = Scratch::new();
    let unit = scratch.write("minicorn.service", &replaced("minicorn.service", &[("/usr/local/bin/minicorn", BINARY)]));
    let socket = scratch.write("minicorn.socket", &deploy_file("minicorn.socket"));
    expect_silent("systemd-analyze", &["verify", "--man=no", &unit, &socket]);
}

#[test]
fn nginx_accepts_its_file() {
    let scratch = Scratch::new();
    let [log, pid] = ["error.log", "nginx.pid"].map(|name| scratch.text(name));
    let replacements =
        [("/run/nginx.pid", &*pid), ("/var/log/nginx/error.log", &log), ("/var/log/nginx/access.log", "off")];
    let config = replaced("nginx.conf", &replacements);
    // Who may not change to it is told that "user" makes no sense.
    let config = config.replace("user www-data;", "");
    let config = scratch.write("nginx.conf", &config);
    let finished = Program::prepare(&system_program("nginx"), &["-t", "-c", &config, "-e", &log]).run();
    finished.expect_status(0).expect_stderr(&["test is successful"]);
    assert_eq!(std::fs::read_to_string(log).unwrap_or_default(), "");
}

#[test]
fn haproxy_accepts_its_file() {
    let config = Path::new(ROOT).join("examples/deploy/haproxy.cfg");
    let finished = Program::prepare(&system_program("haproxy"), &["-c", "-f", config.to_str().expect("UTF-8")]).run();
    // Warnings too would be on standard error.
    assert_eq!(finished.expect_status(0).stderr, "");
}

/// For a folder and a user that are here; nothing is rotated.
#[test]
fn logrotate_accepts_its_file() {
    let scratch = Scratch::new();
    let folder = scratch.text("");
    let replacements = [("/var/log/my_app", folder.trim_end_matches('/')), ("my_app adm", "root root")];
    let config = scratch.write("logrotate.conf", &replaced("logrotate.conf", &replacements));
    let state = scratch.text("state");
    scratch.write("error.log", "a line\n");
    let arguments = ["--debug", "--force", "--state", &state, &config];
    let finished = Program::prepare(&system_program("logrotate"), &arguments).run().expect_status(0);
    let finished = finished.expect_stderr(&["error.log", "kill -USR1"]);
    assert_eq!(finished.count("error: "), 0, "{}", finished.stderr);
}

/// What systemd listens on is what nginx connects to.
#[test]
fn nginx_and_systemd_speak_of_one_socket() {
    let unit = deploy_file("minicorn.socket");
    let path = unit.lines().find_map(|line| line.strip_prefix("ListenStream=")).expect("a path");
    assert!(deploy_file("nginx.conf").contains(&format!("server unix:{path} ")), "{path}");
}

/// Every YAML file is one document, with the keys that its reader wants first.
#[test]
fn yaml_is_yaml() {
    const READ: &str = "import sys, yaml\nfor path in sys.argv[1:]:\n    print(sorted(yaml.safe_load(open(path))))";
    let kubernetes = KUBERNETES.map(|name| format!("{ROOT}/examples/deploy/kubernetes/{name}"));
    let compose = format!("{ROOT}/examples/deploy/compose.yaml");
    let mut arguments = vec!["-c", READ, &compose];
    arguments.extend(kubernetes.iter().map(String::as_str));
    // Debian's, which has python3-yaml; the environment of the examples has no YAML.
    let finished = Program::prepare("/usr/bin/python3", &arguments).run().expect_status(0);
    let mut lines = finished.stdout.lines();
    assert_eq!(lines.next(), Some("['services']"));
    let mut kinds = 0;
    for line in lines {
        assert!(line.contains("'apiVersion'") && line.contains("'kind'"), "{line}");
        kinds += 1;
    }
    assert_eq!(kinds, KUBERNETES.len());
}

/// The command lines of minicorn in these files: without the program's name, with the application last or first.
fn command_lines() -> Vec<(&'static str, Vec<String>)> {
    let mut found = Vec::new();
    for file in ["Dockerfile", "compose.yaml", "kubernetes/deployment.yaml"] {
        found.extend(deploy_file(file).lines().filter_map(words_of_json).map(|words| (file, words)));
    }
    let unit = deploy_file("minicorn.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/minicorn "));
    let start = start.expect("a line that starts minicorn").split_whitespace().map(str::to_owned);
    found.push(("minicorn.service", start.collect()));
    let rotation = deploy_file("logrotate.conf");
    let options = rotation.lines().find_map(|line| line.strip_prefix("#   ")).expect("the options it belongs to");
    let options = ["my_app:app"].into_iter().chain(options.split_whitespace());
    found.push(("logrotate.conf", options.map(str::to_owned).collect()));
    found
}

/// A list in the exec form that begins with minicorn, wherever it stands in the line.
fn words_of_json(line: &str) -> Option<Vec<String>> {
    let list = &line[line.find(r#"["minicorn","#)?..];
    let words: Vec<String> = serde_json::from_str(list).expect("a list of strings");
    Some(words.into_iter().skip(1).collect())
}

/// Each is understood, and would start an application of the name that it gives.
#[test]
fn minicorn_accepts_its_command_lines() {
    let lines = command_lines();
    assert_eq!(lines.len(), 5, "{lines:?}");
    each(
        &lines,
        |(file, words)| format!("{file}: {}", words.join(" ")),
        |(_, words)| {
            let scratch = Scratch::new();
            scratch.write("my_app.py", "from wsgiref.simple_server import demo_app as app\n");
            let mut arguments = vec!["--print-config"];
            // The log files are opened even for a check.
            let words: Vec<_> = words.iter().map(|word| word.replace("/var/log/my_app", &scratch.text(""))).collect();
            arguments.extend(words.iter().map(String::as_str));
            let finished = Program::new(&arguments).directory(scratch.path("")).run().expect_status(0);
            assert!(finished.stdout.contains("my_app:app"), "{}", finished.stdout);
        },
    );
}

/// Those who ask whether it is well ask the master, where it listens for them.
#[test]
fn checks_ask_the_master() {
    let deployment = deploy_file("kubernetes/deployment.yaml");
    let probes: Vec<&str> = deployment.lines().filter(|line| line.contains("httpGet:")).map(str::trim).collect();
    let [ready, alive] = ["/readyz", "/healthz"].map(|path| format!("httpGet: {{path: {path}, port: admin}}"));
    assert_eq!(probes, [&*ready, &*ready, &*alive]);
    assert!(deployment.contains("{name: admin, containerPort: 9000}"));
    let addresses = command_lines().into_iter().filter_map(|(file, words)| {
        let place = words.iter().position(|word| word == "--admin-bind")?;
        Some((file, words[place + 1].clone()))
    });
    let addresses: Vec<_> = addresses.collect();
    let inside = "127.0.0.1:9000".to_owned();
    let expected = [
        ("Dockerfile", inside.clone()),
        ("compose.yaml", inside.clone()),
        ("kubernetes/deployment.yaml", "0.0.0.0:9000".to_owned()),
    ];
    assert_eq!(addresses, expected);
    assert!(deploy_file("Dockerfile").contains(&format!("http://{inside}/readyz")));
    assert!(deploy_file("haproxy.cfg").contains("http-check send meth GET uri /readyz "));
}

/// The times of the files fit together: who waits for minicorn waits longer than it takes.
#[test]
fn supervisors_wait_longer_than_minicorn() {
    let number = |file: &str, before: &str| -> u32 {
        let text = deploy_file(file);
        let line = text.lines().find_map(|line| line.trim().strip_prefix(before)).expect(before);
        let digits: String = line.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("a number of seconds")
    };
    // The default of --graceful-timeout.
    assert!(number("minicorn.service", "TimeoutStopSec=") > 30);
    assert!(number("compose.yaml", "stop_grace_period: ") > 30);
    let lines = command_lines();
    let (_, words) = lines.iter().find(|(file, _)| file.starts_with("kubernetes")).expect("its command line");
    let option = |name: &str| -> u32 {
        let place = words.iter().position(|word| word == name).expect(name);
        words[place + 1].parse().expect("a number of seconds")
    };
    let needed = option("--shutdown-delay") + option("--graceful-timeout");
    assert!(number("kubernetes/deployment.yaml", "terminationGracePeriodSeconds: ") > needed);
}
