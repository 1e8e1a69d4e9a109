//! The character classes and small grammars that several parts of HTTP share (RFC 9110 §5.6).

/// `tchar` of RFC 9110 §5.6.2, indexed by byte.
static TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

/// What `reg-name` and the port of a Host may hold (RFC 3986 §3.2.2): unreserved, sub-delims, `%` and `:`.
static HOST: [bool; 256] = table(b"-._~!$&'()*+,;=%:0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

const fn table(members: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut index = 0;
    while index < members.len() {
        table[members[index] as usize] = true;
        index += 1;
    }
    table
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// A field value or reason phrase: HTAB, SP, VCHAR and obs-text; no other control character (RFC 9110 §5.5).
pub(super) fn is_field_value(bytes: &[u8]) -> bool {
    // Without an early exit the loop compiles to vector code; values are short and nearly always right.
    bytes.iter().fold(true, |sound, &byte| sound & (byte >= 0x20 || byte == b'\t') & (byte != 0x7f))
}

/// Without the optional white space (SP, HTAB) around it.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(start) = bytes.iter().position(|byte| !is_space(byte)) else { return &[] };
    let end = bytes.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// The elements of a comma-separated list, trimmed; empty ones are kept, since some lists forbid them.
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

/// `1*DIGIT`. No sign, no space, no underscore, no overflow: `str::parse` accepts a `+`, and a smuggler knows it.
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |value, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// `1*HEXDIG`, with the same care.
pub(super) fn hexadecimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |value, &byte| {
        let digit = (byte as char).to_digit(16)?;
        value.checked_mul(16)?.checked_add(u64::from(digit))
    })
}

/// `uri-host [ ":" port ]` of RFC 9110 §7.2. Empty is valid: a target without an authority has an empty Host.
pub(super) fn is_host(value: &[u8]) -> bool {
    let port = if value.first() == Some(&b'[') {
        let Some(close) = value.iter().position(|&byte| byte == b']') else { return false };
        if !is_ip_literal(&value[1..close]) {
            return false;
        }
        match &value[close + 1..] {
            [] => return true,
            [b':', port @ ..] => port,
            _ => return false,
        }
    } else {
        if !value.iter().all(|&byte| HOST[byte as usize]) {
            return false;
        }
        match value.iter().position(|&byte| byte == b':') {
            None => return true,
            // `:80` has a port for no host at all.
            Some(0) => return false,
            Some(colon) => &value[colon + 1..],
        }
    };
    port.is_empty() || decimal(port).is_some_and(|number| number <= 65_535)
}

/// What stands between the brackets: an IPv6 address. IPvFuture is refused, since nothing uses it.
fn is_ip_literal(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_takes_digits_only() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for wrong in [&b""[..], b"+1", b"-1", b" 1", b"1 ", b"1_0", b"0x1", b"18446744073709551616", b"1,1"] {
            assert_eq!(decimal(wrong), None, "{:?}", wrong.escape_ascii().to_string());
        }
    }

    #[test]
    fn hexadecimal_takes_digits_only() {
        assert_eq!(hexadecimal(b"fF"), Some(255));
        for wrong in [&b""[..], b"+1", b"0x1", b"1 ", b"g", b"10000000000000000"] {
            assert_eq!(hexadecimal(wrong), None, "{:?}", wrong.escape_ascii().to_string());
        }
    }

    #[test]
    fn hosts() {
        for right in ["", "a", "a:80", "a:", "127.0.0.1:8000", "[::1]", "[::1]:80", "a_b.example", "xn--e.example"] {
            assert!(is_host(right.as_bytes()), "{right}");
        }
        for wrong in
            ["a b", "a/b", "u@a", "a:80:80", "a:99999", "a:x", "[::1", "[zz]", "[::1]x", ":80", "a?b", "a#", "a\\b"]
        {
            assert!(!is_host(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn lists_keep_empty_elements() {
        let elements: Vec<&[u8]> = list(b"a, b ,,\tc").collect();
        assert_eq!(elements, [&b"a"[..], b"b", b"", b"c"]);
    }
}
