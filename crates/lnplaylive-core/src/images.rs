//! The images that a shop uploads to its remotes: their aliases, and when an old one is removed.
//!
//! An image's alias has its digest, so that a shop's new release finds its own image and leaves the old one in place beside
//! it. The image carries the id of the shop that uploaded it. Shops of several releases can share a remote: each starts
//! instances from its own image, and removes only images that it uploaded itself.
//!
//! Servers do not tell when an instance was last made from an image that was uploaded, so the shop notes on the image when it
//! found it unused first.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::ids::ShopId;
use crate::tags::KEY_SHOP;

/// The property of an image that names the shop that uploaded it.
pub const PROPERTY_SHOP: &str = KEY_SHOP;
/// The property with the time since which nothing needs the image, in unix seconds. Empty while something does.
pub const PROPERTY_UNUSED_SINCE: &str = "user.lnplaylive.unused-since";

/// An image that nothing needs is kept for this long, so that going back to the previous release needs no upload.
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
}

/// What the images of a remote are needed for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Digests of the images that the shop makes instances from, on all of its remotes: two may be the same server.
    pub wanted: BTreeSet<String>,
    /// Digests of the images of all instances on the remote.
    pub in_use: BTreeSet<String>,
}

/// What is to be done with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Leave,
    /// Note that nothing needs it from now on.
    NoteUnused,
    /// Note that something needs it.
    NoteUsed,
    /// Remove it.
    Remove,
}

impl StoredImage {
    /// Decides on the image for `shop`. It removes one that it uploaded and that nothing has needed for [`KEEP_UNUSED`]. One with
    /// an alias that the shop has not made is somebody's, and so is one of another shop.
    pub fn judge(&self, shop: &ShopId, needs: &Needs, now: Timestamp) -> Verdict {
        let suffix = alias("", &self.digest);
        let property = |key| self.properties.get(key).map_or("", String::as_str);
        let is_ours = property(PROPERTY_SHOP) == shop.as_str()
            && self.aliases.iter().all(|alias| alias.ends_with(&suffix));
        let is_needed = needs.wanted.contains(&self.digest) || needs.in_use.contains(&self.digest);
        let noted = property(PROPERTY_UNUSED_SINCE);
        if !is_ours || is_needed && noted.is_empty() {
            return Verdict::Leave;
        }
        if is_needed {
            return Verdict::NoteUsed;
        }
        let unused_since = noted.parse().ok().and_then(|second| Timestamp::from_second(second).ok());
        match unused_since {
            None => Verdict::NoteUnused,
            // A sum beyond the last representable time never comes.
            Some(since) if since.checked_add(KEEP_UNUSED).is_ok_and(|due| due <= now) => Verdict::Remove,
            Some(_) => Verdict::Leave,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const NOW: i64 = 1_800_000_000;

    /// An image of shop-1 with this note.
    fn image(unused_since: &str) -> StoredImage {
        let properties = [(PROPERTY_SHOP, "shop-1"), (PROPERTY_UNUSED_SINCE, unused_since), ("os", "nixos")];
        StoredImage {
            digest: DIGEST.into(),
            aliases: vec![alias("lnplay", DIGEST)],
            properties: properties.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        }
    }

    fn judged_by(shop: &str, image: &StoredImage, needs: &Needs) -> Verdict {
        image.judge(&shop.parse().expect("an id"), needs, Timestamp::from_second(NOW).expect("in range"))
    }

    #[test]
    fn only_what_the_shop_uploaded_and_nothing_has_needed_for_a_week_is_removed() {
        let none = Needs::default();
        let judged = |image: &StoredImage| judged_by("shop-1", image, &none);
        let old = image(&(NOW - KEEP_UNUSED.as_secs()).to_string());
        assert_eq!(old.aliases, ["lnplay-0123456789ab"]);
        assert_eq!(judged(&old), Verdict::Remove);
        assert_eq!(judged(&StoredImage { aliases: Vec::new(), ..old.clone() }), Verdict::Remove);

        let recent = (NOW - KEEP_UNUSED.as_secs() + 1).to_string();
        for (note, verdict) in [
            (recent.as_str(), Verdict::Leave),
            ("9999999999", Verdict::Leave),
            ("", Verdict::NoteUnused),
            ("yesterday", Verdict::NoteUnused),
            ("99999999999999999999", Verdict::NoteUnused),
        ] {
            assert_eq!(judged(&image(note)), verdict, "{note:?}");
        }

        assert_eq!(judged_by("shop-2", &old, &none), Verdict::Leave, "another shop's");
        assert_eq!(judged(&StoredImage { properties: BTreeMap::new(), ..old.clone() }), Verdict::Leave);
        let aliases = vec![alias("lnplay", DIGEST), "lnplay".into()];
        assert_eq!(judged(&StoredImage { aliases, ..old }), Verdict::Leave, "somebody gave it another");
    }

    #[test]
    fn what_is_needed_is_kept_and_its_note_goes() {
        let old = image(&(NOW - KEEP_UNUSED.as_secs()).to_string());
        let digest = || BTreeSet::from([DIGEST.to_owned()]);
        let wanted = Needs { wanted: digest(), ..Needs::default() };
        let in_use = Needs { in_use: digest(), ..Needs::default() };
        for needs in [wanted, in_use] {
            assert_eq!(judged_by("shop-1", &old, &needs), Verdict::NoteUsed);
            assert_eq!(judged_by("shop-1", &image(""), &needs), Verdict::Leave);
            assert_eq!(judged_by("shop-2", &old, &needs), Verdict::Leave);
        }
    }
}
