//! Draws cards as PDF.

use krilla::action::{Action, LinkAction};
use krilla::annotation::{LinkAnnotation, Target};
use krilla::color::rgb;
use krilla::geom::{PathBuilder, Point, Rect, Size, Transform};
use krilla::metadata::Metadata;
use krilla::num::NormalizedF32;
use krilla::page::PageSettings;
use krilla::paint::{Fill, FillRule, Stroke};
use krilla::surface::Surface;
use krilla::{Document, image::Image};
use lnplaylive_core::Rgb;

use super::code::{Code, QUIET};
use super::fonts::{Fonts, Weight};
use super::layout::{Area, Page, Paper};
use super::words::Words;
use super::{Card, CardsError, Sheet};

/// Points in a millimetre.
const MM: f32 = 72.0 / 25.4;
/// Length of the cut marks, and their distance from the cards, in millimetres.
const MARK: f32 = 5.0;
const MARK_GAP: f32 = 2.0;

const INK: Rgb = Rgb([0x14, 0x18, 0x1f]);
const MUTED: Rgb = Rgb([0x5b, 0x64, 0x72]);
const HAIRLINE: Rgb = Rgb([0xc4, 0xc9, 0xd1]);
/// For nodes without a colour.
const ACCENT: Rgb = Rgb([0xf7, 0x93, 0x1a]);

pub(super) fn pdf(sheet: &Sheet, fonts: &Fonts) -> Result<Vec<u8>, CardsError> {
    let page = sheet.paper.page();
    let settings = PageSettings::from_wh(page.width * MM, page.height * MM)
        .ok_or_else(|| CardsError::Drawing("a page has no size".into()))?;
    let pen = Pen::new(sheet, fonts);
    let mut document = Document::new();
    let Words { tag, document: usual, .. } = sheet.language.words();
    let title = sheet.title.clone().unwrap_or_else(|| usual.into());
    document.set_metadata(Metadata::new().title(title).creator("lnplay.live".into()).language(tag.into()));
    for (number, cards) in sheet.cards.chunks(page.cards()).enumerate() {
        let first = number * page.cards();
        let mut paper = document.start_page_with(settings.clone());
        let mut surface = paper.surface();
        if page.margin > 0.0 {
            cut_marks(&mut surface, page);
        }
        let mut links = vec![];
        for ((index, card), area) in (first..).zip(cards).zip(page.areas()) {
            let code = match sheet.paper {
                Paper::A4 | Paper::Letter => pen.card(&mut surface, card, index, area),
                Paper::Label4x6 => pen.label(&mut surface, card, index, area),
            };
            links.extend(rect(code).map(|rect| (rect, card.code.text().to_owned())));
        }
        surface.finish();
        // On a screen the card is a link.
        for (rect, link) in links {
            let target = Target::Action(Action::Link(LinkAction::new(link)));
            paper.add_annotation(LinkAnnotation::new(rect, target).into());
        }
        paper.finish();
    }
    document.finish().map_err(|error| CardsError::Drawing(format!("{error:?}")))
}

/// Lines at the edges of the paper for a cutter, and faint ones between the cards for scissors.
fn cut_marks(surface: &mut Surface<'_>, page: Page) {
    let (left, right) = (page.margin, page.width - page.margin);
    let (top, bottom) = (page.margin, page.height - page.margin);
    let mut marks = PathBuilder::new();
    let mut lines = PathBuilder::new();
    let line = |path: &mut PathBuilder, from: (f32, f32), to: (f32, f32)| {
        path.move_to(from.0 * MM, from.1 * MM);
        path.line_to(to.0 * MM, to.1 * MM);
    };
    for x in page.column_edges() {
        line(&mut marks, (x, top - MARK_GAP - MARK), (x, top - MARK_GAP));
        line(&mut marks, (x, bottom + MARK_GAP), (x, bottom + MARK_GAP + MARK));
        if x > left + 1.0 && x < right - 1.0 {
            line(&mut lines, (x, top), (x, bottom));
        }
    }
    for y in page.row_edges() {
        line(&mut marks, (left - MARK_GAP - MARK, y), (left - MARK_GAP, y));
        line(&mut marks, (right + MARK_GAP, y), (right + MARK_GAP + MARK, y));
        if y > top + 1.0 && y < bottom - 1.0 {
            line(&mut lines, (left, y), (right, y));
        }
    }
    for (path, color, width) in [(marks, INK, 0.4), (lines, HAIRLINE, 0.3)] {
        surface.set_fill(None);
        surface.set_stroke(Some(Stroke { paint: paint(color).into(), width, ..Stroke::default() }));
        if let Some(path) = path.finish() {
            surface.draw_path(&path);
        }
    }
    surface.set_stroke(None);
}

