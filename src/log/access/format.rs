//! Formats of the access log: the four that have a name, and gunicorn's atoms, `%(h)s` and its like, with two of our own.
//! Compiled once;
//! what the atoms mean for a record is told in `render`.

use std::error::Error;
use std::fmt;

use super::super::escape::Style;

/// Apache's Common Log Format.
const COMMON: &str = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s"#;
/// The same with Referer and User-Agent: gunicorn's default.
const COMBINED: &str = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#;

/// A compiled format.
#[derive(Debug)]
pub(super) enum Format {
    /// Segments one after the other.
    Template(Template),
    /// One JSON object a line, with typed values.
    Json,
}

/// A line's parts in their order.
#[derive(Debug)]
pub(super) struct Template {
    pub segments: Vec<Segment>,
    /// What the values' forbidden bytes become.
    style: Style,
    /// The variables that [`Segment::Environ`] counts.
    environ_names: Vec<String>,
}

/// A part of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Text of the format itself.
    Literal(String),
    /// A value that every record has.
    Atom(Atom),
    /// `{name}i`: a field of the request. The name is in lower case.
    RequestField(String),
    /// `{name}o`: a field of the response.
    ResponseField(String),
    /// `{name}e`: a variable of the environ, by its place in `environ_names`.
    Environ(usize),
}

/// What an atom stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Atom {
    /// h
    RemoteAddr,
    /// l: what identd would have said, had anybody asked.
    Dash,
    /// u
    User,
    /// t
    Time,
    /// r
    RequestLine,
    /// m
    Method,
    /// U
    Path,
    /// q
    Query,
    /// H
    Protocol,
    /// s
    Status,
    /// B and b
    BodyBytes,
    /// f
    Referer,
    /// a
    UserAgent,
    /// T
    WholeSeconds,
    /// M
    Milliseconds,
    /// D
    Microseconds,
    /// L
    Seconds,
    /// p
    Pid,
    /// I: what gunicorn has no atom for.
    RequestId,
    /// Q: milliseconds in the queue, three decimals; see I.
    QueueTime,
    /// `12:44:12`; only `mini` has it.
    TimeOfDay,
    /// `0.75`; only `mini` has it.
    PreciseMilliseconds,
}

impl Format {
    pub fn wants_response_fields(&self) -> bool {
        match self {
            Format::Template(template) => {
                template.segments.iter().any(|segment| matches!(segment, Segment::ResponseField(_)))
            }
            Format::Json => false,
        }
    }

    pub fn environ_names(&self) -> &[String] {
        match self {
            Format::Template(template) => &template.environ_names,
            Format::Json => &[],
        }
    }

    pub fn style(&self) -> Style {
        match self {
            Format::Template(template) => template.style,
            Format::Json => Style::Json,
        }
    }
}

/// Turns a format's name, or a format, into what [`super::AccessLog`] works with.
pub(super) fn compile(format: &str) -> Result<Format, FormatError> {
    match format {
        "mini" => Ok(Format::Template(mini())),
        "common" => compile_template(COMMON).map(Format::Template),
        "combined" => compile_template(COMBINED).map(Format::Template),
        "json" => Ok(Format::Json),
        template => compile_template(template).map(Format::Template),
    }
}

/// `[12:44:12] 127.0.0.1 "GET / HTTP/1.1" 200 42 0.75ms`
fn mini() -> Template {
    let literal = |text: &str| Segment::Literal(text.to_owned());
    let segments = vec![
        literal("["),
        Segment::Atom(Atom::TimeOfDay),
        literal("] "),
        Segment::Atom(Atom::RemoteAddr),
        literal(" \""),
        Segment::Atom(Atom::RequestLine),
        literal("\" "),
        Segment::Atom(Atom::Status),
        literal(" "),
        Segment::Atom(Atom::BodyBytes),
        literal(" "),
        Segment::Atom(Atom::PreciseMilliseconds),
        literal("ms"),
    ];
    Template { segments, style: Style::Text, environ_names: Vec::new() }
}

