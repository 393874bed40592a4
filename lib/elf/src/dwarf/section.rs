//! Sections of which only as much is unpacked as is read.
//!
//! A compressed section is one stream that can be entered at its start only. What a few addresses need lies anywhere in
//! it; what comes after that, on average half of it, is not unpacked.

use flate2::{Decompress, FlushDecompress, Status};
use memmap2::{Advice, MmapMut};
use std::borrow::Cow;
use std::cell::{OnceCell, RefCell};

/// How much more is unpacked than is asked for: who asks where something starts will ask for its end.
const MORE: usize = 64 << 10;

/// As much memory is made ready at once at most: how long a section says it is need not be true.
const POPULATED: usize = 8 << 20;

/// How many times what is unpacked can grow by half, from [`MORE`] on, before a section of a gigabyte is whole, and some.
const STEPS: usize = 32;

/// A section, read from its start on.
#[derive(Default)]
pub(super) struct Section<'f>(Content<'f>);

enum Content<'f> {
    Plain(Cow<'f, [u8]>),
    Packed(Box<Packed<'f>>),
}

impl Default for Content<'_> {
    fn default() -> Self {
        Content::Plain(Cow::Borrowed(&[]))
    }
}

struct Packed<'f> {
    /// How long the section says it is.
    length: usize,
    packed: &'f [u8],
    stream: RefCell<Stream>,
    /// What was unpacked: each starts with what the one before has, which may still be in use, and is longer by half, so
    /// that all of them have three times what is there at most.
    steps: [OnceCell<Bytes>; STEPS],
}

/// Bytes in memory of their own, which is given back as soon as they are dropped, whatever thread they are of.
struct Bytes {
    memory: MmapMut,
    length: usize,
}

struct Stream {
    /// Of what is within the zlib stream: its checksum is of all, and most often not all is unpacked.
    decoder: Decompress,
    /// Nothing more is to be had.
    has_ended: bool,
}

impl<'f> Section<'f> {
    /// A section that is there as it is.
    pub(super) fn plain(bytes: Cow<'f, [u8]>) -> Section<'f> {
        Section(Content::Plain(bytes))
    }

    /// A section that zlib packed, and that says how long it is.
    pub(super) fn zlib(stream: &'f [u8], length: usize) -> Section<'f> {
        let packed = deflated(stream);
        let stream = Stream { decoder: Decompress::new(false), has_ended: packed.is_none() };
        let (packed, stream) = (packed.unwrap_or_default(), RefCell::new(stream));
        Section(Content::Packed(Box::new(Packed { length, packed, stream, steps: Default::default() })))
    }

    /// Whether reading it means unpacking it.
    pub(super) fn is_packed(&self) -> bool {
        matches!(self.0, Content::Packed(_))
    }

    /// How long it is, or says it is.
    pub(super) fn length(&self) -> usize {
        match &self.0 {
            Content::Plain(bytes) => bytes.len(),
            Content::Packed(packed) => packed.length,
        }
    }

    /// All of the section's bytes.
    pub(super) fn whole(&self) -> &[u8] {
        self.first(usize::MAX)
    }

    /// The section's bytes from its start on: at least `length` of them, or all there are.
    pub(super) fn first(&self, length: usize) -> &[u8] {
        match &self.0 {
            Content::Plain(bytes) => bytes,
            Content::Packed(packed) => packed.first(length),
        }
    }

    /// The section's bytes from its start to the end at least of what lies at `start` and begins with its length, as units
    /// and line programs do.
    pub(super) fn through(&self, start: usize) -> &[u8] {
        const LENGTHS: usize = 12;
        let bytes = self.first(start.saturating_add(LENGTHS));
        let length = match bytes.get(start..).unwrap_or_default() {
            [0xff, 0xff, 0xff, 0xff, rest @ ..] => rest.first_chunk().map(|length| u64::from_le_bytes(*length)),
            short => short.first_chunk().map(|length| u32::from_le_bytes(*length).into()),
        };
        let length = length.map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
        self.first(start.saturating_add(LENGTHS).saturating_add(length))
    }
}

impl Packed<'_> {
    fn first(&self, length: usize) -> &[u8] {
        let mut known: &[u8] = &[];
        for step in &self.steps {
            if known.len() >= length.min(self.length) {
                break;
            }
            if step.get().is_none() {
                let Some(more) = self.unpack(known, length) else { break };
                // It is empty still.
                let _ = step.set(more);
            }
            known = step.get().map_or(known, Bytes::get);
        }
        known
    }

    /// More than is known, and at least `length` bytes, if there are as many; `None` where there is nothing more.
    fn unpack(&self, known: &[u8], length: usize) -> Option<Bytes> {
        let grown = known.len().saturating_add(known.len() / 2);
        let length = length.saturating_add(MORE).max(grown).min(self.length);
        let mut stream = self.stream.borrow_mut();
        if stream.has_ended {
            return None;
        }
        // What the file says of itself need not be true, nor fit into memory.
        let Some(mut bytes) = Bytes::with_start(known, length) else {
            stream.has_ended = true;
            return None;
        };
        stream.fill(self.packed, &mut bytes);
        Some(bytes)
    }
}

impl Bytes {
    fn with_start(start: &[u8], room: usize) -> Option<Bytes> {
        let mut memory = MmapMut::map_anon(room.max(1)).ok()?;
        // A fault for each small page costs a fifth of the unpacking, and the kernel makes many at once for less. Where there are no
        // large ones, or it is old, so be it.
        let _ = memory.advise(Advice::HugePage);
        let _ = memory.advise_range(Advice::PopulateWrite, 0, room.min(POPULATED));
        memory.get_mut(..start.len())?.copy_from_slice(start);
        Some(Bytes { memory, length: start.len() })
    }

