//! Which records the operator wants in the access log: all, or not those of some paths, or only the bad ones.

use super::Record;
use super::decode::split_target;
use crate::settings::Logging;

/// What is kept out.
#[derive(Debug)]
pub(super) struct Filter {
    status_min: u16,
    paths: Vec<Box<[u8]>>,
    /// The beginnings of paths.
    prefixes: Vec<Box<[u8]>>,
    is_on: bool,
}

impl Filter {
    pub fn new(logging: &Logging) -> Self {
        let (prefixes, paths): (Vec<&str>, Vec<&str>) =
            logging.access_log_skip.iter().map(String::as_str).partition(|path| path.ends_with('*'));
        let is_on = logging.access_log_min_status > 0 || !logging.access_log_skip.is_empty();
        Self {
            status_min: logging.access_log_min_status,
            paths: paths.into_iter().map(|path| path.as_bytes().into()).collect(),
            prefixes: prefixes.into_iter().map(|path| path.as_bytes()[..path.len() - 1].into()).collect(),
            is_on,
        }
    }

    /// Whether anything is kept out.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Paths are compared as they were sent, not percent-decoded.
    pub fn admits(&self, record: &Record<'_>) -> bool {
        if record.status < self.status_min {
            return false;
        }
        let (path, _) = split_target(record.target);
        !self.paths.iter().any(|skipped| **skipped == *path)
            && !self.prefixes.iter().any(|skipped| path.starts_with(skipped))
    }
}
