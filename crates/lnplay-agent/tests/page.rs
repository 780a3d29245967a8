//! The web page draws environments that do not exist yet: with the names, colours and channels that `lnplay` will give
//! them. It also has words for each step of their start. A fixture holds what `lnplay` gives; the page's own tests compare the page with it.

use std::collections::BTreeMap;
use std::path::Path;

use lnplay_agent::channels::openings;
use lnplay_agent::names::{NAMES, color};
use lnplaylive_core::ChannelSetup;
use lnplaylive_core::environment::MAX_NODES;
use lnplaylive_core::progress::Step;
use serde_json::{Value, json};
use strum::VariantArray as _;

/// The sizes whose channels are in the fixture: the odd ones, and one that shows the pattern.
const SIZES: [u32; 5] = [1, 2, 3, 4, 8];

fn channels(setup: ChannelSetup, nodes: u32) -> Vec<[u32; 2]> {
    let of = |opening: lnplay_agent::channels::Opening| {
        opening.peers.into_iter().map(move |peer| [opening.opener, peer])
    };
    openings(setup, nodes).into_iter().flat_map(of).collect()
}

fn fixture() -> Value {
    let colors: Vec<_> = (0..MAX_NODES).map(|index| format!("#{}", color(index))).collect();
    let of_sizes = |setup: ChannelSetup| -> BTreeMap<String, Vec<[u32; 2]>> {
        SIZES.iter().map(|nodes| (nodes.to_string(), channels(setup, *nodes))).collect()
    };
    let setups: BTreeMap<_, _> =
        ChannelSetup::ALL.iter().map(|setup| (setup.name(), of_sizes(*setup))).collect();
    let steps: Vec<_> = Step::VARIANTS.iter().map(|step| step.name()).collect();
    json!({ "names": NAMES.as_slice(), "colors": colors, "channels": setups, "steps": steps })
}

#[test]
fn the_pages_fixture_is_what_lnplay_gives() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../frontend/src/lib/lnplay.fixture.json");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let expected = fixture();
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, format!("{expected}\n")).expect("written");
        return;
    }
    let found: Value = serde_json::from_str(&text).unwrap_or_default();
    assert_eq!(found, expected, "run this test with UPDATE_FIXTURES=1, then mend frontend/src/lib");
}
