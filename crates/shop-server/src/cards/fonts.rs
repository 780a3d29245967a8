//! Fonts, and lines of text in any script: `parley` shapes them, orders them by direction and chooses a font for each character.
//!
//! Built in are `DejaVu` Sans (Latin, Greek, Cyrillic, Arabic, Hebrew, Georgian, Armenian and more) and Noto Emoji, whose licences
//! allow embedding. For other scripts, such as Chinese or Thai, settings name fonts. Characters that no font has are replaced by
//! U+FFFD.

use std::fmt;
use std::iter::successors;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use krilla::geom::Point;
use krilla::surface::Surface;
use krilla::text::{Font, GlyphId, KrillaGlyph};
use parley::fontique::{Blob, FontInfoOverride};
use parley::layout::Cluster;
use parley::style::FontFamilyName;
use parley::{FontContext, LayoutContext, PositionedLayoutItem, StyleProperty};
use ttf_parser::Face;

use crate::error::Error;

/// The replacement for characters that no font has.
const REPLACEMENT: char = '\u{fffd}';
/// The size at which text is shaped; lines are scaled from it.
const SHAPING_SIZE: f32 = 100.0;

/// The weight of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    Regular,
    Bold,
}

/// The available fonts: the regular one, the bold one, and all others.
pub struct Fonts {
    typefaces: Vec<Typeface>,
    shaper: Mutex<Shaper>,
}

impl fmt::Debug for Fonts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fonts({} in all)", self.typefaces.len())
    }
}

/// A font, for drawing and for looking up characters.
struct Typeface {
    font: Font,
    face: Face<'static>,
    /// Name of its family in the shaper: each font is a family of its own.
    family: String,
    /// Id of its data in the shaper.
    data: u64,
}

/// The state of `parley`: its fonts and its scratch space.
#[derive(Default)]
struct Shaper {
    fonts: FontContext,
    scratch: LayoutContext,
}

impl Fonts {
    /// The built-in fonts.
    pub fn built_in() -> Self {
        let mut fonts = Self { typefaces: Vec::new(), shaper: Mutex::default() };
        for data in [dejavu::sans::regular(), dejavu::sans::bold(), epaint_default_fonts::NOTO_EMOJI_REGULAR]
        {
            fonts.add(data).expect("fonts that are built in are fonts");
        }
        fonts
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
            fonts.add(data.leak()).ok_or_else(|| not_a_font(path))?;
        }
        Ok(fonts)
    }

    /// Adds a font; `None` if this is none.
    fn add(&mut self, data: &'static [u8]) -> Option<()> {
        let face = Face::parse(data, 0).ok()?;
        let font = Font::new(data.into(), 0)?;
        let family = format!("cards-{}", self.typefaces.len());
        let blob = Blob::new(Arc::new(data));
        let id = blob.id();
        let names = FontInfoOverride { family_name: Some(&family), ..FontInfoOverride::default() };
        let shaper = self.shaper.get_mut().unwrap_or_else(PoisonError::into_inner);
        if shaper.fonts.collection.register_fonts(blob, Some(names)).is_empty() {
            return None;
        }
        self.typefaces.push(Typeface { font, face, family, data: id });
        Some(())
    }

    /// The families in the order in which they are tried.
    fn families(&self, weight: Weight) -> Vec<FontFamilyName<'_>> {
        let mut families: Vec<_> =
            self.typefaces.iter().map(|typeface| FontFamilyName::named(&typeface.family)).collect();
        if weight == Weight::Bold {
            families.swap(0, 1);
        }
        families
    }

    /// Shapes a line of text.
    pub(super) fn line(&self, text: &str, weight: Weight) -> Line<'_> {
        let known = |c: char| {
            is_joiner(c) || self.typefaces.iter().any(|typeface| typeface.face.glyph_index(c).is_some())
        };
        let text: String = text
            .chars()
            .filter(|c| !is_invisible(*c))
            .map(|c| if known(c) { c } else { REPLACEMENT })
            .collect();
        let families = self.families(weight);
        let mut shaper = self.shaper.lock().unwrap_or_else(PoisonError::into_inner);
        let Shaper { fonts, scratch } = &mut *shaper;
        let mut builder = scratch.ranged_builder(fonts, &text, 1.0, false);
        builder.push_default(StyleProperty::FontSize(SHAPING_SIZE));
        builder.push_default(families.as_slice());
        let mut layout = builder.build(&text);
        layout.break_all_lines(None);
        let mut runs = Vec::new();
        for item in layout.lines().flat_map(|line| line.items()) {
            let PositionedLayoutItem::GlyphRun(run) = item else { continue };
            let (offset, run) = (run.offset(), run.run());
            let data = run.font().data.id();
            // Every font of the shaper is one of these.
            let Some(typeface) = self.typefaces.iter().find(|typeface| typeface.data == data) else {
                continue;
            };
            let clusters = run.visual_clusters();
            let glyphs = clusters.flat_map(|cluster| {
                let range = text_of(&cluster);
                cluster.glyphs().map(move |glyph| {
                    KrillaGlyph::new(
                        GlyphId::new(glyph.id),
                        glyph.advance / SHAPING_SIZE,
                        glyph.x / SHAPING_SIZE,
                        // Downwards there, upwards here.
                        -glyph.y / SHAPING_SIZE,
                        0.0,
                        range.clone(),
                        None,
                    )
                })
            });
            runs.push(Run { typeface, offset: offset / SHAPING_SIZE, glyphs: glyphs.collect() });
        }
        Line { width: layout.full_width() / SHAPING_SIZE, runs, text }
    }
}

