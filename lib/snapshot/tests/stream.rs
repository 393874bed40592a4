//! The stream against bytes made by hand from `schemas/snapshot.md`: nothing here uses the writer's code, and the CRC-32
//! is computed bit by bit.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use pyst_snapshot::payload::{Capture, Diagnostics, FoundBy, Source, Thread, Threads};
use pyst_snapshot::{
    Defect, Part, Parts, Payload, PayloadError, RawSection, SectionFlags, SectionKind, Snapshot, SnapshotWriter,
    StreamError, StreamReader, Tid, write_snapshot,
};
use std::io::{ErrorKind, Read};

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

fn with_crc(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
}

fn header(version: u16) -> Vec<u8> {
    let mut bytes = vec![0x89, 0x50, 0x59, 0x53, 0x0d, 0x0a, 0x1a, 0x0a];
    bytes.extend(version.to_le_bytes());
    bytes.extend([0, 0]);
    with_crc(bytes)
}

fn section(kind: u16, flags: u16, version: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [kind, flags, version, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(crc32(payload).to_le_bytes());
    let mut bytes = with_crc(bytes);
    bytes.extend(payload);
    bytes
}

fn end() -> Vec<u8> {
    section(0xffff, 0, 1, b"")
}

/// A `threads` payload of one thread with tid 7, name "main", state S, and nothing else.
fn threads_payload() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(1u64.to_le_bytes());
    bytes.extend(7u32.to_le_bytes());
    bytes.push(0);
    bytes.push(1);
    bytes.extend(4u64.to_le_bytes());
    bytes.extend(b"main");
    bytes.extend([1, b'S']);
    bytes.extend([0, 0, 0]);
    bytes
}

fn read_all(bytes: &[u8]) -> Vec<Result<Snapshot, StreamError>> {
    StreamReader::new(bytes).collect()
}

fn read_one(bytes: &[u8]) -> Snapshot {
    let mut all = read_all(bytes);
    assert_eq!(all.len(), 1);
    all.remove(0).unwrap()
}

#[test]
fn a_snapshot_made_by_hand_is_read_and_written_back_byte_for_byte() {
    let bytes = [header(1), section(3, 0, 1, &threads_payload()), end()].concat();
    let snapshot = read_one(&bytes);
    assert_eq!(snapshot.defects, []);
    let threads: Threads = snapshot.get().unwrap().unwrap();
    let expected = Thread { tid: Tid(7), name: Some("main".into()), state: Some(b'S'), ..Thread::default() };
    assert_eq!(threads.threads, [expected]);
    let mut written = Vec::new();
    write_snapshot(&snapshot, &mut written).unwrap();
    assert_eq!(written, bytes);
}

#[test]
fn concatenated_streams_are_a_stream() {
    let one = [header(1), section(3, 0, 1, &threads_payload()), end()].concat();
    let all = read_all(&[one.clone(), one.clone(), one].concat());
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|snapshot| snapshot.as_ref().is_ok_and(|snapshot| snapshot.sections.len() == 1)));
    assert!(read_all(b"").is_empty());
}

/// Gives `bytes`, and then an error, as one that would wait for ever.
struct NoMore<'a>(&'a [u8]);

impl Read for NoMore<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.0.is_empty() { Err(ErrorKind::TimedOut.into()) } else { self.0.read(buffer) }
    }
}

#[test]
fn a_part_is_there_as_soon_as_its_last_byte_has_come() {
    let bytes = [header(1), section(3, 0, 1, &threads_payload()), section(9, 0, 1, &[0; 8]), end(), header(1)].concat();
    let flags = SectionFlags::default();
    let raw = |kind, payload: &[u8]| RawSection { kind, flags, version: 1, payload: payload.to_vec() };
    let all = [
        (16, Part::Begin),
        (24 + threads_payload().len(), Part::Section(raw(SectionKind::THREADS, &threads_payload()))),
        (24 + 8, Part::Section(raw(SectionKind::SOURCE, &[0; 8]))),
        (24, Part::End),
        (16, Part::Begin),
    ];
    let mut to = 0;
    for (count, (length, _)) in (1..).zip(&all) {
        to += length;
        let mut parts = Parts::new(NoMore(&bytes[..to]));
        for (_, part) in &all[..count] {
            assert_eq!(parts.next().unwrap().unwrap(), *part);
        }
        assert!(matches!(parts.next(), Some(Err(StreamError::Io(error))) if error.kind() == ErrorKind::TimedOut));
        assert!(parts.next().is_none());
        assert!(!parts.was_empty());
    }
}

