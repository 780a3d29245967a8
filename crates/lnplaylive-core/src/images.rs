//! The images that a shop uploads to its remotes: their aliases, and when an old one is removed.
//!
//! An image's alias has its digest, so that a shop's new release finds its own image and leaves the old one in place beside
//! it. The image carries the id of the shop that uploaded it. Shops of several releases can share a remote: each starts
//! instances from its own image, and removes only images that it uploaded itself.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::ids::ShopId;
use crate::tags::KEY_SHOP;

/// The property of an image that names the shop that uploaded it.
pub const PROPERTY_SHOP: &str = KEY_SHOP;

/// An image is kept for this long after its last use, so that going back to the previous release needs no upload.
pub const KEEP_UNUSED: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The digits of the digest in an alias.
const DIGITS: usize = 12;

/// The alias of the image with this digest (SHA-256 in hexadecimal): `prefix`, a hyphen and the digest's first 12 digits.
pub fn alias(prefix: &str, digest: &str) -> String {
    format!("{prefix}-{}", digest.get(..DIGITS).unwrap_or(digest))
}

/// An image as a remote has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// Its digest, the server's name for it.
    pub digest: String,
    /// All of its aliases.
    pub aliases: Vec<String>,
    /// Its properties.
    pub properties: BTreeMap<String, String>,
    /// The time of its upload or of the last instance that was made from it, whichever is later.
    pub last_used: Timestamp,
}

/// What the images of a remote are needed for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Digests of the images that the shop makes instances from, on all of its remotes: two may be the same server.
    pub wanted: BTreeSet<String>,
    /// Digests of the images of all instances on the remote.
    pub in_use: BTreeSet<String>,
}

impl StoredImage {
    /// True if `shop` may remove the image: it uploaded it, nothing needs it, and it was last used at least [`KEEP_UNUSED`] ago.
    /// One with an alias that the shop has not made is somebody's.
    pub fn is_obsolete(&self, shop: &ShopId, needs: &Needs, now: Timestamp) -> bool {
        let is_ours = self.properties.get(PROPERTY_SHOP).is_some_and(|id| id == shop.as_str());
        let suffix = alias("", &self.digest);
        let is_free = !needs.wanted.contains(&self.digest) && !needs.in_use.contains(&self.digest);
        // A sum beyond the last representable time never comes.
        let is_old = self.last_used.checked_add(KEEP_UNUSED).is_ok_and(|due| due <= now);
        is_ours && is_free && is_old && self.aliases.iter().all(|alias| alias.ends_with(&suffix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn only_what_the_shop_uploaded_and_nothing_needs_is_obsolete() {
        let shop: ShopId = "shop-1".parse().expect("an id");
        let now = Timestamp::from_second(1_800_000_000).expect("in range");
        let ago = |time: SignedDuration| now.checked_sub(time).expect("in range");
        let second = SignedDuration::from_secs(1);
        let old = StoredImage {
            digest: DIGEST.into(),
            aliases: vec![alias("lnplay", DIGEST)],
            properties: [(PROPERTY_SHOP.to_owned(), "shop-1".to_owned())].into(),
            last_used: ago(KEEP_UNUSED),
        };
        assert_eq!(old.aliases, ["lnplay-0123456789ab"]);
        let none = Needs::default();
        assert!(old.is_obsolete(&shop, &none, now));
        assert!(StoredImage { aliases: Vec::new(), ..old.clone() }.is_obsolete(&shop, &none, now));

        let digest = || BTreeSet::from([DIGEST.to_owned()]);
        let kept = [
            ("a recent one", StoredImage { last_used: ago(KEEP_UNUSED - second), ..old.clone() }),
            ("the server's clock ran ahead", StoredImage { last_used: Timestamp::MAX, ..old.clone() }),
            ("the operator's", StoredImage { properties: BTreeMap::new(), ..old.clone() }),
            (
                "somebody gave it another alias",
                StoredImage { aliases: vec![alias("lnplay", DIGEST), "lnplay".into()], ..old.clone() },
            ),
        ];
        for (why, image) in kept {
            assert!(!image.is_obsolete(&shop, &none, now), "{why}");
        }
        let other: ShopId = "shop-2".parse().expect("an id");
        assert!(!old.is_obsolete(&other, &none, now), "another shop's");
        assert!(!old.is_obsolete(&shop, &Needs { wanted: digest(), ..none.clone() }, now), "it is sold");
        assert!(!old.is_obsolete(&shop, &Needs { in_use: digest(), ..none }, now), "an instance has it");
    }
}
