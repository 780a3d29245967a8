//! Printed cards, one for each attendee, with a QR code that connects them to their node.
//!
//! ```no_run
//! # fn example(json: &[u8]) -> Result<Vec<u8>, shop_server::cards::CardsError> {
//! use shop_server::cards::{CardsRequest, Fonts};
//!
//! let sheet = CardsRequest::from_json(json)?.check()?;
//! sheet.draw(&Fonts::built_in())
//! # }
//! ```

mod code;
mod draw;
mod fonts;
mod layout;
mod logo;
mod words;

use lnplaylive_core::ConnectionString;
use serde::Deserialize;
use thiserror::Error;

use code::Code;
pub use fonts::Fonts;
pub use layout::Paper;
use logo::Logo;
pub use words::Language;

/// Maximum number of cards: the maximum number of nodes of an environment.
pub const MAX_CARDS: usize = lnplaylive_core::environment::MAX_NODES as usize;
/// Maximum length of a connection string, in bytes.
pub const MAX_STRING: usize = lnplaylive_core::connection::MAX_LENGTH;
/// Maximum length of the title, in characters.
pub const MAX_TITLE: usize = 80;

/// A request for cards, in JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardsRequest {
    /// The connection strings, 1 to [`MAX_CARDS`], in the order of the nodes.
    pub connection_strings: Vec<String>,
    /// The purpose of the cards, such as the name of the event.
    #[serde(default)]
    pub title: Option<String>,
    /// A PNG or JPEG picture as a `data:` URL.
    #[serde(default)]
    pub logo: Option<String>,
    /// The paper to print on.
    #[serde(default)]
    pub paper: Paper,
    /// The language of the words that are the same on all cards.
    #[serde(default)]
    pub language: Language,
}

/// The reason why a request was rejected. Display never repeats the request, because connection strings are secrets.
#[derive(Debug, Error)]
pub enum CardsError {
    /// It is not the expected JSON.
    #[error("this is not a request for cards: {0}")]
    Unreadable(String),
    /// There are no connection strings, or too many.
    #[error("{0} connection strings were given; 1 to {MAX_CARDS} are allowed")]
    Count(usize),
    /// A connection string cannot be used.
    #[error("connection string {number} {reason}")]
    String {
        /// Its position, from 1.
        number: usize,
        /// The problem.
        reason: String,
    },
    /// The title is too long.
    #[error("the title is longer than {MAX_TITLE} characters")]
    Title,
    /// The logo cannot be used.
    #[error("the logo {0}")]
    Logo(&'static str),
    /// An internal error.
    #[error("the cards could not be drawn: {0}")]
    Drawing(String),
}

/// Cards that can be drawn.
#[derive(Debug)]
pub struct Sheet {
    cards: Vec<Card>,
    title: Option<String>,
    logo: Option<Logo>,
    paper: Paper,
    language: Language,
}

/// One card.
#[derive(Debug)]
struct Card {
    string: ConnectionString,
    code: Code,
}

impl CardsRequest {
    /// Parses a request.
    pub fn from_json(json: &[u8]) -> Result<Self, CardsError> {
        // serde's message may repeat values, so only its position is shown.
        serde_json::from_slice(json).map_err(|error| {
            let what = if error.is_data() { "a key is missing, unknown or wrong" } else { "it is not JSON" };
            CardsError::Unreadable(format!("{what} (line {}, column {})", error.line(), error.column()))
        })
    }

    /// Checks that everything can be drawn.
    pub fn check(self) -> Result<Sheet, CardsError> {
        let count = self.connection_strings.len();
        if count == 0 || count > MAX_CARDS {
            return Err(CardsError::Count(count));
        }
        let cards =
            self.connection_strings.iter().enumerate().map(|(index, text)| Card::new(index + 1, text));
        let cards = cards.collect::<Result<_, _>>()?;
        let title = self.title.map(|title| title.trim().to_owned()).filter(|title| !title.is_empty());
        if title.as_ref().is_some_and(|title| title.chars().count() > MAX_TITLE) {
            return Err(CardsError::Title);
        }
        let logo = self.logo.filter(|logo| !logo.is_empty());
        let logo = logo.map(|url| Logo::from_data_url(&url)).transpose()?;
        Ok(Sheet { cards, title, logo, paper: self.paper, language: self.language })
    }
}

impl Card {
    fn new(number: usize, text: &str) -> Result<Self, CardsError> {
        let wrong = |reason: String| CardsError::String { number, reason };
        if text.len() > MAX_STRING {
            return Err(wrong(format!("is longer than {MAX_STRING} bytes")));
        }
        let string: ConnectionString =
            text.parse().map_err(|_| wrong("is not a link to a node".to_owned()))?;
        if !matches!(string.page.scheme(), "http" | "https") {
            return Err(wrong("does not lead to an http or https page".to_owned()));
        }
        // Encodes the text itself, not a reconstruction, so that the code contains exactly what was sold.
        let code = Code::new(text).ok_or_else(|| wrong("does not fit into a QR code".to_owned()))?;
        Ok(Self { string, code })
    }
}

impl Sheet {
    /// Number of cards.
    pub fn len(&self) -> usize {
        self.cards.len()
    }

    /// Always false: a sheet has cards.
    pub fn is_empty(&self) -> bool {
        self.cards.is_empty()
    }

    /// Draws the cards as a PDF. The same cards give the same bytes.
    pub fn draw(&self, fonts: &Fonts) -> Result<Vec<u8>, CardsError> {
        draw::pdf(self, fonts)
    }
}
