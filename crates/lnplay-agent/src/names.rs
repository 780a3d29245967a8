//! The default names and colours of nodes.

use lnplaylive_core::Rgb;

/// A name for each node that an environment can have: short, and easy to say and to tell apart.
pub const NAMES: [&str; 64] = [
    "Alice", "Bruno", "Carol", "Diego", "Elena", "Farid", "Greta", "Hugo", "Imani", "Jonas", "Keiko", "Liam",
    "Maya", "Nils", "Olga", "Pablo", "Quinn", "Rosa", "Samir", "Tara", "Umar", "Vera", "Wanda", "Xavier",
    "Yara", "Zeno", "Badger", "Camel", "Dolphin", "Eagle", "Falcon", "Gecko", "Heron", "Ibis", "Jaguar",
    "Koala", "Lemur", "Marmot", "Newt", "Otter", "Puffin", "Quokka", "Raven", "Salmon", "Tapir", "Urchin",
    "Viper", "Walrus", "Yak", "Zebra", "Amber", "Basil", "Cedar", "Dune", "Ember", "Fjord", "Grove", "Hazel",
    "Indigo", "Jade", "Kelp", "Lotus", "Maple", "Nova",
];

/// The default name of node `index`.
pub fn default_name(index: u32) -> &'static str {
    NAMES[index as usize % NAMES.len()]
}

/// The default colour of node `index`. The hues are a golden angle apart, so that those of neighbours differ well.
pub fn color(index: u32) -> Rgb {
    // 137.508 degrees are 0.381966 of a circle; a circle is 1536 steps (six ramps of 256).
    let hue = index * 381_966 % 1_000_000 * 1536 / 1_000_000;
    // From 32 to 223, so that the colour is neither black nor white.
    let level = |value: u32| u8::try_from(32 + value * 3 / 4).unwrap_or(u8::MAX);
    let (up, down) = (level(hue % 256), level(255 - hue % 256));
    let (none, full) = (level(0), level(255));
    Rgb(match hue / 256 {
        0 => [full, up, none],
        1 => [down, full, none],
        2 => [none, full, up],
        3 => [none, down, full],
        4 => [up, none, full],
        _ => [full, none, down],
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_node_has_its_own_name_and_colour() {
        assert_eq!(NAMES.iter().collect::<HashSet<_>>().len(), 64);
        assert_eq!((0..64).map(color).collect::<HashSet<_>>().len(), 64);
        assert!(NAMES.iter().all(|name| name.len() <= crate::node::MAX_ALIAS));
    }
}
