//! The layout on paper. All lengths are in millimetres, from the top left corner.

use serde::Deserialize;

/// The paper of cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Paper {
    /// ISO A4, eight cards per page, to be cut.
    #[default]
    A4,
    /// US Letter, eight cards per page, to be cut.
    Letter,
    /// Labels of 4 by 6 inches, one card each.
    #[serde(rename = "label_4x6")]
    Label4x6,
}

impl std::str::FromStr for Paper {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "a4" => Ok(Self::A4),
            "letter" => Ok(Self::Letter),
            "label_4x6" => Ok(Self::Label4x6),
            _ => Err("it must be a4, letter or label_4x6".into()),
        }
    }
}

/// A rectangle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub(super) x: f32,
    pub(super) y: f32,
    pub(super) width: f32,
    pub(super) height: f32,
}

/// The size of a page and the arrangement of its cards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Page {
    pub(super) width: f32,
    pub(super) height: f32,
    pub(super) columns: u8,
    pub(super) rows: u8,
    /// The margin that printers need, which has the cut marks.
    pub(super) margin: f32,
}

impl Paper {
    pub(super) fn page(self) -> Page {
        match self {
            Self::A4 => Page { width: 210.0, height: 297.0, columns: 2, rows: 4, margin: 10.0 },
            Self::Letter => Page { width: 215.9, height: 279.4, columns: 2, rows: 4, margin: 10.0 },
            Self::Label4x6 => Page { width: 101.6, height: 152.4, columns: 1, rows: 1, margin: 0.0 },
        }
    }
}

impl Page {
    /// Number of cards on a page.
    pub(super) fn cards(self) -> usize {
        usize::from(self.columns) * usize::from(self.rows)
    }

    /// Positions of the lines between columns, including the outer edges.
    pub(super) fn column_edges(self) -> impl Iterator<Item = f32> {
        let width = (self.width - 2.0 * self.margin) / f32::from(self.columns);
        (0..=self.columns).map(move |n| self.margin + f32::from(n) * width)
    }

    /// Positions of the lines between rows, including the outer edges.
    pub(super) fn row_edges(self) -> impl Iterator<Item = f32> {
        let height = (self.height - 2.0 * self.margin) / f32::from(self.rows);
        (0..=self.rows).map(move |n| self.margin + f32::from(n) * height)
    }

    /// The areas of its cards, row by row.
    pub(super) fn areas(self) -> Vec<Area> {
        let (xs, ys): (Vec<_>, Vec<_>) = (self.column_edges().collect(), self.row_edges().collect());
        let row = |y: &[f32]| {
            let (y, height) = (y[0], y[1] - y[0]);
            xs.windows(2).map(|x| Area { x: x[0], y, width: x[1] - x[0], height }).collect::<Vec<_>>()
        };
        ys.windows(2).flat_map(row).collect()
    }
}
