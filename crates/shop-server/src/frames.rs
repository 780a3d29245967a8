//! Tracks the frames in one direction of a WebSocket, without storing them.
//!
//! The relay passes bytes on as they arrive, so an idle connection has no buffer, and a round trip takes hardly longer. It needs to
//! know the frame boundaries to reject frames that are too large, to detect frames that never end, and to send a close frame
//! between two frames. RFC 6455, section 5.2.

use thiserror::Error;

/// A violation for which a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Violation {
    /// A frame, or all frames of a message together, are too large.
    #[error("a WebSocket message is too large")]
    TooLarge,
    /// A control frame is too long or fragmented.
    #[error("a WebSocket control frame is malformed")]
    Control,
}

/// Maximum payload of a control frame.
const CONTROL_MAX: u64 = 125;

/// The position in the stream of frames.
#[derive(Debug)]
pub(crate) struct Frames {
    limit: u64,
    /// Size of the current message so far, including headers, so that empty fragments count.
    message: u64,
    /// The header of the current frame.
    header: [u8; 14],
    header_len: usize,
    /// Remaining bytes of the payload.
    payload: u64,
    /// Bytes of data so far: payloads of frames that are not control frames.
    data: u64,
}

impl Frames {
    /// Starts between frames, with the maximum size of a frame or message.
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit: limit.into(), message: 0, header: [0; 14], header_len: 0, payload: 0, data: 0 }
    }

    /// Returns whether the next byte begins a frame.
    pub(crate) fn between_frames(&self) -> bool {
        self.header_len == 0 && self.payload == 0
    }

    /// Returns whether the next byte begins a message.
    pub(crate) fn between_messages(&self) -> bool {
        self.between_frames() && self.message == 0
    }

    /// Number of bytes of data in all frames that have begun. Control frames do not count.
    pub(crate) fn data(&self) -> u64 {
        self.data
    }

    /// Processes the next bytes.
    pub(crate) fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Violation> {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let here = usize::try_from(self.payload).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.payload -= here as u64;
                bytes = &bytes[here..];
                continue;
            }
            self.header[self.header_len] = bytes[0];
            self.header_len += 1;
            bytes = &bytes[1..];
            if self.header_len >= 2 && self.header_len == self.header_size() {
                self.begin_payload()?;
            }
        }
        Ok(())
    }

    /// Length of the header, from its first two bytes.
    fn header_size(&self) -> usize {
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        2 + length + mask
    }

    fn begin_payload(&mut self) -> Result<(), Violation> {
        let h = &self.header;
        let length = match h[1] & 0x7f {
            126 => u16::from_be_bytes([h[2], h[3]]).into(),
            127 => u64::from_be_bytes([h[2], h[3], h[4], h[5], h[6], h[7], h[8], h[9]]),
            short => short.into(),
        };
        let (last, opcode) = (h[0] & 0x80 != 0, h[0] & 0x0f);
        if opcode >= 8 {
            if !last || length > CONTROL_MAX {
                return Err(Violation::Control);
            }
        } else {
            self.message = self.message.saturating_add(length).saturating_add(self.header_len as u64);
            if self.message > self.limit {
                return Err(Violation::TooLarge);
            }
            self.data = self.data.saturating_add(length);
            if last {
                self.message = 0;
            }
        }
        (self.payload, self.header_len) = (length, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame from a client (masked) or a server (unmasked).
    fn frame(first: u8, payload: usize, masked: bool) -> Vec<u8> {
        let mut out = vec![first];
        let mask = if masked { 0x80 } else { 0 };
        match payload {
            0..=125 => out.push(mask | u8::try_from(payload).expect("small")),
            126..=0xffff => {
                out.push(mask | 0x7e);
                out.extend(u16::try_from(payload).expect("small").to_be_bytes());
            }
            _ => {
                out.push(mask | 0x7f);
                out.extend((payload as u64).to_be_bytes());
            }
        }
        out.extend([7; 4].iter().take(if masked { 4 } else { 0 }));
        out.extend(std::iter::repeat_n(0xff, payload));
        out
    }

    proptest! {
        #[test]
        fn frames_are_followed_however_they_are_cut(
            payloads in prop::collection::vec((0..70_000_usize, any::<bool>()), 1..6),
            piece in 1..5000_usize,
        ) {
            let mut frames = Frames::new(80_000);
            for (payload, masked) in payloads {
                let bytes = frame(0x82, payload, masked);
                let (most, last) = bytes.split_at(bytes.len() - 1);
                for piece in most.chunks(piece) {
                    frames.follow(piece).expect("it is small enough");
                    prop_assert!(!frames.between_frames());
                }
                frames.follow(last).expect("it is small enough");
                prop_assert!(frames.between_messages());
            }
        }

        #[test]
        fn anything_may_come(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut frames = Frames::new(1000);
            for piece in bytes.chunks(7) {
                if frames.follow(piece).is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn what_is_too_large_is_known_by_its_header() {
        let huge = [0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        assert_eq!(Frames::new(1000).follow(&huge), Err(Violation::TooLarge));
        let header = &frame(0x82, 1001, false)[..4];
        assert_eq!(Frames::new(1000).follow(header), Err(Violation::TooLarge));
        assert_eq!(Frames::new(1000).follow(&frame(0x82, 990, true)), Ok(()));
    }

    #[test]
    fn a_message_in_fragments_is_one_message() {
        let mut frames = Frames::new(1000);
        let mut follow = |first: u8, payload| {
            let outcome = frames.follow(&frame(first, payload, true));
            (outcome, frames.between_frames(), frames.between_messages())
        };
        assert_eq!(follow(0x02, 500), (Ok(()), true, false));
        // Pings are allowed between fragments.
        assert_eq!(follow(0x89, 125), (Ok(()), true, false));
        assert_eq!(follow(0x80, 400), (Ok(()), true, true));
        assert_eq!(follow(0x02, 500).0, Ok(()));
        assert_eq!(follow(0x00, 500).0, Err(Violation::TooLarge));
        // Empty fragments exceed the limit, too, in the end.
        let mut frames = Frames::new(1000);
        let outcome = (0..1000).try_for_each(|_| frames.follow(&frame(0x00, 0, true)));
        assert_eq!(outcome, Err(Violation::TooLarge));
    }

    #[test]
    fn control_frames_are_short_and_whole() {
        assert_eq!(Frames::new(1000).follow(&frame(0x89, 126, true)), Err(Violation::Control));
        assert_eq!(Frames::new(1000).follow(&frame(0x09, 1, true)), Err(Violation::Control));
    }
}