/// Reads a format as Python's `%` operator reads it for gunicorn, except that an unknown atom is an error and not a
/// dash.
fn compile_template(format: &str) -> Result<Template, FormatError> {
    if format.contains(['\n', '\r']) {
        return Err(FormatError::LineBreak);
    }
    // What begins like a JSON object is one made by hand, so it gets JSON's escapes.
    let style = if format.starts_with('{') { Style::Json } else { Style::Text };
    let mut template = Template { segments: Vec::new(), style, environ_names: Vec::new() };
    let mut literal = String::new();
    let mut rest = format;
    while let Some(percent) = rest.find('%') {
        literal.push_str(&rest[..percent]);
        rest = &rest[percent + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        let (name, after) = split_atom(rest)?;
        template.push_literal(&mut literal);
        template.push_atom(name)?;
        rest = after;
    }
    literal.push_str(rest);
    template.push_literal(&mut literal);
    match template.segments.iter().any(|segment| !matches!(segment, Segment::Literal(_))) {
        true => Ok(template),
        false => Err(FormatError::NoAtom(format.to_owned())),
    }
}

/// Splits `(name)s rest`, which followed a percent sign, into the name and the rest.
fn split_atom(text: &str) -> Result<(&str, &str), FormatError> {
    let Some((name, after)) = text.strip_prefix('(').and_then(|text| text.split_once(')')) else {
        return Err(FormatError::LonePercent);
    };
    // Python formats gunicorn's numbers with %d as well.
    let is_number = matches!(name, "B" | "T" | "M" | "D");
    match after.chars().next() {
        Some('s') => Ok((name, &after[1..])),
        Some('d') if is_number => Ok((name, &after[1..])),
        _ => Err(FormatError::Conversion(name.to_owned())),
    }
}

impl Template {
    /// Moves what has collected in `literal`, if anything, to the end of the segments.
    fn push_literal(&mut self, literal: &mut String) {
        if !literal.is_empty() {
            self.segments.push(Segment::Literal(std::mem::take(literal)));
        }
    }

    fn push_atom(&mut self, name: &str) -> Result<(), FormatError> {
        let segment = match name {
            "h" => Segment::Atom(Atom::RemoteAddr),
            "l" => Segment::Atom(Atom::Dash),
            "u" => Segment::Atom(Atom::User),
            "t" => Segment::Atom(Atom::Time),
            "r" => Segment::Atom(Atom::RequestLine),
            "m" => Segment::Atom(Atom::Method),
            "U" => Segment::Atom(Atom::Path),
            "q" => Segment::Atom(Atom::Query),
            "H" => Segment::Atom(Atom::Protocol),
            "s" => Segment::Atom(Atom::Status),
            "B" | "b" => Segment::Atom(Atom::BodyBytes),
            "f" => Segment::Atom(Atom::Referer),
            "a" => Segment::Atom(Atom::UserAgent),
            "T" => Segment::Atom(Atom::WholeSeconds),
            "M" => Segment::Atom(Atom::Milliseconds),
            "D" => Segment::Atom(Atom::Microseconds),
            "L" => Segment::Atom(Atom::Seconds),
            "p" => Segment::Atom(Atom::Pid),
            "I" => Segment::Atom(Atom::RequestId),
            "Q" => Segment::Atom(Atom::QueueTime),
            _ => self.lookup(name).ok_or_else(|| FormatError::UnknownAtom(name.to_owned()))?,
        };
        self.segments.push(segment);
        Ok(())
    }

    /// Reads `{name}i`, `{name}o` and `{name}e`.
    fn lookup(&mut self, atom: &str) -> Option<Segment> {
        let (name, kind) = atom.strip_prefix('{')?.rsplit_once('}')?;
        match (name, kind) {
            ("", _) => None,
            (name, "i") => Some(Segment::RequestField(name.to_ascii_lowercase())),
            (name, "o") => Some(Segment::ResponseField(name.to_ascii_lowercase())),
            (name, "e") => Some(Segment::Environ(self.environ_index(name))),
            _ => None,
        }
    }

    fn environ_index(&mut self, name: &str) -> usize {
        let known = self.environ_names.iter().position(|other| other == name);
        known.unwrap_or_else(|| {
            self.environ_names.push(name.to_owned());
            self.environ_names.len() - 1
        })
    }
}

/// What is wrong with a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// There is no atom of this name.
    UnknownAtom(String),
    /// The atom is not followed by `s`.
    Conversion(String),
    /// A percent sign begins neither an atom nor `%%`.
    LonePercent,
    /// The format has no atom, so it is probably a misspelled name.
    NoAtom(String),
    /// The format has a line break.
    LineBreak,
}

