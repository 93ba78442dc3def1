//! Shamir's sharing of a key: any `threshold` of the parts give it back, fewer say nothing of it.
//!
//! Each byte of the key is the value at zero of a polynomial over GF(2⁸) with the modulus 0x11b,
//! whose other coefficients are random; a part holds the values of all these polynomials at one
//! place. Layout and field are Vault's: the values, then one byte for the place, which is not zero
//! and different in every part. Places are drawn at random, so that a part does not tell how many
//! there are.
//!
//! Neither time nor memory access depends on a secret: products are computed bit by bit with masks,
//! not looked up in tables of logarithms, and an inverse is a fixed power. What may show is how many
//! parts there are.
//!
//! Parts are not authenticated here. A wrong part gives a wrong key, which the keyring then refuses.

use zeroize::Zeroizing;

use crate::random::{self, RandomError};

/// The bytes that are shared.
pub(crate) const SECRET_BYTES: usize = 32;

/// The values of the polynomials, and the place.
pub(crate) const PART_BYTES: usize = SECRET_BYTES + 1;

/// Splits `secret` into `parts` parts of which any `threshold` give it back.
///
/// # Errors
///
/// `RandomError` when the system has no randomness to give.
pub(crate) fn split(
    secret: &[u8; SECRET_BYTES],
    parts: u8,
    threshold: u8,
) -> Result<Vec<Zeroizing<Vec<u8>>>, RandomError> {
    // The highest coefficient may be zero like any other: a polynomial of which that is excluded
    // would tell the holders of `threshold - 1` parts which key it is not.
    // Reserved at once: with a part, a copy that a growing list leaves behind tells the secret.
    let mut coefficients = Vec::with_capacity(usize::from(threshold));
    for _ in 1..threshold {
        coefficients.push(random::key()?);
    }
    let places = places()?;
    Ok(places[..usize::from(parts)]
        .iter()
        .map(|&place| {
            let mut part = Zeroizing::new(Vec::with_capacity(PART_BYTES));
            part.extend_from_slice(evaluate(secret, &coefficients, place).as_slice());
            part.push(place);
            part
        })
        .collect())
}

/// The secret of which these are parts; something else if one of them is wrong, or if there are
/// fewer than the threshold.
///
/// # Errors
///
/// [`CombineError`] when no polynomial goes through them.
pub(crate) fn combine(
    parts: &[&[u8; PART_BYTES]],
) -> Result<Zeroizing<[u8; SECRET_BYTES]>, CombineError> {
    if parts.is_empty() {
        return Err(CombineError::TooFew);
    }
    for (index, part) in parts.iter().enumerate() {
        if parts[..index].iter().any(|other| place(other) == place(part)) {
            return Err(CombineError::Repeated);
        }
    }
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    for (index, part) in parts.iter().enumerate() {
        // Lagrange's weight of this part at zero: the product of x' / (x' - x) over the others.
        // Addition and subtraction are exclusive or.
        let mut weight = 1;
        for (other_index, other) in parts.iter().enumerate() {
            if other_index != index {
                let quotient = multiply(place(other), inverse(place(other) ^ place(part)));
                weight = multiply(weight, quotient);
            }
        }
        for (byte, &value) in secret.iter_mut().zip(part.iter()) {
            *byte ^= multiply(weight, value);
        }
    }
    Ok(secret)
}

/// Why parts give nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CombineError {
    /// A whole key and a part of a split one, or two whole keys.
    #[error("these are not shares of one key: a key that was not split has one share only")]
    Mixed,
    /// Two different shares say that they are the same part.
    #[error("two of these shares are the same part of different keys")]
    Repeated,
    /// None at all, or one part of a key that was split.
    #[error("a key that was split takes at least two shares")]
    TooFew,
}

/// Where the polynomials were evaluated for this part.
fn place(part: &[u8; PART_BYTES]) -> u8 {
    part[SECRET_BYTES]
}

/// The polynomials with `secret` at zero and these coefficients, lowest first, at `place`.
fn evaluate(
    secret: &[u8; SECRET_BYTES],
    coefficients: &[Zeroizing<[u8; SECRET_BYTES]>],
    place: u8,
) -> Zeroizing<[u8; SECRET_BYTES]> {
    // Horner's rule, from the highest coefficient down.
    let mut values = Zeroizing::new([0; SECRET_BYTES]);
    let down = coefficients.iter().rev().map(|coefficient| &**coefficient);
    for coefficient in down.chain([secret]) {
        for (value, &byte) in values.iter_mut().zip(coefficient) {
            *value = multiply(*value, place) ^ byte;
        }
    }
    values
}

/// The numbers 1 to 255 in random order.
fn places() -> Result<[u8; 255], RandomError> {
    let mut places = std::array::from_fn(|index| index as u8 + 1);
    for last in (1..places.len()).rev() {
        places.swap(last, below(last + 1)?);
    }
    Ok(places)
}

/// A random number below `bound`, which is at most 256; each as likely as the others.
fn below(bound: usize) -> Result<usize, RandomError> {
    loop {
        let [byte] = random::bytes::<1>()?;
        // Of the last, incomplete round of numbers none is taken.
        if usize::from(byte) < 256 - 256 % bound {
            return Ok(usize::from(byte) % bound);
        }
    }
}

/// The product in GF(2⁸), modulus x⁸ + x⁴ + x³ + x + 1.
fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut product) = (a, 0);
    for bit in 0..8 {
        product ^= a & mask(b >> bit);
        a = (a << 1) ^ (0x1b & mask(a >> 7));
    }
    product
}

/// The inverse in GF(2⁸), which is the 254th power; 0 for 0.
fn inverse(a: u8) -> u8 {
    // 254 = 2 + 4 + 8 + … + 128.
    let (mut power, mut product) = (a, 1);
    for _ in 0..7 {
        power = multiply(power, power);
        product = multiply(product, power);
    }
    product
}

/// All ones if the lowest bit is set, else zero. The barrier keeps the compiler from seeing that
/// there are only two cases, and from making a branch of them.
fn mask(bit: u8) -> u8 {
    std::hint::black_box(bit & 1).wrapping_neg()
}

#[cfg(test)]
mod tests;
