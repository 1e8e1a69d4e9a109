//! What is wrapped up in a request and has to be taken out for an atom: path and query of a target, the user of `Basic`
//! credentials, the trace of a `traceparent`.
//!
//! Lenient, since a log tells of bad requests too. What the application sees is none of its business: that is
//! `wsgi::environ`.

/// The path and the query of a request target. A fragment, which has no business there (RFC 9112 §3.2), is in neither.
/// `*`, and the authority of CONNECT, count as paths.
pub(super) fn split_target(target: &[u8]) -> (&[u8], &[u8]) {
    let target = strip_authority(target);
    let target = memchr::memchr(b'#', target).map_or(target, |hash| &target[..hash]);
    match memchr::memchr(b'?', target) {
        Some(mark) => (&target[..mark], &target[mark + 1..]),
        None => (target, b""),
    }
}

/// Takes the scheme and the authority from a target in absolute-form (RFC 9112 §3.2.2).
fn strip_authority(target: &[u8]) -> &[u8] {
    if target.starts_with(b"/") {
        return target;
    }
    let Some(authority) = memchr::memmem::find(target, b"://").map(|colon| &target[colon + 3..]) else {
        return target;
    };
    let end = authority.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    &authority[end.unwrap_or(authority.len())..]
}

/// Decodes `%2F` and its like into `out`, which is emptied before. A percent sign without two hexadecimal digits stands
/// for itself.
pub(super) fn percent_decode(path: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let decoded = match rest {
            [b'%', high, low, ..] => hex_digit(*high).zip(hex_digit(*low)),
            _ => None,
        };
        match decoded {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = &rest[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// The user of `Basic` credentials (RFC 7617 §2), decoded into `scratch`. Credentials without a colon are malformed,
/// and perhaps a secret.
pub(super) fn basic_user<'a>(authorization: &[u8], scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let (scheme, credentials) = authorization.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    base64_decode(credentials.trim_ascii(), scratch)?;
    let colon = memchr::memchr(b':', scratch)?;
    (colon > 0).then(|| &scratch[..colon])
}

/// The trace that a request belongs to (W3C Trace Context §3.2): `00-<trace>-<span>-<flags>`, lower-case hexadecimal. Later
/// versions may have more behind that.
pub(super) fn trace_id(traceparent: &[u8]) -> Option<&[u8]> {
    let (fixed, more) = traceparent.split_at_checked(55)?;
    let is_hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &[u8]| part.iter().all(|&byte| byte == b'0');
    let (version, trace, span, flags) = (&fixed[..2], &fixed[3..35], &fixed[36..52], &fixed[53..]);
    let has_hyphens = [2, 35, 52].iter().all(|&place| fixed[place] == b'-');
    let is_end = more.is_empty() || (version != b"00" && more[0] == b'-');
    let is_sound = has_hyphens
        && is_end
        && version != b"ff"
        && [version, trace, span, flags].into_iter().all(is_hex)
        && !is_zero(trace)
        && !is_zero(span);
    is_sound.then_some(trace)
}

/// Decodes base64 (RFC 4648 §4) into `out`, which is emptied before. Padding may be missing; anything else that is
/// wrong gives `None`.
fn base64_decode(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    let text = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    for group in text.chunks(4) {
        let mut bits = 0_u32;
        for &byte in group {
            bits = bits << 6 | base64_digit(byte)?;
        }
        bits <<= 6 * (4 - group.len());
        let [_, bytes @ ..] = bits.to_be_bytes();
        // One digit alone is not a byte; two are one, three are two, four are three.
        out.extend_from_slice(bytes.get(..group.len() - 1).filter(|bytes| !bytes.is_empty())?);
    }
    Some(())
}

fn base64_digit(byte: u8) -> Option<u32> {
    let digit = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces() {
        const SOUND: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let trace = Some(&b"0af7651916cd43dd8448eb211c80319c"[..]);
        assert_eq!(trace_id(SOUND.as_bytes()), trace);
        assert_eq!(trace_id(SOUND.replacen("00", "cc", 1).as_bytes()), trace);
        assert_eq!(trace_id((SOUND.replacen("00", "cc", 1) + "-more").as_bytes()), trace);
        for wrong in [
            String::new(),
            SOUND[..54].to_owned(),
            format!("{SOUND}-more"),
            format!("{SOUND} "),
            SOUND.to_uppercase(),
            SOUND.replace('-', "_"),
            SOUND.replace('f', "g"),
            SOUND.replacen("00", "ff", 1),
            SOUND.replacen("00", "cc", 1) + "x",
            SOUND.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            SOUND.replace("b7ad6b7169203331", &"0".repeat(16)),
            SOUND.replace('a', "\n"),
        ] {
            assert_eq!(trace_id(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn targets_are_split() {
        let cases: [(&str, &str, &str); 12] = [
            ("/", "/", ""),
            ("/a/b?x=1&y=?", "/a/b", "x=1&y=?"),
            ("/a?", "/a", ""),
            ("/a#top?x", "/a", ""),
            ("/a?x#top", "/a", "x"),
            ("//host/a", "//host/a", ""),
            ("/http://host/a?b", "/http://host/a", "b"),
            ("http://user@host:80/a?b", "/a", "b"),
            ("http://host?b", "", "b"),
            ("http://host", "", ""),
            ("*", "*", ""),
            ("host:443", "host:443", ""),
        ];
        for (target, path, query) in cases {
            assert_eq!(split_target(target.as_bytes()), (path.as_bytes(), query.as_bytes()), "{target}");
        }
    }

    #[test]
    fn percent_decoding() {
        let cases: [(&str, &[u8]); 7] = [
            ("/a%2Fb%2fc", b"/a/b/c"),
            ("%00%ff", b"\0\xff"),
            ("%0a%0D", b"\n\r"),
            ("100%", b"100%"),
            ("%4", b"%4"),
            ("%zz%+1%4g", b"%zz%+1%4g"),
            ("%2541", b"%41"),
        ];
        let mut out = b"left over".to_vec();
        for (path, expected) in cases {
            percent_decode(path.as_bytes(), &mut out);
            assert_eq!(out, expected, "{path}");
        }
    }

    #[test]
    fn base64() {
        let good: [(&str, &[u8]); 9] = [
            ("", b""),
            ("Zg==", b"f"),
            ("Zg", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9vYg==", b"foob"),
            ("Zm9vYmE=", b"fooba"),
            ("Zm9vYmFy", b"foobar"),
            ("+/+/", b"\xfb\xff\xbf"),
        ];
        let mut out = b"left over".to_vec();
        for (text, expected) in good {
            assert_eq!(base64_decode(text.as_bytes(), &mut out), Some(()), "{text}");
            assert_eq!(out, expected, "{text}");
        }
        for text in ["Z", "Zm9vY", "Zm9v===", "Zm 9v", "Zm-_", "Zg==Zg=="] {
            assert_eq!(base64_decode(text.as_bytes(), &mut out), None, "{text}");
        }
    }

    #[test]
    fn users() {
        let cases: [(&str, Option<&str>); 8] = [
            // The example of RFC 7617 §2.
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Some("Aladdin")),
            ("bAsIc   QWxhZGRpbjpvcGVuIHNlc2FtZQ==  ", Some("Aladdin")),
            ("Basic QWxhZGRpbg==", None),
            ("Basic OnNlY3JldA==", None),
            ("Basic !", None),
            ("BasicQWxhZGRpbjpvcGVuIHNlc2FtZQ==", None),
            ("Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==", None),
            ("Basic", None),
        ];
        for (authorization, user) in cases {
            let mut scratch = Vec::new();
            let found = basic_user(authorization.as_bytes(), &mut scratch);
            assert_eq!(found, user.map(str::as_bytes), "{authorization}");
        }
    }
}
