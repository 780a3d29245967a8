//! The organiser's logo, decoded within limits and reduced to the resolution of print.

use std::fmt;
use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder as _, ImageError, ImageFormat, ImageReader, Limits};

use super::CardsError;

/// Maximum size of the file, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// Maximum number of pixels on a side.
const MAX_SIDE: u32 = 4096;
/// Maximum number of pixels. Decoding takes up to eight bytes for each.
const MAX_PIXELS: u64 = 4 << 20;
/// Memory limit for decoding, in bytes: an image of that size and the decoder's needs.
const MAX_MEMORY: u64 = 48 << 20;
/// Number of pixels on a side that are kept: 300 dots per inch over six centimetres.
const KEPT_SIDE: u32 = 720;

const TOO_MANY_PIXELS: &str = "has too many pixels; at most 4 megapixels are allowed, and 4096 on a side";

fn reason(error: &ImageError) -> CardsError {
    CardsError::Logo(match error {
        ImageError::Limits(_) => TOO_MANY_PIXELS,
        _ => "is not a picture that can be read",
    })
}

/// A picture.
pub(super) struct Logo {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Four bytes per pixel, row by row.
    pub(super) rgba: Vec<u8>,
}

impl fmt::Debug for Logo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Logo({}x{})", self.width, self.height)
    }
}

impl Logo {
    /// Decodes `data:image/png;base64,…` or `data:image/jpeg;base64,…`.
    pub(super) fn from_data_url(url: &str) -> Result<Self, CardsError> {
        let formats =
            [("data:image/png;base64,", ImageFormat::Png), ("data:image/jpeg;base64,", ImageFormat::Jpeg)];
        let found = formats.iter().find_map(|(prefix, format)| Some((url.strip_prefix(prefix)?, *format)));
        let (data, format) =
            found.ok_or(CardsError::Logo("must be a data URL of a PNG or JPEG picture, in base64"))?;
        if data.len() / 4 * 3 > MAX_BYTES {
            return Err(CardsError::Logo("is larger than 1 MB"));
        }
        let bytes = STANDARD.decode(data).map_err(|_| CardsError::Logo("is not base64"))?;
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        let mut limits = Limits::default();
        (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
        limits.max_alloc = Some(MAX_MEMORY);
        reader.limits(limits);
        // The size is in the header; nothing is decoded before it is known to be small enough.
        let decoder = reader.into_decoder().map_err(|error| reason(&error))?;
        let (width, height) = decoder.dimensions();
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(CardsError::Logo(TOO_MANY_PIXELS));
        }
        let image = DynamicImage::from_decoder(decoder).map_err(|error| reason(&error))?;
        let large = image.width() > KEPT_SIDE || image.height() > KEPT_SIDE;
        let image = if large { image.resize(KEPT_SIDE, KEPT_SIDE, FilterType::Triangle) } else { image };
        let rgba = image.into_rgba8();
        Ok(Self { width: rgba.width(), height: rgba.height(), rgba: rgba.into_raw() })
    }
}