#[test]
fn a_section_that_is_written_can_be_read_before_the_end_is() {
    let mut bytes = Vec::new();
    let written = RawSection::of(&Threads::default()).unwrap();
    let mut writer = SnapshotWriter::begin(&mut bytes).unwrap();
    writer.write(&written).unwrap();
    writer.flush().unwrap();
    let parts: Vec<_> = Parts::new(&bytes[..]).map(Result::unwrap).collect();
    assert_eq!(parts[..2], [Part::Begin, Part::Section(written)]);
    assert!(matches!(parts[2..], [Part::Defect(Defect::CutOff { sections: 1, .. }), Part::End]));
}

#[test]
fn a_payload_for_which_there_was_no_room_at_first_is_read_whole_and_a_cut_one_not_at_all() {
    let long: Vec<u8> = (0..(4u32 << 20) + 5).map(|at| (at % 251) as u8).collect();
    let bytes = [header(1), section(9, 0, 1, &long), end()].concat();
    let snapshot = read_one(&bytes);
    assert!(snapshot.defects.is_empty() && snapshot.sections[0].payload == long);
    for cut in [16 + 24 + (4 << 20), bytes.len() - 25] {
        let snapshot = read_one(&bytes[..cut]);
        assert!(snapshot.sections.is_empty() && matches!(snapshot.defects[..], [Defect::CutOff { sections: 0, .. }]));
    }
}

#[test]
fn unknown_sections_payload_versions_flags_and_codes_pass_through_unchanged() {
    let unknown_code = 777u16.to_le_bytes();
    let parts = [
        header(1),
        section(4242, 0, 9, b"future"),
        section(3, 0x8000, 2, b"newer threads"),
        section(2000, 0, 1, &unknown_code),
        end(),
    ];
    let bytes = parts.concat();
    let snapshot = read_one(&bytes);
    assert!(snapshot.defects.is_empty());
    assert!(matches!(snapshot.get::<Threads>(), Err(PayloadError::NewerVersion { found: 2, newest: 1, .. })));
    assert_eq!(FoundBy(777).name(), "code-777");
    let mut written = Vec::new();
    write_snapshot(&snapshot, &mut written).unwrap();
    assert_eq!(written, bytes);
}

#[test]
fn an_unknown_critical_section_is_an_error_that_names_the_tool_to_use() {
    let capture = Capture { tool: "pyst-grab 9.1.0".into(), ..Capture::default() }.encode().unwrap();
    let bytes = [header(1), section(1, 0, 1, &capture), section(4242, 1, 3, b""), end()].concat();
    let defects = read_one(&bytes).defects;
    assert!(defects[0].is_fatal());
    assert_eq!(
        defects[0].to_string(),
        "the snapshot needs section code-4242 (version 3), which this tool does not know: use pyst-grab 9.1.0 or newer"
    );
    assert!(SectionFlags::CRITICAL.is_critical());
}

#[test]
fn every_cut_is_noticed_and_what_was_whole_is_kept() {
    let bytes = [header(1), section(3, 0, 1, &threads_payload()), section(9, 0, 1, &[0; 8]), end()].concat();
    let whole_sections = |cut: usize| -> usize {
        let first = 16 + 24 + threads_payload().len();
        [first, first + 24 + 8].iter().filter(|end| **end <= cut).count()
    };
    for cut in 1..bytes.len() {
        let snapshot = read_one(&bytes[..cut]);
        let sections = whole_sections(cut);
        assert_eq!(snapshot.sections.len(), sections, "cut at {cut}");
        assert_eq!(snapshot.defects.len(), 1, "cut at {cut}");
        assert!(matches!(snapshot.defects[0], Defect::CutOff { sections: s, .. } if s == sections), "cut at {cut}");
    }
}

#[test]
fn a_damaged_payload_loses_its_section_and_a_damaged_header_what_follows() {
    let bytes = [header(1), section(3, 0, 1, &threads_payload()), section(9, 0, 1, &[0; 8]), end()].concat();
    let mut damaged = bytes.clone();
    damaged[16 + 24 + 3] ^= 0x40;
    let snapshot = read_one(&damaged);
    assert_eq!(snapshot.defects, [Defect::Damaged { kind: SectionKind::THREADS }]);
    assert!(snapshot.get::<Source>().unwrap().is_some());

    let mut damaged = bytes;
    damaged[16 + 9] ^= 0x40;
    assert!(matches!(read_one(&damaged).defects[..], [Defect::Unreadable { bytes: 40 }]));
}

