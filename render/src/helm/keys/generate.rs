//! Makes private keys from a stream of random bytes: the same stream, the same key.

use crypto_bigint::{BoxedUint, Lcm as _, NonZero, Resize as _};
use crypto_primes::hazmat::{SetBits, SmallFactorsSieveFactory};
use crypto_primes::{Flavor, is_prime, sieve_and_find};
use der::asn1::Uint;
use dsa::{Components, KeySize, SigningKey};
use rand_core::CryptoRng;

use super::private::{DsaKey, PrivateKey, RsaKey};

const PUBLIC_EXPONENT: u64 = 65537;

/// Makes an RSA key of so many bits.
pub(in crate::helm) fn rsa(random: &mut impl CryptoRng, bits: u32) -> Result<PrivateKey, String> {
    loop {
        let (p, q) = (prime(random, bits / 2)?, prime(random, bits / 2)?);
        if let Some(key) = rsa_of(p, q) {
            return Ok(PrivateKey::Rsa(Box::new(key)));
        }
    }
}

/// Makes a key on the curve P-256.
pub(in crate::helm) fn ecdsa(random: &mut impl CryptoRng) -> PrivateKey {
    loop {
        let mut bytes = [0; 32];
        random.fill_bytes(&mut bytes);
        // The curve's order is just below the bytes' range.
        if let Ok(key) = p256::SecretKey::from_slice(&bytes) {
            return PrivateKey::Ecdsa(key);
        }
    }
}

/// Makes an Ed25519 key.
pub(in crate::helm) fn ed25519(random: &mut impl CryptoRng) -> PrivateKey {
    let mut seed = [0; 32];
    random.fill_bytes(&mut seed);
    PrivateKey::Ed25519(seed)
}

/// Makes a DSA key of 2048 bits over 256, parameters and all.
pub(in crate::helm) fn dsa(random: &mut impl CryptoRng) -> Result<PrivateKey, String> {
    let Ok(parameters) = Components::try_generate_from_rng_with_key_size(random, KeySize::DSA_2048_256);
    let Ok(key) = SigningKey::try_generate_from_rng_with_components(random, parameters);
    let (public, parts) = (key.verifying_key(), key.verifying_key().components());
    let key = || {
        Some(DsaKey {
            version: 0,
            p: number(parts.p())?,
            q: number(parts.q())?,
            g: number(parts.g())?,
            y: number(public.y())?,
            x: number(key.x())?,
        })
    };
    key()
        .map(|key| PrivateKey::Dsa(Box::new(key)))
        .ok_or_else(|| "failed to generate dsa params".to_owned())
}

/// Draws a prime with its two highest bits set, so that two of them multiply to twice the bits.
fn prime(random: &mut impl CryptoRng, bits: u32) -> Result<BoxedUint, String> {
    let sieve = SmallFactorsSieveFactory::new(Flavor::Any, bits, SetBits::TwoMsb);
    let found = sieve.and_then(|sieve| {
        sieve_and_find(random, sieve, |_, candidate: &BoxedUint| {
            is_prime(Flavor::Any, candidate)
        })
    });
    match found {
        Ok(Some(prime)) => Ok(prime),
        Ok(None) => Err(format!("no prime of {bits} bits was found")),
        Err(cause) => Err(cause.to_string()),
    }
}

/// Returns the key of two primes; none when they are equal or do not go with the public exponent.
fn rsa_of(p: BoxedUint, q: BoxedUint) -> Option<RsaKey> {
    let one = BoxedUint::one();
    let (p_less, q_less) = (p.wrapping_sub(&one), q.wrapping_sub(&one));
    let order: NonZero<BoxedUint> = NonZero::new(p_less.lcm(&q_less)).into_option()?;
    let exponent = BoxedUint::from(PUBLIC_EXPONENT);
    let wide = exponent.clone().resize(order.bits_precision());
    let private = wide.invert_mod(&order).into_option()?;
    let modulo = |less: BoxedUint| Some(private.rem(&NonZero::new(less).into_option()?));
    let coefficient = q
        .invert_mod(&NonZero::new(p.clone()).into_option()?)
        .into_option()?;
    Some(RsaKey {
        version: 0,
        modulus: number(&crypto_bigint::ConcatenatingMul::concatenating_mul(&p, &q))?,
        public_exponent: number(&exponent)?,
        private_exponent: number(&private)?,
        exponent1: number(&modulo(p_less)?)?,
        exponent2: number(&modulo(q_less)?)?,
        coefficient: number(&coefficient)?,
        prime1: number(&p)?,
        prime2: number(&q)?,
    })
}

fn number(number: &BoxedUint) -> Option<Uint> {
    Uint::new(&number.to_be_bytes()).ok()
}