/// Draws the cards of a sheet.
struct Pen<'a> {
    sheet: &'a Sheet,
    fonts: &'a Fonts,
    words: Words,
    logo: Option<(Image, f32, f32)>,
}

/// The alignment of text.
#[derive(Clone, Copy)]
enum Align {
    Left(f32),
    Center(f32),
}

impl<'a> Pen<'a> {
    #[expect(clippy::cast_precision_loss, reason = "a logo has some hundred pixels on a side")]
    fn new(sheet: &'a Sheet, fonts: &'a Fonts) -> Self {
        let logo = sheet.logo.as_ref().map(|logo| {
            let image = Image::from_rgba8(logo.rgba.clone(), logo.width, logo.height);
            (image, logo.width as f32, logo.height as f32)
        });
        Self { sheet, fonts, words: sheet.language.words(), logo }
    }

    /// Draws a card on a page that is cut: text on the left, code on the right. Returns the code's area.
    fn card(&self, surface: &mut Surface<'_>, card: &Card, index: usize, area: Area) -> Area {
        let pad = 5.0;
        let side = 51.0_f32.min(area.height - 2.0 * pad);
        let code = Area {
            x: area.x + area.width - pad - side,
            y: area.y + (area.height - side) / 2.0,
            width: side,
            height: side,
        };
        draw_code(surface, &card.code, code);

        let left = area.x + pad + 1.0;
        let width = code.x - left - 1.0;
        let (top, bottom) = (area.y + 8.5, area.y + area.height - 8.0);
        let at = Align::Left(left);
        self.text(surface, &self.number(index), at, top + 2.2, 6.5, MUTED, Weight::Bold);
        let baseline = self.name(surface, card, index, at, (width, top + 10.0), (17.0, 9.0));
        bar(surface, card.string.color, Area { x: left, y: baseline + 3.0, width: 12.0, height: 1.6 });
        let mut y = baseline + 10.5;
        for line in self.words.scan {
            self.fitting(surface, line, at, (width, y), (7.5, 4.5), INK, Weight::Regular);
            y += 3.4;
        }

        // From the bottom up.
        let mut y = bottom;
        self.fitting(surface, &host(card), at, (width, y), (6.5, 4.5), MUTED, Weight::Regular);
        y -= 4.2;
        for line in self.title(width, 7.5, 3).iter().rev() {
            self.text(surface, line, at, y, 7.5, INK, Weight::Bold);
            y -= 3.3;
        }
        self.logo(surface, Area { x: left, y: y - 9.5, width: width.min(32.0), height: 9.5 }, at);
        code
    }

    /// Draws a label: everything centred, the code as large as possible. Returns the code's area.
    fn label(&self, surface: &mut Surface<'_>, card: &Card, index: usize, area: Area) -> Area {
        let middle = area.x + area.width / 2.0;
        let (at, width) = (Align::Center(middle), area.width - 14.0);
        bar(surface, card.string.color, Area { x: area.x + 7.0, y: area.y + 7.0, width, height: 2.2 });

        let side = 82.0;
        let code = Area { x: middle - side / 2.0, y: area.y + 33.0, width: side, height: side };
        let titles = self.title(width, 12.0, 2);
        let mut y = if self.logo.is_some() { area.y + 28.0 } else { area.y + 21.0 };
        if self.logo.is_some() {
            let height = if titles.is_empty() { 17.0 } else { 20.5 - 5.0 * unsigned(titles.len()) };
            let top = area.y + 12.0;
            let height = height.max(9.0);
            self.logo(surface, Area { x: middle - 35.0, y: top, width: 70.0, height }, at);
            y = top + height + 5.0;
        }
        for line in titles {
            self.text(surface, &line, at, y, 12.0, INK, Weight::Bold);
            y += 5.0;
        }
        draw_code(surface, &card.code, code);

        let y = area.y + 33.0 + side;
        self.name(surface, card, index, at, (width, y + 8.0), (24.0, 12.0));
        self.text(surface, &self.number(index), at, y + 15.5, 8.0, MUTED, Weight::Bold);
        let scan = self.words.scan.join(" ");
        self.fitting(surface, &scan, at, (width, y + 24.0), (9.5, 6.0), INK, Weight::Regular);
        self.fitting(surface, &host(card), at, (width, y + 29.5), (8.0, 5.0), MUTED, Weight::Regular);
        code
    }

