//! Each file of examples/ is started as its first lines say, and asked as a newcomer would.

use crate::harness::{Response, Server, serve};

fn post_json(server: &Server, target: &str, body: &str) -> Response {
    let length = body.len();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}"
    );
    server.ask(format!("{head}\r\n\r\n{body}"))
}

/// The frameworks' examples have the same two routes.
fn check_framework(app: &str, name: &str) {
    let server = serve(app, &["--workers", "2"]);
    server.get("/").expect(200, &format!("<h1>Hello, {name}!</h1>"));
    server.get("/?name=%3CŁ%3E".replace('Ł', "%C5%81").as_str()).expect(200, "<h1>Hello, &lt;Ł&gt;!</h1>");
    let sum = post_json(&server, "/sum", "[1, 2, 3]");
    assert_eq!((sum.status, sum.text().split_whitespace().collect::<String>().as_str()), (200, "{\"sum\":6}"));
    // A body in chunks is complete for them too.
    let chunked = "POST /sum HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
                   Transfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\n5\r\n 20 ]\r\n0\r\n\r\n";
    assert_eq!(server.ask(chunked).text().split_whitespace().collect::<String>(), "{\"sum\":21}");
    assert_eq!(server.get("/no/such/page").status, 404);
    assert_eq!(server.get("/sum").status / 100, 4, "a GET where a POST is wanted");
    assert!(!server.log().text().contains("Traceback"), "{}", server.log().text());
}

#[test]
fn flask() {
    check_framework("examples.flask_app:app", "Flask");
}

#[test]
fn django() {
    check_framework("examples.django_app:app", "Django");
}

#[test]
fn pyramid() {
    check_framework("examples.pyramid_app:app", "Pyramid");
}

#[test]
fn bottle() {
    check_framework("examples.bottle_app:app", "Bottle");
}

#[test]
fn falcon() {
    let server = serve("examples.falcon_app:app", &["--workers", "2"]);
    server.get("/").expect(200, "{\"hello\": \"Falcon\"}");
    server.get("/?name=Ada").expect(200, "{\"hello\": \"Ada\"}");
    post_json(&server, "/sum", "[1, 2, 3]").expect(200, "{\"sum\": 6}");
    assert_eq!(server.get("/no/such/page").status, 404);
    assert_eq!(server.get("/sum").status, 405);
}

#[test]
fn hello() {
    let response = serve("examples.hello:app", &[]).get("/").expect(200, "Hello, world!\n");
    assert_eq!(response.value("Content-Type"), Some("text/plain; charset=utf-8"));
}

#[test]
fn json_api() {
    let server = serve("examples.json_api:app", &[]);
    assert!(server.get("/books").text().starts_with("[{\"id\": 1,"));
    server.get("/books/2").expect(200, "{\"id\": 2, \"title\": \"Solaris\", \"author\": \"Stanisław Lem\"}");
    assert_eq!(server.get("/books/3").status, 404);
    assert_eq!(post_json(&server, "/books", "{}").status, 405);
}

#[test]
fn query() {
    let server = serve("examples.query:app", &[]);
    server.get("/").expect(200, "Hello, world!\n");
    let target = "/?name=Ada&name=Stanis%C5%82aw&greeting=Good+morning";
    server.get(target).expect(200, "Good morning, Ada!\nGood morning, Stanisław!\n");
}

#[test]
fn post_json_example() {
    let server = serve("examples.post_json:app", &[]);
    post_json(&server, "/", "[1, 2, 3.5]").expect(200, "{\"count\": 3, \"sum\": 6.5}");
    assert_eq!(post_json(&server, "/", "{").status, 400);
    assert_eq!(server.get("/").status, 405);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n[1,2\r\n1\r\n]\r\n0\r\n\r\n";
    server.ask(chunked).expect(200, "{\"count\": 2, \"sum\": 3}");
}

#[test]
fn streaming() {
    let server = serve("examples.streaming:app", &[]);
    let mut client = server.connect();
    client.send("GET /?from=1 HTTP/1.1\r\nHost: a\r\n\r\n").receive_head("GET");
    assert_eq!(client.receive_chunk(), b"1...\n");
    assert_eq!(client.receive_chunk(), b"lift-off\n");
    assert_eq!(client.receive_chunk(), b"");
    assert_eq!(server.get("/?from=x").status, 400);
}

#[test]
fn download() {
    let response = serve("examples.download:app", &[]).get("/");
    assert_eq!(response.value("Content-Disposition"), Some("attachment; filename=\"download.py\""));
    assert_eq!(response.text(), include_str!("../examples/download.py"));
}
