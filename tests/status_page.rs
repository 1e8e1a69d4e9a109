//! The status page, in a real browser: what it shows, that it stays up to date, and that nothing a client sends runs in it.

use std::net::SocketAddr;

use crate::harness::{
    Address, Admin, Client, Held, Program, Response, Scratch, Server, serve, virtual_environment, wait_for, wait_until,
};

/// A server whose page a browser can reach.
#[track_caller]
fn serve_page(workers: &str) -> (Server, SocketAddr) {
    let options = ["--workers", workers, "--access-logfile", "none", "--admin-bind", "127.0.0.1:0"];
    let server = serve("holds", &options);
    let address = Admin::port_of(&server);
    let ready = format!("\nminicorn_workers_ready {workers}\n");
    wait_until("all workers to be ready", || get(address, "/metrics").text().contains(&ready));
    (server, address)
}

/// As a browser asks: at a loopback address, by a name that is meant for it.
#[track_caller]
fn get(address: SocketAddr, path: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    Client::connect(&Address::Tcp(address)).ask(request).expect_status(200)
}

/// The page as it stands when the browser has let this much of its time pass, and what the browser says about it.
struct Browsed {
    page: String,
    console: String,
}

#[track_caller]
fn browse(address: SocketAddr, milliseconds: u32) -> Browsed {
    let address = format!("http://{address}");
    let profile = Scratch::new();
    let budget = format!("--virtual-time-budget={milliseconds}");
    let profile = format!("--user-data-dir={}", profile.text("profile"));
    let options =
        ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"];
    let arguments = [&options[..], &[&budget, &profile, "--dump-dom", &address]].concat();
    let finished = Program::prepare("chromium", &arguments).run().expect_status(0);
    Browsed { page: finished.stdout, console: finished.stderr }
}

impl Browsed {
    /// The text between this start tag and the next tag.
    #[track_caller]
    fn text_behind(&self, tag: &str) -> &str {
        let start = self.page.find(tag).unwrap_or_else(|| panic!("{tag} is not in {}", self.page)) + tag.len();
        self.page[start..].split('<').next().unwrap_or_default()
    }

    fn rows(&self) -> Vec<Vec<&str>> {
        rows(&self.page)
    }
}

/// The cells of the workers, as they are written.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let body = page.split("<tbody id=\"workers\">").nth(1).expect("a table");
    let body = body.split("</tbody>").next().expect("its end");
    body.split("<tr>").skip(1).map(cells).collect()
}

fn cells(row: &str) -> Vec<&str> {
    let pieces = row.split('<').filter(|piece| piece.starts_with("td") || piece.starts_with("th "));
    pieces.map(|piece| piece.split_once('>').map_or("", |(_, text)| text)).collect()
}

/// The first view comes with the page; from then on the script has it up to date, and only it knows a rate.
#[test]
fn workers_are_shown_and_kept_up_to_date() {
    let (server, address) = serve_page("2");
    let held = Held::at(&server, "/slow/report");
    let seen = browse(address, 3000);
    let rows = seen.rows();
    assert_eq!(rows.len(), 2, "{}", seen.page);
    let workers: Vec<String> = server.workers().iter().map(ToString::to_string).collect();
    assert_eq!([rows[0][1], rows[1][1]], [&*workers[0], &*workers[1]]);
    assert_eq!([rows[0][2], rows[1][2]], ["ready", "ready"]);
    let busy = rows.iter().find(|row| row[8] == "1/1").expect("a busy worker");
    assert!(busy[9] == "GET /slow/report" && busy[10].ends_with(" s"), "{busy:?}");
    let free = rows.iter().find(|row| row[8] == "0/1").expect("a free worker");
    assert_eq!((free[9], free[10]), ("", ""));
    assert_eq!(seen.text_behind("<dd id=\"total-rate\">"), "0", "the script has not looked twice");
    assert_eq!(seen.text_behind("<dd id=\"total-threads\">"), "1/2");
    assert!(seen.page.contains("class=\"good\""));
    assert!(!seen.console.contains("Content Security Policy"), "{}", seen.console);
    held.finish();
}

/// A target may hold anything but a space, and comes to the page twice: rendered by the server, and by the script.
#[test]
fn what_clients_send_is_text() {
    let (server, address) = serve_page("1");
    let target =
        "/</td></table><img/src=x/onerror=document.title='taken'><script>document.title='taken'</script>&amp;\"";
    let held = Held::at(&server, target);
    let expect_text = |page: &str| {
        assert!(!page.contains("<img") && page.matches("<script>").count() == 1, "{page}");
        assert!(page.contains("<title>minicorn: tests.apps.holds:app</title>"), "{page}");
        let shown = rows(page)[0][9].replace("&quot;", "\"").replace("&#39;", "'").replace("&lt;", "<");
        assert_eq!(shown.replace("&gt;", ">").replace("&amp;", "&"), format!("GET {target}"));
    };
    let rendered = wait_for("the request on the page", || {
        Some(get(address, "/").text().to_owned()).filter(|page| page.contains("GET /"))
    });
    expect_text(&rendered);
    expect_text(&browse(address, 3000).page);
    held.finish();
}

/// The browser runs this script and takes this style because it knows their hashes, and nothing else.
#[test]
fn the_policy_names_what_is_on_the_page() {
    const HASHES: &str = r#"
import base64, hashlib, re, sys
page = sys.stdin.read()
for tag in ("style", "script"):
    (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    print(f"{tag}-src 'sha256-{digest}'")
"#;
    let (_server, admin) = Admin::serve("hello", &[]);
    let response = admin.get("/").expect_status(200);
    let policy = response.value("Content-Security-Policy").expect("a policy").to_owned();
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    let scratch = Scratch::new();
    scratch.write("page", response.text());
    let input = std::fs::File::open(scratch.path("page")).expect("what was written");
    let python = virtual_environment().join("bin/python");
    let program = Program::prepare(python.to_str().expect("a UTF-8 path"), &["-c", HASHES]);
    let finished = program.stdin(std::process::Stdio::from(input)).run().expect_status(0);
    for source in finished.stdout.lines() {
        assert!(policy.contains(source), "{source} is not in {policy}: the file was changed, and page.rs was not");
    }
    assert_eq!(finished.stdout.lines().count(), 2);
}

/// Without a script the page shows the same, and asks for itself anew.
#[test]
fn it_is_complete_without_its_script() {
    let (_server, admin) = Admin::serve("hello", &["--workers", "3"]);
    let response = admin.get("/").expect_status(200);
    assert_eq!(response.value("Content-Type"), Some("text/html; charset=utf-8"));
    let page = response.text();
    assert_eq!(page.matches("<th scope=\"row\">").count(), 3);
    assert!(page.contains("<noscript><meta http-equiv=\"refresh\""));
    assert!(!page.contains("{{") && !page.contains("src=") && !page.contains("<link"), "{page}");
    for part in ["lang=\"en\"", "<caption>", "scope=\"col\"", "role=\"status\"", "color-scheme: light dark"] {
        assert!(page.contains(part), "{part}");
    }
}
