//! Fonts, and lines of text that use several of them.
//!
//! Built in are `DejaVu` Sans (Latin, Greek, Cyrillic, Arabic, Hebrew, Georgian, Armenian and more) and Noto Emoji, whose licences
//! allow embedding. For other scripts, such as Chinese or Thai, settings name fonts. Characters that no font has are replaced by
//! U+FFFD.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use krilla::geom::Point;
use krilla::surface::Surface;
use krilla::text::{Font, TextDirection};
use ttf_parser::Face;

use crate::error::Error;

/// The replacement for characters that no font has.
const REPLACEMENT: char = '\u{fffd}';

/// The weight of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Regular,
    Bold,
}

/// The available fonts.
pub struct Fonts {
    regular: Arc<Typeface>,
    bold: Arc<Typeface>,
    others: Vec<Arc<Typeface>>,
}

impl fmt::Debug for Fonts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fonts({} in all)", self.others.len() + 2)
    }
}

/// A font, for drawing and for measuring.
struct Typeface {
    font: Font,
    face: Face<'static>,
}

impl Typeface {
    fn new(data: &'static [u8]) -> Option<Self> {
        let face = Face::parse(data, 0).ok()?;
        Some(Self { font: Font::new(data.into(), 0)?, face })
    }

    fn has(&self, c: char) -> bool {
        self.face.glyph_index(c).is_some()
    }

    /// Relative to the font's size.
    fn advance(&self, c: char) -> f32 {
        let glyph = self.face.glyph_index(c).unwrap_or_default();
        let units = self.face.glyph_hor_advance(glyph).unwrap_or_default();
        f32::from(units) / f32::from(self.face.units_per_em())
    }
}

impl Fonts {
    /// The built-in fonts.
    pub fn built_in() -> Self {
        let typeface = |data| Arc::new(Typeface::new(data).expect("fonts that are built in are fonts"));
        Self {
            regular: typeface(dejavu::sans::regular()),
            bold: typeface(dejavu::sans::bold()),
            others: vec![typeface(epaint_default_fonts::NOTO_EMOJI_REGULAR)],
        }
    }

    /// The built-in fonts and additional files. The files stay in memory until the process ends.
    pub fn load(files: &[PathBuf]) -> Result<Self, Error> {
        let mut fonts = Self::built_in();
        for path in files {
            let data = std::fs::read(path).map_err(|source| Error::File {
                key: "card_fonts",
                path: path.clone(),
                source,
            })?;
            let typeface = Typeface::new(data.leak()).ok_or_else(|| not_a_font(path))?;
            fonts.others.push(Arc::new(typeface));
        }
        Ok(fonts)
    }

    fn candidates(&self, weight: Weight) -> impl Iterator<Item = &Typeface> {
        let (first, second) = match weight {
            Weight::Regular => (&self.regular, &self.bold),
            Weight::Bold => (&self.bold, &self.regular),
        };
        [first, second].into_iter().chain(&self.others).map(AsRef::as_ref)
    }

    /// Splits a line of text into parts with one font each.
    pub(super) fn line(&self, text: &str, weight: Weight) -> Line<'_> {
        let mut parts: Vec<Part<'_>> = vec![];
        for c in text.chars().filter(|c| !is_invisible(*c)) {
            // Parts are as long as possible: a space does not switch to the preferred font.
            let last = parts.last().map(|part| part.typeface).filter(|typeface| typeface.has(c));
            let found = if c == ' ' { last } else { None };
            let found = found.or_else(|| self.candidates(weight).find(|typeface| typeface.has(c)));
            let (typeface, c) = match found {
                Some(typeface) => (typeface, c),
                None => (self.regular.as_ref(), REPLACEMENT),
            };
            match parts.last_mut() {
                Some(part) if std::ptr::eq(part.typeface, typeface) => part.text.push(c),
                _ => parts.push(Part { typeface, text: c.into() }),
            }
        }
        Line { parts }
    }
}

fn not_a_font(path: &Path) -> Error {
    Error::Font(path.to_owned())
}

/// Characters without a shape, which must not affect their neighbours either.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// A line of text.
pub(super) struct Line<'a> {
    parts: Vec<Part<'a>>,
}

struct Part<'a> {
    typeface: &'a Typeface,
    text: String,
}

impl Line<'_> {
    /// Its width at a font size of one.
    pub(super) fn width(&self) -> f32 {
        self.parts.iter().map(Part::width).sum()
    }

    /// Draws it with its baseline at `y`, in points.
    pub(super) fn draw(&self, surface: &mut Surface<'_>, mut x: f32, y: f32, size: f32) {
        for part in &self.parts {
            let start = Point::from_xy(x, y);
            surface.draw_text(
                start,
                part.typeface.font.clone(),
                size,
                &part.text,
                false,
                TextDirection::Auto,
            );
            x += part.width() * size;
        }
    }
}

impl Part<'_> {
    fn width(&self) -> f32 {
        self.text.chars().map(|c| self.typeface.advance(c)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_no_font_has_are_replaced() {
        let fonts = Fonts::built_in();
        let text = |text: &str| {
            let line = fonts.line(text, Weight::Bold);
            line.parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().concat()
        };
        assert_eq!(text("Zoë Łódź Ωμέγα Дмитрий שלום مرحبا"), "Zoë Łódź Ωμέγα Дмитрий שלום مرحبا");
        assert_eq!(text("\u{1f680} moon"), "\u{1f680} moon");
        assert_eq!(text("张伟"), "\u{fffd}\u{fffd}");
        assert_eq!(text("a\u{202e}b\u{0}\n\u{200d}c"), "abc");
        assert!(fonts.line("wide", Weight::Bold).width() > fonts.line("wide", Weight::Regular).width());
    }
}