impl fmt::Display for FormatError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::UnknownAtom(name) => write!(
                formatter,
                "unknown atom %({name})s in the access log format; there are h l u t r m U q H s B b f a T M D L p I Q, {{name}}i, {{name}}o, {{name}}e"
            ),
            FormatError::Conversion(name) => {
                write!(formatter, "the atom %({name}) in the access log format must be written %({name})s")
            }
            FormatError::LonePercent => formatter
                .write_str("a percent sign in the access log format must begin an atom, like %(h)s, or be doubled: %%"),
            FormatError::NoAtom(format) => write!(
                formatter,
                "the access log format {format:?} is neither mini, common, combined or json, nor does it have an atom, like %(h)s"
            ),
            FormatError::LineBreak => formatter.write_str("the access log format must not have a line break"),
        }
    }
}

impl Error for FormatError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(format: &str) -> Template {
        match compile(format) {
            Ok(Format::Template(template)) => template,
            other => panic!("{format} became {other:?}"),
        }
    }

    #[test]
    fn segments() {
        let literal = |text: &str| Segment::Literal(text.to_owned());
        let format = "100%% of %(m)s%(D)d \t %({X-Request-ID}i)s%({Server}o)s é";
        let expected = [
            literal("100% of "),
            Segment::Atom(Atom::Method),
            Segment::Atom(Atom::Microseconds),
            literal(" \t "),
            Segment::RequestField("x-request-id".to_owned()),
            Segment::ResponseField("server".to_owned()),
            literal(" é"),
        ];
        assert_eq!(template(format).segments, expected);
    }

    #[test]
    fn environ_names_are_kept_once_each() {
        let template = template("%({REMOTE_USER}e)s %({wsgi.url_scheme}e)s %({REMOTE_USER}e)s");
        assert_eq!(template.environ_names, ["REMOTE_USER", "wsgi.url_scheme"]);
        let places: Vec<_> =
            template.segments.iter().filter(|segment| !matches!(segment, Segment::Literal(_))).collect();
        assert_eq!(places, [&Segment::Environ(0), &Segment::Environ(1), &Segment::Environ(0)]);
    }

    #[test]
    fn a_format_knows_what_it_wants() {
        for (format, wants) in
            [("mini", false), ("json", false), ("combined", false), ("%({etag}o)s", true), ("%({etag}i)s", false)]
        {
            let compiled = compile(format).expect("a correct format");
            assert_eq!(compiled.wants_response_fields(), wants, "{format}");
            assert!(compiled.environ_names().is_empty());
        }
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let cases = [
            ("%(h)s %(z)s", FormatError::UnknownAtom("z".to_owned())),
            ("%(hh)s", FormatError::UnknownAtom("hh".to_owned())),
            ("%()s", FormatError::UnknownAtom(String::new())),
            ("%({}i)s", FormatError::UnknownAtom("{}i".to_owned())),
            ("%({host}x)s", FormatError::UnknownAtom("{host}x".to_owned())),
            ("%({host})s", FormatError::UnknownAtom("{host}".to_owned())),
            ("%(h)d", FormatError::Conversion("h".to_owned())),
            ("%(D)x", FormatError::Conversion("D".to_owned())),
            ("%(h)é", FormatError::Conversion("h".to_owned())),
            ("%(h)", FormatError::Conversion("h".to_owned())),
            ("%h", FormatError::LonePercent),
            ("%(h)s 100%", FormatError::LonePercent),
            ("%(h", FormatError::LonePercent),
            ("combinde", FormatError::NoAtom("combinde".to_owned())),
            ("", FormatError::NoAtom(String::new())),
            ("%%", FormatError::NoAtom("%%".to_owned())),
            ("%(h)s\n%(s)s", FormatError::LineBreak),
        ];
        for (format, expected) in cases {
            assert_eq!(compile(format).expect_err(format), expected, "{format}");
        }
        let message = compile("%(z)s").expect_err("there is no such atom").to_string();
        assert!(message.starts_with("unknown atom %(z)s in the access log format"), "{message}");
    }
}
