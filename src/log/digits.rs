//! Numbers as decimal digits, appended to a line. With `write!` a `mini` line of the access log costs 91 ns instead of
//! 76.

/// Appends `value` without leading zeros.
pub(super) fn push_decimal(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the last `N` digits of `value`, zeros in front included.
pub(super) fn push_padded<const N: usize>(out: &mut Vec<u8>, mut value: u32) {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_is_what_std_prints() {
        for value in [0, 1, 9, 10, 42, 99, 100, 200, 1_005, 65_536, 1_000_000_007, u64::from(u32::MAX) + 1, u64::MAX] {
            let mut out = b"x".to_vec();
            push_decimal(&mut out, value);
            assert_eq!(out, format!("x{value}").into_bytes());
        }
    }

    #[test]
    fn padded_has_its_width() {
        let mut out = Vec::new();
        push_padded::<2>(&mut out, 7);
        push_padded::<3>(&mut out, 42);
        push_padded::<4>(&mut out, 2026);
        push_padded::<6>(&mut out, 0);
        assert_eq!(out, b"070422026000000");
    }
}
