//! The words on cards that are the same on all of them, by language.

use serde::Deserialize;

/// The language of cards. Names, titles and hosts are printed as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Language {
    /// `en`
    #[default]
    #[serde(rename = "en")]
    English,
    /// `es`
    #[serde(rename = "es")]
    Spanish,
}

/// What is printed in a language.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    /// Its BCP 47 tag.
    pub(super) tag: &'static str,
    /// The document's title, for cards without one.
    pub(super) document: &'static str,
    /// What to do with the code, on two lines.
    pub(super) scan: [&'static str; 2],
    node: &'static str,
    of: &'static str,
}

impl Language {
    /// Each line has to fit into the left half of a card; longer ones are printed smaller.
    pub(super) fn words(self) -> Words {
        match self {
            Self::English => Words {
                tag: "en",
                document: "Lightning nodes",
                scan: ["Scan with your", "phone’s camera"],
                node: "Node",
                of: "of",
            },
            Self::Spanish => Words {
                tag: "es",
                document: "Nodos Lightning",
                scan: ["Escanea con la", "cámara del teléfono"],
                node: "Nodo",
                of: "de",
            },
        }
    }
}

impl Words {
    /// A card's number, such as `NODE 5 OF 16`. Numbers begin at 1.
    pub(super) fn number(&self, number: usize, all: usize) -> String {
        format!("{} {number} {} {all}", self.node, self.of).to_uppercase()
    }

    /// The name of a node that has none.
    pub(super) fn name(&self, number: usize) -> String {
        format!("{} {number}", self.node)
    }
}

impl std::str::FromStr for Language {
    type Err = String;

    fn from_str(tag: &str) -> Result<Self, String> {
        match tag {
            "en" => Ok(Self::English),
            "es" => Ok(Self::Spanish),
            _ => Err("it must be en or es".into()),
        }
    }
}
