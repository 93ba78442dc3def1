//! The root key: the one key that opens everything, and that the store never keeps.
//!
//! It opens the keyring and nothing else. People and unsealers carry it as [`Share`]s: one of one,
//! which is the key itself, or any number of which a threshold gives it back (the module `shamir`).

use hkdf::Hkdf;
use secrecy::{ExposeSecret, SecretBox};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::random::{self, RandomError};
use crate::seal::SealConfig;
use crate::shamir::{self, CombineError, PART_BYTES};
use crate::share::Share;

/// The root key: 32 bytes, boxed so that moves leave no copies, wiped when dropped.
///
/// It has no `Debug`, so that it cannot be logged:
/// ```compile_fail
/// fn log(key: &watchword_store::RootKey) -> String { format!("{key:?}") }
/// ```
/// and no `Clone`:
/// ```compile_fail
/// fn copy(key: &watchword_store::RootKey) -> watchword_store::RootKey { key.clone() }
/// ```
pub struct RootKey(SecretBox<[u8; ROOT_KEY_BYTES]>);

impl RootKey {
    /// A new key from the operating system's generator.
    ///
    /// # Errors
    ///
    /// `RandomError` when the system has no randomness to give.
    pub fn generate() -> Result<Self, RandomError> {
        Ok(Self::from_bytes(&*random::key()?))
    }

    /// Splits the key into the shares that `config` asks for. One of one is the key itself.
    ///
    /// # Errors
    ///
    /// `RandomError` when the system has no randomness to give.
    pub fn split(&self, config: SealConfig) -> Result<Vec<Share>, RandomError> {
        let key = self.0.expose_secret();
        if config.shares() == 1 {
            return Ok(vec![Share::from_bytes(Zeroizing::new(key.to_vec()))]);
        }
        let parts = shamir::split(key, config.shares(), config.threshold())?;
        Ok(parts.into_iter().map(Share::from_bytes).collect())
    }

    /// Makes a key of shares, in any order. It is the key that they were split from if there are as
    /// many as the threshold says and none is wrong; else it is another one, which opens nothing.
    ///
    /// # Errors
    ///
    /// [`CombineError`] when the shares cannot be of one key.
    pub fn combine(shares: &[Share]) -> Result<Self, CombineError> {
        if let [share] = shares {
            return share.as_whole().map(Self::from_bytes).ok_or(CombineError::TooFew);
        }
        let parts: Option<Vec<&[u8; PART_BYTES]>> = shares.iter().map(Share::as_part).collect();
        Ok(Self::from_bytes(&*shamir::combine(&parts.ok_or(CombineError::Mixed)?)?))
    }

    /// Whether both are the same key, in a time that does not depend on the bytes.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.expose_secret().ct_eq(other.0.expose_secret()).into()
    }

    /// The key for one purpose, bound to it by HKDF-SHA256, so that the root key itself never
    /// encrypts anything.
    pub(crate) fn derive(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        derive(self.0.expose_secret(), &[purpose])
    }

    /// A copy for another owner; not `Clone`, so that nobody makes one by accident.
    pub(crate) fn copy(&self) -> Self {
        Self::from_bytes(self.0.expose_secret())
    }

    fn from_bytes(bytes: &[u8; ROOT_KEY_BYTES]) -> Self {
        Self(SecretBox::init_with_mut(|key: &mut [u8; ROOT_KEY_BYTES]| *key = *bytes))
    }
}

/// 32 bytes from `secret` by HKDF-SHA256 without a salt: the input is already uniformly random.
/// `info` is the concatenation of `parts`, of which only the last may vary in length.
#[expect(clippy::expect_used, reason = "HKDF refuses only more than 255 hashes of output")]
pub(crate) fn derive(secret: &[u8; 32], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    // One hash of output cannot be too long. Stopping is right in any case: nothing may ever be
    // encrypted under a key of zeroes.
    Hkdf::<Sha256>::new(None, secret)
        .expand_multi_info(parts, key.as_mut_slice())
        .expect("32 bytes are one hash");
    key
}

/// The length of a root key in bytes.
pub const ROOT_KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(shares: i64, threshold: i64) -> SealConfig {
        SealConfig::new(shares, threshold, 0).unwrap()
    }

    fn parse(hex: &str) -> Share {
        Share::parse(hex).unwrap()
    }

    #[test]
    fn generated_keys_differ() {
        assert!(!RootKey::generate().unwrap().is_same(&RootKey::generate().unwrap()));
    }

    #[test]
    fn shares_that_cannot_be_of_one_key_are_refused() {
        let whole = "00".repeat(32);
        let (part, same_place) = ("00".repeat(32) + "01", "11".repeat(32) + "01");
        let combine = |texts: &[&str]| {
            RootKey::combine(&texts.iter().map(|text| parse(text)).collect::<Vec<_>>()).err()
        };

        assert_eq!(combine(&[]), Some(CombineError::TooFew));
        assert_eq!(combine(&[&part]), Some(CombineError::TooFew));
        assert_eq!(combine(&[&whole, &whole]), Some(CombineError::Mixed));
        assert_eq!(combine(&[&whole, &part]), Some(CombineError::Mixed));
        assert_eq!(combine(&[&part, &same_place]), Some(CombineError::Repeated));
    }

    proptest! {
        #[test]
        fn the_only_share_is_the_lower_case_hex_of_the_key(text in "[0-9a-f]{64}") {
            let key = RootKey::combine(&[parse(&text)]).unwrap();

            let shares = key.split(config(1, 1)).unwrap();

            prop_assert_eq!(shares.len(), 1);
            prop_assert!(*shares[0].to_hex() == text);
        }

        #[test]
        fn shares_give_back_the_key(shares in 2_i64..=8, more in 0_i64..=6) {
            let threshold = (2 + more).min(shares);
            let key = RootKey::generate().unwrap();

            let mut split = key.split(config(shares, threshold)).unwrap();

            prop_assert_eq!(split.len(), usize::try_from(shares).unwrap());
            prop_assert!(split.iter().all(|share| share.to_hex().len() == 66));
            split.drain(..usize::try_from(shares - threshold).unwrap());
            prop_assert!(RootKey::combine(&split).unwrap().is_same(&key));
            split.pop();
            prop_assert!(!RootKey::combine(&split).is_ok_and(|other| other.is_same(&key)));
        }
    }
}
