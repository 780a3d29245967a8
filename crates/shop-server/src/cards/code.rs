//! QR codes as modules.

use std::fmt;

use qrcode::{Color, EcLevel, QrCode};

/// The white margin that a reader needs, in modules on each side.
pub(super) const QUIET: usize = 4;
/// Up to so many modules a side, a code has room for more error correction and is still easy to scan. An attendee's link
/// makes 93 with the least correction, 105 with more: smaller modules are the worse of the two.
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
    /// The code of a text, or none if it is too long for one.
    pub(super) fn new(text: &str) -> Option<Self> {
        let make = |level| QrCode::with_error_correction_level(text, level).ok();
        let code = make(EcLevel::M).filter(|code| code.width() <= EASY).or_else(|| make(EcLevel::L))?;
        let dark = code.to_colors().into_iter().map(|color| color == Color::Dark).collect();
        Some(Self { width: code.width(), dark, text: text.to_owned() })
    }

    /// Modules on a side, without the margin.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// What it says.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Dark modules that lie side by side: row, first column, how many.
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