/// The text that a cluster's glyphs stand for: with a ligature, that of the following clusters too, which have no glyphs.
fn text_of(cluster: &Cluster<'_, [u8; 4]>) -> Range<usize> {
    let Range { start, mut end } = cluster.text_range();
    let parts = successors(cluster.next_logical(), Cluster::next_logical);
    for part in parts.take_while(Cluster::is_ligature_continuation) {
        end = part.text_range().end;
    }
    start..end
}

fn not_a_font(path: &Path) -> Error {
    Error::Font(path.to_owned())
}

/// The joiners, by which Persian and Indic scripts choose between forms of a letter.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Characters without a shape, which must not affect their neighbours either: a name must not turn the text around it.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// A line of text. Its measures are at a font size of one.
pub(super) struct Line<'a> {
    text: String,
    width: f32,
    /// In the order in which they are seen, from left to right.
    runs: Vec<Run<'a>>,
}

/// Glyphs of one font, from left to right.
struct Run<'a> {
    typeface: &'a Typeface,
    /// Distance from the start of the line.
    offset: f32,
    glyphs: Vec<KrillaGlyph>,
}

impl Line<'_> {
    /// Its width at a font size of one.
    pub(super) fn width(&self) -> f32 {
        self.width
    }

    /// Draws it with its baseline at `y`, in points.
    pub(super) fn draw(&self, surface: &mut Surface<'_>, x: f32, y: f32, size: f32) {
        for run in &self.runs {
            let start = Point::from_xy(x + run.offset * size, y);
            surface.draw_glyphs(start, &run.glyphs, run.typeface.font.clone(), &self.text, size, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_no_font_has_are_replaced() {
        let fonts = Fonts::built_in();
        let text = |text: &str| fonts.line(text, Weight::Bold).text;
        assert_eq!(text("Zoë Łódź Ωμέγα Дмитрий שלום مرحبا"), "Zoë Łódź Ωμέγα Дмитрий שלום مرحبا");
        assert_eq!(text("\u{1f680} moon"), "\u{1f680} moon");
        assert_eq!(text("张伟"), "\u{fffd}\u{fffd}");
        assert_eq!(text("a\u{202e}b\u{0}\nc"), "abc");
        assert!(fonts.line("wide", Weight::Bold).width() > fonts.line("wide", Weight::Regular).width());
    }

    /// Glyph ids from left to right.
    fn glyphs(fonts: &Fonts, text: &str) -> Vec<u32> {
        let line = fonts.line(text, Weight::Regular);
        line.runs.iter().flat_map(|run| &run.glyphs).map(|glyph| glyph.glyph_id.to_u32()).collect()
    }

    #[test]
    fn text_is_shaped_before_it_is_measured() {
        let fonts = Fonts::built_in();
        let width = |text: &str| fonts.line(text, Weight::Regular).width();
        // Lam and alef become one glyph, letters in a word other glyphs than alone.
        let line = fonts.line("لا", Weight::Regular);
        let [glyph] = &line.runs[0].glyphs[..] else { panic!("one glyph") };
        assert_eq!(&line.text[glyph.text_range.clone()], "لا", "it can be copied from the PDF");
        assert!(width("لا") < width("ل") + width("ا"));
        assert_ne!(glyphs(&fonts, "بب")[0], glyphs(&fonts, "ب")[0]);
        // A mark stands over its letter, composed or not.
        for (composed, parts) in [("é", "e\u{301}"), ("ё", "е\u{308}")] {
            assert!((width(composed) - width(parts)).abs() < 0.001, "{composed}");
        }
    }

    #[test]
    fn scripts_run_in_their_own_direction_within_a_line() {
        let fonts = Fonts::built_in();
        let [alef, bet] = ["א", "ב"].map(|letter| glyphs(&fonts, letter)[0]);
        let latin = glyphs(&fonts, "a")[0];
        let line = glyphs(&fonts, "aאב");
        assert_eq!(line, [latin, bet, alef], "Hebrew is read from the right");
    }

    #[test]
    fn a_line_of_several_fonts_has_no_gaps() {
        let fonts = Fonts::built_in();
        let line = fonts.line("Zoë \u{1f680} שלום", Weight::Bold);
        assert!(line.runs.len() >= 3, "text, picture, text");
        let mut at = 0.0;
        for run in &line.runs {
            assert!((run.offset - at).abs() < 0.001);
            at += run.glyphs.iter().map(|glyph| glyph.x_advance).sum::<f32>();
        }
        assert!((at - line.width()).abs() < 0.001);
    }
}
