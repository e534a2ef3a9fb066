//! Base64, in which bytes of embeddings and images are sent.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes with padding (RFC 4648, section 4).
pub(super) fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().enumerate().fold(0, |bits, (i, byte)| bits | u32::from(*byte) << (16 - 8 * i));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= group.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// The bytes of a text, which may lack its padding. The error is the number of the first character that cannot be there.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, usize> {
    let digits = text.trim_end_matches('=');
    // No group of digits has only one, and padding fills the last group or is not there.
    let padding = text.len() - digits.len();
    if digits.len() % 4 == 1 || (padding > 0 && (padding > 2 || !text.len().is_multiple_of(4))) {
        return Err(digits.len());
    }
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for (i, group) in digits.as_bytes().chunks(4).enumerate() {
        let mut bits = 0u32;
        for (j, digit) in group.iter().enumerate() {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return Err(4 * i + j),
            };
            bits |= u32::from(value) << (18 - 6 * j);
        }
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_was_encoded_is_decoded_and_nothing_else() {
        let bytes: Vec<u8> = (0..=255).collect();
        for n in 0..bytes.len() {
            let text = super::encode(&bytes[..n]);
            assert_eq!(super::decode(&text).as_deref(), Ok(&bytes[..n]));
            assert_eq!(super::decode(text.trim_end_matches('=')).as_deref(), Ok(&bytes[..n]));
        }
        for (text, at) in [("Zg==Zg==", 2), ("Z", 1), ("Zm9v Zg", 4), ("Zg=", 2), ("=", 0), ("Zm9v====", 4), ("Zö=", 1)]
        {
            assert_eq!(super::decode(text), Err(at), "{text}");
        }
    }

    #[test]
    fn bytes_are_padded_to_groups_of_four() {
        // The vectors of RFC 4648, section 10.
        for (text, want) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(super::encode(text.as_bytes()), want);
        }
    }
}
