//! The name of a request (`--request-id-header`): the one that it came with, if that is sound, or a new one. It goes to the
//! application, to the response and to every line of the logs that is about the request.

use super::header_fields::environ_key;
use crate::http::Request;

/// The name of the request that is in the application, and how to make the next one.
#[derive(Debug)]
pub struct RequestId {
    /// The header, in lower case.
    lowercase_name: Vec<u8>,
    /// The line of the response: `X-Request-ID: 4bf9…`, with its CRLF.
    line: Vec<u8>,
    /// Where the name of the request begins in it.
    value_at: usize,
    numbers: Numbers,
}

/// Longer names are not taken from a client.
const BYTES_MAX: usize = 128;

impl RequestId {
    /// Named by `header`. The seed is random, and no other thread or process has it: they would name their requests
    /// alike.
    pub fn new(header: &str, seed: [u8; 32]) -> Self {
        let line = format!("{header}: ").into_bytes();
        let lowercase_name = header.to_ascii_lowercase().into_bytes();
        Self { lowercase_name, value_at: line.len(), line, numbers: Numbers::new(seed) }
    }

    /// The keys of an environ that hold it.
    pub(super) fn environ_keys(&self) -> Vec<String> {
        vec![environ_key(&self.lowercase_name), "minicorn.request_id".to_owned()]
    }

    /// Names a request.
    pub(super) fn name(&mut self, request: &Request<'_>) {
        self.line.truncate(self.value_at);
        match request.field(&self.lowercase_name) {
            Some(value) if is_sound(value) => self.line.extend_from_slice(value),
            _ => self.line.extend_from_slice(&self.numbers.next_as_hex()),
        }
        self.line.extend_from_slice(b"\r\n");
    }

    /// Visible ASCII, without what would end it in a log or a header.
    pub(super) fn value(&self) -> &[u8] {
        let value = &self.line[self.value_at..];
        value.strip_suffix(b"\r\n").unwrap_or(value)
    }

    /// The header of the response, with its line end.
    pub(super) fn header_line(&self) -> &[u8] {
        &self.line
    }

    /// Whether a field is this header.
    pub(super) fn is_header(&self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(&self.lowercase_name)
    }
}

/// What can stand in a log line, quoted or not, in a list of values and in a page, without meaning anything there.
fn is_sound(value: &[u8]) -> bool {
    let is_sound = |byte: &u8| byte.is_ascii_graphic() && !br#""'`\,<>"#.contains(byte);
    (1..=BYTES_MAX).contains(&value.len()) && value.iter().all(is_sound)
}

/// xoshiro256++ (Blackman and Vigna, 2019), seeded by the kernel: names must not meet, and need not be secret. 1 ns a
/// number, where the kernel takes 300.
#[derive(Debug)]
struct Numbers([u64; 4]);

impl Numbers {
    fn new(seed: [u8; 32]) -> Self {
        let mut state = [0; 4];
        for (word, bytes) in state.iter_mut().zip(seed.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        // All zeros would stay zeros.
        state[0] |= u64::from(state == [0; 4]);
        Self(state)
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let number = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        number
    }

    fn next_as_hex(&mut self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let bytes = (u128::from(self.next()) << 64 | u128::from(self.next())).to_be_bytes();
        let mut text = [0; 32];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of the authors' own program for the state 1, 2, 3, 4.
    #[test]
    fn numbers_are_those_of_the_algorithm() {
        let mut numbers = Numbers([1, 2, 3, 4]);
        let first: Vec<u64> = (0..4).map(|_| numbers.next()).collect();
        assert_eq!(first, [41943041, 58720359, 3588806011781223, 3591011842654386]);
    }

    #[test]
    fn names_are_hexadecimal_and_differ() {
        let mut numbers = Numbers::new([7; 32]);
        let names: std::collections::HashSet<_> = (0..1_000).map(|_| numbers.next_as_hex()).collect();
        assert_eq!(names.len(), 1_000);
        assert!(names.iter().flatten().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')));
        assert_ne!(Numbers::new([0; 32]).next_as_hex(), Numbers::new([1; 32]).next_as_hex());
        assert_ne!(Numbers::new([0; 32]).next(), 0);
    }

    #[test]
    fn what_a_client_may_call_its_request() {
        let longest = "x".repeat(BYTES_MAX);
        for sound in
            ["a", "4bf92f35-77b3", "Root=1-67891233-abcdef", "Self=1-67891233;Root=2", "a.b_c:d/e+f@g", &longest]
        {
            assert!(is_sound(sound.as_bytes()), "{sound}");
        }
        let too_long = "x".repeat(BYTES_MAX + 1);
        let wrong = ["", "a b", "a,b", "\"", "a\\", "a\tb", "é", "\u{7f}", "<b>", "a'b", "a`b", "a\0", &too_long];
        for wrong in wrong {
            assert!(!is_sound(wrong.as_bytes()), "{wrong}");
        }
    }
}
