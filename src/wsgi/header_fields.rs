//! Header fields → the `HTTP_…` items of an environ.
//!
//! The key object of each name and the last value of each key are kept from request to request. Keeping whole environs,
//! to copy one and set only what differs, was measured and gained nothing (12 browser headers, `bench/ab.py`: 1.00).

use super::ffi::latin1;
use super::header_rules::{Fate, HeaderRules, Treatment};
use crate::http::{Request, RequestError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::collections::HashMap;

/// The header names seen so far: name as sent → what to do with it, and the last value. Bounded, since the names are the
/// attacker's to choose; without it a name costs 100 ns more.
pub(super) struct HeaderNames {
    rules: HeaderRules,
    by_name: HashMap<Box<[u8]>, Name, foldhash::fast::RandomState>,
    keys: Vec<HeaderKey>,
    /// Counts requests; a key whose stamp equals it has come before in the same request.
    stamp: u64,
}

/// What a name is.
#[derive(Clone, Copy)]
enum Name {
    /// One like most: the index of its key.
    Key(usize),
    /// One that the application does not see.
    Unseen,
    /// One that matters to the server, or is refused: here its sender counts. The key, unless there is no room for it.
    Special(Option<usize>, Treatment),
}

/// What the fields of a trusted peer say about the request itself.
#[derive(Debug, Default)]
pub(super) struct Said<'c> {
    /// Whether its client speaks HTTPS.
    pub(super) is_https: Option<bool>,
    /// Where the application is mounted.
    pub(super) mount: Option<&'c [u8]>,
}

/// Why there is no environ.
#[derive(Debug)]
pub(super) enum Unmade {
    /// The request is not sound, by the rules of the settings.
    Refused(RequestError),
    /// Out of memory.
    Raised(PyErr),
}

impl From<PyErr> for Unmade {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<RequestError> for Unmade {
    fn from(error: RequestError) -> Self {
        Self::Refused(error)
    }
}

pub(super) const SCHEMES_DISAGREE: RequestError = RequestError::Forwarding("contradictory scheme headers");
const MOUNTS_DISAGREE: RequestError = RequestError::Forwarding("contradictory SCRIPT_NAME headers");

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
    pub(super) fn new(rules: HeaderRules) -> Self {
        Self { rules, by_name: HashMap::default(), keys: Vec::new(), stamp: 0 }
    }

    /// SCRIPT_NAME of requests that do not bring one of their own.
    pub(super) fn mount(&self) -> &[u8] {
        &self.rules.mount
    }

    /// Puts the fields of `request` into `environ`, repeated ones joined. Returns what they say about the request, if
    /// the peer `is_trusted`.
    pub(super) fn put<'c>(
        &mut self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        request: &Request<'c>,
        is_trusted: bool,
    ) -> Result<Said<'c>, Unmade> {
        self.stamp += 1;
        let mut said = Said::default();
        for (name, value) in request.fields() {
            let known = match self.by_name.get(name) {
                Some(known) => *known,
                None => match self.learn(py, name) {
                    Learned::Known(known) => known,
                    Learned::Unkept(key) => {
                        put_unkept(py, environ, &key, value)?;
                        continue;
                    }
                },
            };
            match known {
                Name::Key(index) => self.keys[index].put(py, environ, value, self.stamp)?,
                Name::Unseen => {}
                Name::Special(index, treatment) => {
                    let fate = self.heed(treatment, value, is_trusted, &mut said)?;
                    match (fate, index) {
                        (Fate::Pass, Some(index)) => self.keys[index].put(py, environ, value, self.stamp)?,
                        (Fate::Pass, None) => put_unkept(py, environ, &environ_key(name), value)?,
                        (Fate::Drop, _) => {}
                        (Fate::Refuse, _) => return Err(RequestError::Underscore.into()),
                    }
                }
            }
        }
        Ok(said)
    }

    /// Notes what a field that matters says, and returns what becomes of it.
    fn heed<'c>(
        &self,
        treatment: Treatment,
        value: &'c [u8],
        is_trusted: bool,
        said: &mut Said<'c>,
    ) -> Result<Fate, RequestError> {
        if !is_trusted {
            return Ok(treatment.untrusted);
        }
        // Of two that disagree one may be the client's, which the proxy has let through.
        if let Some(scheme) = treatment.scheme {
            let is_https = self.rules.is_https(scheme, value);
            if said.is_https.replace(is_https).is_some_and(|before| before != is_https) {
                return Err(SCHEMES_DISAGREE);
            }
        }
        if treatment.is_mount && said.mount.replace(value).is_some_and(|before| before != value) {
            return Err(MOUNTS_DISAGREE);
        }
        Ok(treatment.trusted)
    }

    /// Looks at a name that is new in this spelling.
    fn learn(&mut self, py: Python<'_>, name: &[u8]) -> Learned {
        let treatment = self.rules.treatment(name);
        let known = match treatment.common() {
            Some(Fate::Drop) => Name::Unseen,
            Some(Fate::Refuse) => Name::Special(None, treatment),
            Some(Fate::Pass) => {
                let key = environ_key(name);
                match self.key_index(py, &key) {
                    Some(index) => Name::Key(index),
                    None => return Learned::Unkept(key),
                }
            }
            None => Name::Special(self.key_index(py, &environ_key(name)), treatment),
        };
        if self.by_name.len() < NAMES_MAX {
            self.by_name.insert(name.into(), known);
        }
        Learned::Known(known)
    }

    fn key_index(&mut self, py: Python<'_>, key: &str) -> Option<usize> {
        let same = self.keys.iter().position(|known| known.key.bind(py) == key);
        same.or_else(|| self.add_key(py, key))
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
    Known(Name),
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

/// `Accept-Language` → `HTTP_ACCEPT_LANGUAGE`.
pub(super) fn environ_key(name: &[u8]) -> String {
    let key: String =
        name.iter().map(|&byte| if byte == b'-' { '_' } else { char::from(byte.to_ascii_uppercase()) }).collect();
    // The two that CGI knows without a prefix (RFC 3875 §4.1.2, §4.1.3); with an underscore they are others.
    match key.as_str() {
        "CONTENT_TYPE" | "CONTENT_LENGTH" if !name.contains(&b'_') => key,
        _ => format!("HTTP_{key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_become_keys() {
        let cases = [
            ("Host", "HTTP_HOST"),
            ("accept-Language", "HTTP_ACCEPT_LANGUAGE"),
            ("Content-Type", "CONTENT_TYPE"),
            ("content-length", "CONTENT_LENGTH"),
            ("Content_Length", "HTTP_CONTENT_LENGTH"),
            ("X_Forwarded-For", "HTTP_X_FORWARDED_FOR"),
            ("PATH-INFO", "HTTP_PATH_INFO"),
        ];
        for (name, key) in cases {
            assert_eq!(environ_key(name.as_bytes()), key, "{name}");
        }
    }
}
