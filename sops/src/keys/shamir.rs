//! Shamir's secret sharing as HashiCorp Vault does it, byte by byte over GF(2⁸): a part is the values of the polynomials
//! at one place, and that place.

use zeroize::Zeroizing;

/// Puts parts together; `None`: they cannot be of one secret.
pub(super) fn combine(parts: &[Zeroizing<Vec<u8>>]) -> Option<Zeroizing<Vec<u8>>> {
    let length = parts.first()?.len();
    if parts.len() < 2 || length < 2 || parts.iter().any(|part| part.len() != length) {
        return None;
    }
    let places: Vec<u8> = parts.iter().filter_map(|part| part.last().copied()).collect();
    let is_repeated = |(index, place): (usize, &u8)| places[..index].contains(place);
    if places.contains(&0) || places.iter().enumerate().any(is_repeated) {
        return None;
    }
    let mut secret = Zeroizing::new(vec![0; length - 1]);
    for (index, byte) in secret.iter_mut().enumerate() {
        for (part, &place) in parts.iter().zip(&places) {
            let others = places.iter().filter(|other| **other != place);
            let weight = others.fold(1, |weight, &other| multiply(weight, divide(other, other ^ place)));
            *byte ^= multiply(part[index], weight);
        }
    }
    Some(secret)
}

/// Multiplies in the field of AES.
fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    for _ in 0..8 {
        product ^= a & (b & 1).wrapping_neg();
        let carry = (a >> 7).wrapping_neg();
        a = (a << 1) ^ (carry & 0x1b);
        b >>= 1;
    }
    product
}

/// `b` is not zero: its inverse is its 254th power.
fn divide(a: u8, b: u8) -> u8 {
    let mut inverse = 1;
    for _ in 0..254 {
        inverse = multiply(inverse, b);
    }
    multiply(a, inverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A polynomial of degree two for each byte.
    fn split(secret: &[u8], places: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
        let value = |byte: u8, index: usize, place: u8| {
            let coefficients = [u8::try_from(index * 7 % 255).expect("small") ^ 0x35, 0xa7];
            let square = multiply(place, place);
            byte ^ multiply(coefficients[0], place) ^ multiply(coefficients[1], square)
        };
        let part = |&place: &u8| {
            let mut part: Vec<u8> = secret
                .iter()
                .enumerate()
                .map(|(index, byte)| value(*byte, index, place))
                .collect();
            part.push(place);
            Zeroizing::new(part)
        };
        places.iter().map(part).collect()
    }

    #[test]
    fn enough_parts_give_the_secret_in_any_order_and_fewer_do_not() {
        let secret = b"thirty-two bytes, as a key has..";
        let parts = split(secret, &[3, 200, 77, 1]);
        for chosen in [[0, 1, 2], [3, 1, 0], [2, 3, 1]] {
            let chosen: Vec<_> = chosen.map(|index: usize| parts[index].clone()).into();
            assert_eq!(combine(&chosen).expect("combined").as_slice(), secret);
        }
        assert_ne!(combine(&parts[..2]).expect("combined").as_slice(), secret);
    }

    #[test]
    fn parts_that_cannot_be_of_one_secret_are_refused() {
        let parts = split(b"secret", &[1, 2, 3]);
        assert!(combine(&[]).is_none());
        assert!(combine(&parts[..1]).is_none());
        assert!(combine(&[parts[0].clone(), parts[0].clone()]).is_none());
        assert!(combine(&[parts[0].clone(), Zeroizing::new(vec![1, 2])]).is_none());
        assert!(combine(&split(b"secret", &[0, 1])).is_none());
    }
}
