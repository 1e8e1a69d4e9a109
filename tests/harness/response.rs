//! A response as a strict client reads it: what RFC 9112 forbids a server to send fails the test.

/// How the end of a body was told (RFC 9112 §6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// HEAD, 1xx, 204, 304: there is no body.
    NoBody,
    Length(usize),
    /// The size of each chunk, without the last, empty one.
    Chunked(Vec<usize>),
    UntilClose,
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub reason: String,
    pub fields: Vec<(String, String)>,
    pub framing: Framing,
    pub body: Vec<u8>,
    /// The 1xx statuses that came before.
    pub interim: Vec<u16>,
}

impl Response {
    /// Reads a head, given without its empty line, in answer to a request with `method`.
    pub fn parse_head(head: &[u8], method: &str) -> Response {
        let text: String = head.iter().map(|&byte| byte as char).collect();
        let mut lines = text.split("\r\n");
        let (status, reason) = parse_status_line(lines.next().unwrap_or_default());
        let fields: Vec<_> = lines.map(parse_field).collect();
        let framing = body_framing(status, method, &fields);
        Response { status, reason, fields, framing, body: Vec::new(), interim: Vec::new() }
    }

    /// All values of a field, by its name in any case.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| &**value).collect()
    }

    /// The value of a field that must not be repeated.
    #[track_caller]
    pub fn value(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() <= 1, "{name} came {} times: {values:?}", values.len());
        values.first().copied()
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a UTF-8 body")
    }

    pub fn announces_close(&self) -> bool {
        self.values("Connection").iter().any(|value| value.eq_ignore_ascii_case("close"))
    }

    #[track_caller]
    pub fn expect_status(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    #[track_caller]
    pub fn expect(self, status: u16, body: &str) -> Response {
        assert_eq!((self.status, String::from_utf8_lossy(&self.body).as_ref()), (status, body));
        self
    }
}

/// RFC 9112 §4.
fn parse_status_line(line: &str) -> (u16, String) {
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
    let Some((digits, reason)) = rest.and_then(|rest| rest.split_once(' ')) else {
        panic!("not a status line: {line:?}");
    };
    assert!(digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit()), "not a status: {line:?}");
    assert!(!reason.contains(is_control), "a control character in the status line: {line:?}");
    (digits.parse().expect("three digits"), reason.to_owned())
}

/// RFC 9112 §5.
fn parse_field(line: &str) -> (String, String) {
    let Some((name, value)) = line.split_once(':') else { panic!("not a field line: {line:?}") };
    let is_token_char = |char: char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char);
    assert!(!name.is_empty() && name.chars().all(is_token_char), "not a field name: {line:?}");
    assert!(!value.contains(is_control), "a control character in a field: {line:?}");
    (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
}

fn is_control(char: char) -> bool {
    matches!(char, '\0'..='\x08' | '\x0a'..='\x1f' | '\x7f')
}

fn body_framing(status: u16, method: &str, fields: &[(String, String)]) -> Framing {
    let values = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| &**value).collect()
    };
    let (lengths, codings) = (values("Content-Length"), values("Transfer-Encoding"));
    assert!(lengths.is_empty() || codings.is_empty(), "Content-Length and Transfer-Encoding in one response");
    assert!(!(matches!(status, 100..=199 | 204) && lengths.len() + codings.len() > 0), "framing in a {status}");
    assert!(status != 304 || codings.is_empty(), "Transfer-Encoding in a 304");
    if method == "HEAD" || matches!(status, 100..=199 | 204 | 304) {
        return Framing::NoBody;
    }
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Framing::UntilClose,
        ([length], []) => Framing::Length(parse_length(length)),
        ([], ["chunked"]) => Framing::Chunked(Vec::new()),
        _ => panic!("ambiguous framing: {lengths:?} {codings:?}"),
    }
}

fn parse_length(value: &str) -> usize {
    assert!(value.bytes().all(|byte| byte.is_ascii_digit()), "not a Content-Length: {value:?}");
    value.parse().unwrap_or_else(|_| panic!("not a Content-Length: {value:?}"))
}