#[test]
fn a_length_that_lies_costs_nothing() {
    let mut lying = section(3, 0, 1, b"");
    lying[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    let crc = crc32(&lying[..20]);
    lying[20..24].copy_from_slice(&crc.to_le_bytes());
    let bytes = [header(1), lying].concat();
    assert!(matches!(read_one(&bytes).defects[..], [Defect::Unreadable { .. }]));
}

#[test]
fn what_is_no_snapshot_is_told_apart() {
    let error = |bytes: &[u8]| read_all(bytes).remove(0).unwrap_err().to_string();
    assert!(error(b"\x1f\x8b\x08 and so on").contains("gzip"));
    assert!(error(b"\x28\xb5\x2f\xfd and so on").contains("zstd"));
    assert!(error(b"\x7fELF\x02\x01\x01\0").contains("pyst-grab"));
    assert!(error(b"\x89PYS\n\x1a\n\x01\0\0\0").contains("text-mode"));
    assert!(error(b"Traceback (most recent call last):").contains("other bytes"));
    assert!(error(&header(2)).contains("format version 2"));
    let mut damaged = header(1);
    damaged[9] ^= 1;
    assert!(error(&damaged).contains("damaged"));
}

#[test]
fn a_stage_that_runs_again_replaces_its_section() {
    let mut snapshot = Snapshot::default();
    snapshot.append(&Threads::default()).unwrap();
    snapshot.append(&Diagnostics::default()).unwrap();
    snapshot.replace(&Threads { threads: vec![Thread::default()] }).unwrap();
    let kinds: Vec<_> = snapshot.sections.iter().map(|section| section.kind).collect();
    assert_eq!(kinds, [SectionKind::DIAGNOSTICS, SectionKind::THREADS]);
    assert_eq!(snapshot.get::<Threads>().unwrap().unwrap().threads.len(), 1);
}

/// A later version of the payload, as a later pyst would define it: the old struct stays, and decodes into the new one.
#[derive(Debug, PartialEq)]
struct ThreadsV2 {
    tids: Vec<u64>,
    boot_id: u64,
}

impl From<Threads> for ThreadsV2 {
    fn from(old: Threads) -> ThreadsV2 {
        ThreadsV2 { tids: old.threads.iter().map(|thread| thread.tid.0.into()).collect(), boot_id: 0 }
    }
}

impl Payload for ThreadsV2 {
    const KIND: SectionKind = SectionKind::THREADS;
    const VERSION: u16 = 2;

    fn encode(&self) -> Result<Vec<u8>, pyst_snapshot::WireError> {
        Ok([self.boot_id].iter().chain(&self.tids).flat_map(|word| word.to_le_bytes()).collect())
    }

    fn decode(version: u16, bytes: &[u8]) -> Result<ThreadsV2, PayloadError> {
        match version {
            2 => {
                let mut words = bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
                let boot_id = words.next().unwrap_or_default();
                Ok(ThreadsV2 { tids: words.collect(), boot_id })
            }
            older => Threads::decode(older, bytes).map(ThreadsV2::from),
        }
    }
}

#[test]
fn a_newer_reader_reads_both_payload_versions_and_an_older_one_says_what_it_needs() {
    let old = read_one(&[header(1), section(3, 0, 1, &threads_payload()), end()].concat());
    assert_eq!(old.get::<ThreadsV2>().unwrap(), Some(ThreadsV2 { tids: vec![7], boot_id: 0 }));

    let mut new = Snapshot::default();
    new.append(&ThreadsV2 { tids: vec![7, 8], boot_id: 5 }).unwrap();
    assert_eq!(new.get::<ThreadsV2>().unwrap(), Some(ThreadsV2 { tids: vec![7, 8], boot_id: 5 }));
    let error = new.get::<Threads>().unwrap_err().to_string();
    assert_eq!(error, "the threads section has payload version 2, this tool reads up to 1: use a newer pyst");
}

#[test]
fn random_damage_never_panics_and_never_passes_for_sound() {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut state = seed;
    let mut random = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let bytes = [header(1), section(3, 0, 1, &threads_payload()), section(10, 0, 1, &[0; 8]), end()].concat();
    for _ in 0..20_000 {
        let mut damaged = bytes.clone();
        let at = random() as usize % damaged.len();
        let flip = (random() % 255 + 1) as u8;
        damaged[at] ^= flip;
        let sound =
            read_all(&damaged).iter().all(|read| read.as_ref().is_ok_and(|snapshot| snapshot.defects.is_empty()));
        assert!(!sound, "seed {seed}: byte {at} flipped by {flip:#x} went unnoticed");
    }
}

#[test]
fn the_page_lists_every_kind_of_section() {
    let page = include_str!("../../../schemas/snapshot.md").to_lowercase();
    for (kind, name) in SectionKind::KNOWN {
        assert!(page.contains(&format!("\n| {} | {name} |", kind.0)), "{name}");
    }
}
