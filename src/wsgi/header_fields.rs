//! Header fields → the `HTTP_…` items of an environ.
//!
//! The key object of each name and the last value of each key are kept from request to request. Keeping whole environs,
//! to copy one and set only what differs, was measured and gained nothing (12 browser headers, `bench/ab.py`: 1.00).

use super::ffi::latin1;
use crate::http::Request;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::collections::HashMap;

/// The header names seen so far: name as sent → the environ key, and the last value. Bounded, since the names are the
/// attacker's to choose; without it a name costs 100 ns more.
pub(super) struct HeaderNames {
    /// Index in `keys`; `None` for a name that the application does not see.
    by_name: HashMap<Box<[u8]>, Option<usize>, foldhash::fast::RandomState>,
    keys: Vec<HeaderKey>,
    /// Counts requests; a key whose stamp equals it has come before in the same request.
    stamp: u64,
}

/// Spellings of names: as often as not `host` and `Host` both occur.
const NAMES_MAX: usize = 1024;
const KEYS_MAX: usize = 512;

/// Longer values, cookies above all, are seldom the same twice.
const KEPT_VALUE_BYTES_MAX: usize = 512;

struct HeaderKey {
    key: Py<PyString>,
    stamp: u64,
    last_value: Vec<u8>,
    last_object: Option<Py<PyString>>,
}

impl HeaderNames {
    pub(super) fn new() -> Self {
        Self { by_name: HashMap::default(), keys: Vec::new(), stamp: 0 }
    }

    /// Puts the fields of `request` into `environ`, repeated ones joined.
    pub(super) fn put(&mut self, py: Python<'_>, environ: &Bound<'_, PyDict>, request: &Request<'_>) -> PyResult<()> {
        self.stamp += 1;
        for (name, value) in request.fields() {
            let index = match self.by_name.get(name) {
                Some(known) => *known,
                None => match self.learn(py, name) {
                    Learned::Known(index) => index,
                    Learned::Unkept(key) => {
                        put_unkept(py, environ, &key, value)?;
                        continue;
                    }
                },
            };
            if let Some(index) = index {
                self.keys[index].put(py, environ, value, self.stamp)?;
            }
        }
        Ok(())
    }

    /// Finds the key of a name that is new in this spelling.
    fn learn(&mut self, py: Python<'_>, name: &[u8]) -> Learned {
        let index = match environ_key(name) {
            None => None,
            Some(key) => {
                let same = self.keys.iter().position(|known| known.key.bind(py) == key.as_str());
                let index = same.or_else(|| self.add_key(py, &key));
                match index {
                    Some(index) => Some(index),
                    None => return Learned::Unkept(key),
                }
            }
        };
        if self.by_name.len() < NAMES_MAX {
            self.by_name.insert(name.into(), index);
        }
        Learned::Known(index)
    }

    fn add_key(&mut self, py: Python<'_>, key: &str) -> Option<usize> {
        if self.keys.len() == KEYS_MAX {
            return None;
        }
        let key = PyString::intern(py, key).unbind();
        self.keys.push(HeaderKey { key, stamp: 0, last_value: Vec::new(), last_object: None });
        Some(self.keys.len() - 1)
    }
}

enum Learned {
    /// As in [`HeaderNames::by_name`].
    Known(Option<usize>),
    /// The environ key; there is no room for it.
    Unkept(String),
}

impl HeaderKey {
    #[inline]
    fn put(&mut self, py: Python<'_>, environ: &Bound<'_, PyDict>, value: &[u8], stamp: u64) -> PyResult<()> {
        if self.stamp == stamp {
            return join(py, environ, self.key.bind(py), value);
        }
        self.stamp = stamp;
        if let Some(object) = &self.last_object
            && self.last_value == value
        {
            return environ.set_item(&self.key, object);
        }
        let object = latin1(py, value);
        environ.set_item(&self.key, &object)?;
        if value.len() <= KEPT_VALUE_BYTES_MAX {
            self.last_value.clear();
            self.last_value.extend_from_slice(value);
            self.last_object = Some(object.unbind());
        }
        Ok(())
    }
}

/// A field whose key is not kept has no stamp: the environ tells whether it came before.
fn put_unkept(py: Python<'_>, environ: &Bound<'_, PyDict>, key: &str, value: &[u8]) -> PyResult<()> {
    let key = PyString::new(py, key);
    if environ.contains(&key)? { join(py, environ, &key, value) } else { environ.set_item(key, latin1(py, value)) }
}

/// A repeated field: its values in one, `,` between them (RFC 9110 §5.3), for Cookie `; ` (RFC 6265 §5.4).
fn join(py: Python<'_>, environ: &Bound<'_, PyDict>, key: &Bound<'_, PyString>, value: &[u8]) -> PyResult<()> {
    let separator = if key == "HTTP_COOKIE" { "; " } else { "," };
    let value = latin1(py, value);
    let joined = match environ.get_item(key)? {
        Some(before) => before.add(separator)?.add(value)?,
        None => value.into_any(),
    };
    environ.set_item(key, joined)
}

/// `Accept-Language` → `HTTP_ACCEPT_LANGUAGE`; `None` for a field that the application must not see.
///
/// A name with an underscore would get the key of the one with a hyphen: so a client could forge what a proxy in
/// front sets, and it is dropped, as by gunicorn and nginx. Transfer-Encoding has been decoded away.
fn environ_key(name: &[u8]) -> Option<String> {
    if name.contains(&b'_') || name.eq_ignore_ascii_case(b"transfer-encoding") {
        return None;
    }
    let key: String =
        name.iter().map(|&byte| if byte == b'-' { '_' } else { char::from(byte.to_ascii_uppercase()) }).collect();
    // The two that CGI knows without a prefix (RFC 3875 §4.1.2, §4.1.3).
    match key.as_str() {
        "CONTENT_TYPE" | "CONTENT_LENGTH" => Some(key),
        _ => Some(format!("HTTP_{key}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_become_keys() {
        let cases = [
            ("Host", Some("HTTP_HOST")),
            ("accept-Language", Some("HTTP_ACCEPT_LANGUAGE")),
            ("Content-Type", Some("CONTENT_TYPE")),
            ("content-length", Some("CONTENT_LENGTH")),
            ("Content_Length", None),
            ("X_Forwarded-For", None),
            ("Transfer-Encoding", None),
            ("PATH-INFO", Some("HTTP_PATH_INFO")),
        ];
        for (name, key) in cases {
            assert_eq!(environ_key(name.as_bytes()).as_deref(), key, "{name}");
        }
    }
}
