//! QR codes as modules.

use std::fmt;

use qrcode::{Color, EcLevel, QrCode};

/// The white margin that readers need, in modules on each side.
pub(super) const QUIET: usize = 4;
/// Codes with up to this many modules on a side get more error correction, and are still easy to scan. An attendee's link has 93
/// modules with the lowest correction and 105 with the next: smaller modules would be worse.
const EASY: usize = 85;

/// A QR code.
pub(super) struct Code {
    width: usize,
    dark: Vec<bool>,
    text: String,
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({} modules)", self.width)
    }
}

impl Code {
    /// The code of a text; `None` if the text is too long.
    pub(super) fn new(text: &str) -> Option<Self> {
        let make = |level| QrCode::with_error_correction_level(text, level).ok();
        let code = make(EcLevel::M).filter(|code| code.width() <= EASY).or_else(|| make(EcLevel::L))?;
        let dark = code.to_colors().into_iter().map(|color| color == Color::Dark).collect();
        Some(Self { width: code.width(), dark, text: text.to_owned() })
    }

    /// Number of modules on a side, without the margin.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The encoded text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Runs of dark modules: row, first column, length.
    pub(super) fn runs(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        self.dark.chunks(self.width).enumerate().flat_map(|(row, modules)| {
            let mut column = 0;
            modules.chunk_by(|a, b| a == b).filter_map(move |run| {
                let first = column;
                column += run.len();
                run[0].then_some((row, first, run.len()))
            })
        })
    }
}