    fn number(&self, index: usize) -> String {
        self.words.number(index + 1, self.sheet.cards.len())
    }

    /// Draws the node's name, as large as it fits, on two lines if necessary. Returns the last baseline.
    fn name(
        &self,
        surface: &mut Surface<'_>,
        card: &Card,
        index: usize,
        at: Align,
        (width, y): (f32, f32),
        (largest, smallest): (f32, f32),
    ) -> f32 {
        let number = self.words.name(index + 1);
        let name =
            card.string.name.as_deref().map(str::trim).filter(|name| !name.is_empty()).unwrap_or(&number);
        let size = self.size_for(name, width, largest, Weight::Bold);
        if size >= smallest * 1.3 {
            self.text(surface, name, at, y, size.max(smallest), INK, Weight::Bold);
            return y;
        }
        let lines = self.wrap(name, width, smallest, Weight::Bold);
        let mut baseline = y;
        for (number, line) in lines.iter().take(2).enumerate() {
            baseline = y - 1.5 + unsigned(number) * smallest * 0.45;
            self.fitting(surface, line, at, (width, baseline), (smallest, 4.0), INK, Weight::Bold);
        }
        baseline
    }

    fn title(&self, width: f32, size: f32, most: usize) -> Vec<String> {
        let Some(title) = &self.sheet.title else { return vec![] };
        let mut lines = self.wrap(title, width, size, Weight::Bold);
        if lines.len() > most {
            lines.truncate(most);
            if let Some(last) = lines.last_mut() {
                while !last.is_empty() && self.width(&format!("{last}…"), size, Weight::Bold) > width {
                    last.pop();
                }
                last.push('…');
            }
        }
        lines
    }

    fn logo(&self, surface: &mut Surface<'_>, area: Area, at: Align) {
        let Some((image, width, height)) = &self.logo else { return };
        let scale = (area.width / width).min(area.height / height);
        let (width, height) = (width * scale, height * scale);
        let x = match at {
            Align::Left(_) => area.x,
            Align::Center(middle) => middle - width / 2.0,
        };
        let y = area.y + area.height - height;
        if let Some(size) = Size::from_wh(width * MM, height * MM) {
            surface.push_transform(&Transform::from_translate(x * MM, y * MM));
            surface.draw_image(image.clone(), size);
            surface.pop();
        }
    }

    /// Width of text, in millimetres.
    fn width(&self, text: &str, size: f32, weight: Weight) -> f32 {
        self.fonts.line(text, weight).width() * size / MM
    }

    /// The size, at most `largest`, at which text fits.
    fn size_for(&self, text: &str, width: f32, largest: f32, weight: Weight) -> f32 {
        let wide = self.width(text, largest, weight);
        if wide > width { largest * width / wide } else { largest }
    }

    /// Breaks text into lines, and words only if they are too long for a line.
    fn wrap(&self, text: &str, width: f32, size: f32, weight: Weight) -> Vec<String> {
        let mut lines: Vec<String> = vec![];
        for word in text.split_whitespace() {
            let longer = lines.last().map(|line| format!("{line} {word}"));
            match longer.filter(|line| self.width(line, size, weight) <= width) {
                Some(line) => *lines.last_mut().expect("it was just read") = line,
                None => lines.push(String::new()),
            }
            let line = lines.last_mut().expect("there is one");
            if !line.is_empty() {
                continue;
            }
            for c in word.chars() {
                let line = lines.last_mut().expect("there is one");
                if !line.is_empty() && self.width(&format!("{line}{c}"), size, weight) > width {
                    lines.push(c.into());
                } else {
                    line.push(c);
                }
            }
        }
        lines
    }