    fn get(&self) -> &[u8] {
        self.memory.get(..self.length).unwrap_or_default()
    }

    fn room(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.length..).unwrap_or_default()
    }
}

impl Stream {
    /// Unpacks as much more of `packed` as there is room for. What is malformed ends the stream.
    fn fill(&mut self, packed: &[u8], bytes: &mut Bytes) {
        while !bytes.room().is_empty() && !self.has_ended {
            let (read, unpacked) = (self.decoder.total_in(), self.decoder.total_out());
            let rest = usize::try_from(read).ok().and_then(|read| packed.get(read..)).unwrap_or_default();
            let status = self.decoder.decompress(rest, bytes.room(), FlushDecompress::None);
            let more = usize::try_from(self.decoder.total_out() - unpacked).unwrap_or(0);
            bytes.length = bytes.length.saturating_add(more).min(bytes.memory.len());
            let goes_on = self.decoder.total_in() > read || more > 0;
            self.has_ended = !goes_on || !matches!(status, Ok(Status::Ok));
        }
    }
}

/// What is within a zlib stream (RFC 1950) behind its header, with the checksum at its end.
fn deflated(stream: &[u8]) -> Option<&[u8]> {
    let (header, rest) = stream.split_first_chunk::<2>()?;
    let [method, flags] = *header;
    let is_deflated = method & 0x0f == 8 && method >> 4 <= 7;
    let needs_dictionary = flags & 0x20 != 0;
    (is_deflated && !needs_dictionary && u16::from_be_bytes(*header).is_multiple_of(31)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compress, Compression, FlushCompress};

    /// Half a megabyte that does not pack well.
    fn content() -> Vec<u8> {
        (0..500_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 21) as u8 & 0x3f).collect()
    }

    fn zlib(content: &[u8]) -> Vec<u8> {
        let mut packed = Vec::with_capacity(content.len() + 1000);
        let mut encoder = Compress::new(Compression::fast(), true);
        let status = encoder.compress_vec(content, &mut packed, FlushCompress::Finish).unwrap();
        assert_eq!(status, Status::StreamEnd);
        packed
    }

    fn unpacked(section: &Section<'_>) -> Vec<usize> {
        let Content::Packed(packed) = &section.0 else { panic!("it is plain") };
        packed.steps.iter().filter_map(|step| Some(step.get()?.get().len())).collect()
    }

    #[test]
    fn any_order_of_questions_gets_the_same_bytes() {
        let (content, packed) = (content(), zlib(&content()));
        let lengths = [0, 1, 70_000, 65_536, 65_537, 200_000, 131_073, 499_999, 500_000, 500_001, usize::MAX, 12];
        for skipped in 0..lengths.len() {
            let section = Section::zlib(&packed, content.len());
            // Those given out earlier stay as they are when more is unpacked.
            let given: Vec<_> = lengths.iter().skip(skipped).map(|length| (*length, section.first(*length))).collect();
            for (length, bytes) in given {
                assert!(bytes.len() >= length.min(content.len()), "{length}: {}", bytes.len());
                assert!(content.starts_with(bytes), "{length}");
            }
        }
    }

    #[test]
    fn no_more_is_unpacked_than_is_asked_for() {
        let (content, packed) = (content(), zlib(&content()));
        let section = Section::zlib(&packed, content.len());
        assert!(unpacked(&section).is_empty());
        for (asked, lengths) in [
            (100, &[65_636][..]),
            (65_636, &[65_636]),
            (65_637, &[65_636, 131_173]),
            (200_000, &[65_636, 131_173, 265_536]),
            (250_000, &[65_636, 131_173, 265_536]),
            (265_537, &[65_636, 131_173, 265_536, 398_304]),
            (usize::MAX, &[65_636, 131_173, 265_536, 398_304, 500_000]),
        ] {
            section.first(asked);
            assert_eq!(unpacked(&section), lengths, "{asked}");
        }
    }

    #[test]
    fn what_begins_with_its_length_is_had_to_its_end() {
        let mut content = content();
        for (at, head) in [(10, &200_000u32.to_le_bytes()[..]), (400_000, &[0xff, 0xff, 0xff, 0xff, 0xf0, 0x49, 2, 0])]
        {
            content[at..at + head.len()].copy_from_slice(head);
        }
        content[400_008..400_012].fill(0);
        let packed = zlib(&content);
        for section in [Section::zlib(&packed, content.len()), Section::plain(Cow::Borrowed(&content))] {
            assert!(section.through(10).len() >= 200_014);
            assert!(content.starts_with(section.through(10)));
            assert_eq!(section.through(400_000), content);
            assert!(content.starts_with(section.through(usize::MAX)));
            assert!(content.starts_with(section.through(499_999)));
        }
    }

    #[test]
    fn a_section_that_lies_about_itself_gives_what_it_has() {
        let (content, packed) = (content(), zlib(&content()));
        let cut = packed.get(..packed.len() / 2).unwrap();
        let mut damaged = packed.clone();
        damaged[packed.len() / 2..].fill(0xff);
        for (packed, length) in [(cut, content.len()), (&damaged, content.len()), (&packed, usize::MAX >> 1)] {
            let section = Section::zlib(packed, length);
            let start = section.first(70_000);
            assert!(content.starts_with(start));
            let whole = section.first(usize::MAX);
            assert!(whole.len() <= content.len() && whole.starts_with(start));
            assert_eq!(section.first(usize::MAX), whole);
        }
        assert_eq!(Section::zlib(&packed, 1000).first(usize::MAX), &content[..1000]);
        assert_eq!(Section::zlib(b"no stream", 1000).first(10), b"");
        assert_eq!(Section::zlib(b"", 1000).first(10), b"");
        assert_eq!(Section::default().first(10), b"");
    }
}
