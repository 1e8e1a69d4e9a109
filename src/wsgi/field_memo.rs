//! Header fields that applications send again and again, kept as the bytes they become.
//!
//! The name and value of most response headers are constants of the application, so the same two objects come with
//! every response. Looking an object up by its address and copying its line saves checking and encoding it anew
//! (16-deep pipelining, `bench/ab.py`: 0.96 times the CPU).

use crate::http::response::{CheckedField, ResponseHead};
use pyo3::prelude::*;
use pyo3::types::PyString;

/// Fields by the addresses of their name and value objects. A field that is found twice at its place stays until
/// another one takes the place.
pub(super) struct FieldMemo {
    places: [Option<Memo>; PLACES],
}

struct Memo {
    /// Held, so that the address cannot become that of another object.
    name: Py<PyString>,
    value: Py<PyString>,
    field: CheckedField,
}

const PLACES: usize = 32;

/// Long values, tokens and cookies, are seldom the same object twice.
const FIELD_BYTES_MAX: usize = 256;

impl Default for FieldMemo {
    fn default() -> Self {
        Self { places: [const { None }; PLACES] }
    }
}

impl FieldMemo {
    /// Adds the field of these two objects to `head` if it is known.
    #[inline]
    pub(super) fn recall(
        &self,
        name: &Bound<'_, PyString>,
        value: &Bound<'_, PyString>,
        head: &mut ResponseHead,
    ) -> bool {
        match &self.places[place(name, value)] {
            Some(memo) if memo.name.is(name) && memo.value.is(value) => {
                head.checked_field(&memo.field);
                true
            }
            _ => false,
        }
    }

    /// Keeps the field that was just added to `head` for these two objects.
    pub(super) fn keep(&mut self, name: &Bound<'_, PyString>, value: &Bound<'_, PyString>, head: &ResponseHead) {
        // To let go of another kind of str may run code of the application, which must not happen under the lock.
        let is_plain = |text: &Bound<'_, PyString>| text.is_exact_instance_of::<PyString>();
        if let Some(field) = head.last_field(FIELD_BYTES_MAX)
            && is_plain(name)
            && is_plain(value)
        {
            let memo = Memo { name: name.clone().unbind(), value: value.clone().unbind(), field };
            self.places[place(name, value)] = Some(memo);
        }
    }
}

/// Objects lie at multiples of 16.
fn place(name: &Bound<'_, PyString>, value: &Bound<'_, PyString>) -> usize {
    let mixed = (name.as_ptr() as usize >> 4).wrapping_mul(31) ^ (value.as_ptr() as usize >> 4);
    (mixed ^ mixed >> 7) % PLACES
}