    /// Text that is reduced to fit, and truncated if that is not enough.
    #[expect(clippy::too_many_arguments, reason = "what to write, where, and how")]
    fn fitting(
        &self,
        surface: &mut Surface<'_>,
        text: &str,
        at: Align,
        (width, y): (f32, f32),
        (largest, smallest): (f32, f32),
        color: Rgb,
        weight: Weight,
    ) {
        let size = self.size_for(text, width, largest, weight);
        if size >= smallest {
            return self.text(surface, text, at, y, size, color, weight);
        }
        let mut text = text.to_owned();
        while !text.is_empty() && self.width(&format!("{text}…"), smallest, weight) > width {
            text.pop();
        }
        self.text(surface, &format!("{text}…"), at, y, smallest, color, weight);
    }

    /// Draws one line. The position is in millimetres, the size in points.
    #[expect(clippy::too_many_arguments, reason = "what to write, where, and how")]
    fn text(
        &self,
        surface: &mut Surface<'_>,
        text: &str,
        at: Align,
        y: f32,
        size: f32,
        color: Rgb,
        weight: Weight,
    ) {
        let line = self.fonts.line(text, weight);
        let x = match at {
            Align::Left(x) => x * MM,
            Align::Center(middle) => middle * MM - line.width() * size / 2.0,
        };
        fill(surface, color);
        line.draw(surface, x, y * MM, size);
    }
}

/// The host of the page that the link opens.
fn host(card: &Card) -> String {
    card.string.page.host_str().unwrap_or_default().to_owned()
}

fn unsigned(number: usize) -> f32 {
    u16::try_from(number).map_or(f32::MAX, f32::from)
}

fn paint(Rgb([red, green, blue]): Rgb) -> rgb::Color {
    rgb::Color::new(red, green, blue)
}

fn fill(surface: &mut Surface<'_>, color: Rgb) {
    let fill = Fill { paint: paint(color).into(), opacity: NormalizedF32::ONE, rule: FillRule::NonZero };
    surface.set_fill(Some(fill));
}

fn rect(area: Area) -> Option<Rect> {
    Rect::from_xywh(area.x * MM, area.y * MM, area.width * MM, area.height * MM)
}

/// Draws a bar in the node's colour, with round ends.
fn bar(surface: &mut Surface<'_>, color: Option<Rgb>, area: Area) {
    let radius = area.height / 2.0;
    // Approximates a quarter of a circle by a curve.
    let handle = radius * 0.552_284_7;
    let mut path = PathBuilder::new();
    let p = |x: f32, y: f32| Point::from_xy((area.x + x) * MM, (area.y + y) * MM);
    let (w, h) = (area.width, area.height);
    let start = p(radius, 0.0);
    path.move_to(start.x, start.y);
    let corners = [
        (p(w - radius, 0.0), p(w - radius + handle, 0.0), p(w, radius - handle), p(w, radius)),
        (p(w, h - radius), p(w, h - radius + handle), p(w - radius + handle, h), p(w - radius, h)),
        (p(radius, h), p(radius - handle, h), p(0.0, h - radius + handle), p(0.0, h - radius)),
        (p(0.0, radius), p(0.0, radius - handle), p(radius - handle, 0.0), p(radius, 0.0)),
    ];
    for (line, c1, c2, end) in corners {
        path.line_to(line.x, line.y);
        path.cubic_to(c1.x, c1.y, c2.x, c2.y, end.x, end.y);
    }
    path.close();
    fill(surface, color.unwrap_or(ACCENT));
    if let Some(path) = path.finish() {
        surface.draw_path(&path);
    }
}

/// Draws the code with its margin. All modules are one shape, so that there are no seams between them.
#[expect(clippy::cast_precision_loss, reason = "a code has 177 modules on a side at most")]
fn draw_code(surface: &mut Surface<'_>, code: &Code, area: Area) {
    let module = area.width / (code.width() + 2 * QUIET) as f32;
    let mut path = PathBuilder::new();
    for (row, column, length) in code.runs() {
        let at = |n: usize| (n + QUIET) as f32 * module;
        let dark = Area {
            x: area.x + at(column),
            y: area.y + at(row),
            width: length as f32 * module,
            height: module,
        };
        if let Some(rect) = rect(dark) {
            path.push_rect(rect);
        }
    }
    fill(surface, Rgb([0; 3]));
    if let Some(path) = path.finish() {
        surface.draw_path(&path);
    }
}
