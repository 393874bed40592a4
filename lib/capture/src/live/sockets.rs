//! Sockets, by their inodes in the tables of the target's network namespace: `/proc/PID/net/tcp` and its kin.

use super::procfs::Proc;
use pyst_snapshot::Bytes;
use pyst_snapshot::payload::{Endpoint, OpenFile, Socket, SocketProtocol, SocketState};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// The most that is read of a table: some 100,000 sockets.
const MAX_TABLE: u64 = 16 << 20;

/// The tables. Those of TCP first: it is what programs wait for.
const TABLES: [(&str, SocketProtocol); 5] = [
    ("net/tcp", SocketProtocol::TCP),
    ("net/tcp6", SocketProtocol::TCP),
    ("net/unix", SocketProtocol::UNIX),
    ("net/udp", SocketProtocol::UDP),
    ("net/udp6", SocketProtocol::UDP),
];

/// Says of those files that are sockets what the tables do.
pub(crate) fn describe(files: &mut [OpenFile], proc: &Proc) {
    let inodes = files.iter().enumerate().filter_map(|(index, file)| Some((inode(&file.target.0)?, index)));
    let mut wanted: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (inode, index) in inodes {
        wanted.entry(inode).or_default().push(index);
    }
    for (name, protocol) in TABLES {
        if wanted.is_empty() {
            return;
        }
        let Ok(table) = File::open(proc.path(name)) else { continue };
        let mut lines = BufReader::new(table.take(MAX_TABLE)).split(b'\n').map_while(Result::ok).skip(1).peekable();
        while let Some(mut line) = lines.next() {
            // A path is written as it is, with whatever newlines it has.
            while let Some(rest) = lines.next_if(|next| protocol == SocketProtocol::UNIX && !begins_entry(next)) {
                line.push(b'\n');
                line.extend(rest);
            }
            let parsed = if protocol == SocketProtocol::UNIX { of_unix(&line) } else { of_internet(&line, protocol) };
            let Some((inode, socket)) = parsed else { continue };
            for index in wanted.remove(&inode).into_iter().flatten() {
                if let Some(file) = files.get_mut(index) {
                    file.socket = Some(socket.clone());
                }
            }
        }
    }
}

/// Whether a line of the table of unix sockets begins with an address in hexadecimal digits: `ffff88801a2b3c00: 00000002 …`.
fn begins_entry(line: &[u8]) -> bool {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    line.is_empty() || digits >= 8 && line.get(digits..).is_some_and(|rest| rest.starts_with(b": 0"))
}

/// `socket:[4711]`
fn inode(link: &[u8]) -> Option<u64> {
    std::str::from_utf8(link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?).ok()?.parse().ok()
}

/// `0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 …`: number, own and other address,
/// state, four fields, inode.
fn of_internet(line: &[u8], protocol: SocketProtocol) -> Option<(u64, Socket)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (endpoint(fields.next()?)?, endpoint(fields.next()?)?);
    let state = u16::from_str_radix(fields.next()?, 16).ok()?;
    let inode = fields.nth(5)?.parse().ok()?;
    let state = match (protocol, SocketState(state)) {
        (SocketProtocol::UDP, SocketState::CLOSED) => SocketState::UNCONNECTED,
        (_, state) => state,
    };
    let has_remote = remote.port != 0 || remote.address.0.iter().any(|byte| *byte != 0);
    let socket = Socket { protocol, state, local: Some(local), remote: has_remote.then_some(remote), path: None };
    Some((inode, socket))
}

/// `0100007F:1F90`: words of the address as the machine reads them, and the port.
fn endpoint(text: &str) -> Option<Endpoint> {
    let (address, port) = text.split_once(':')?;
    if !matches!(address.len(), 8 | 32) {
        return None;
    }
    let words = address.as_bytes().as_chunks::<8>().0.iter();
    let words = words.map(|word| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok());
    let bytes: Vec<[u8; 4]> = words.map(|word| word.map(u32::to_ne_bytes)).collect::<Option<_>>()?;
    Some(Endpoint { address: Bytes(bytes.concat()), port: u16::from_str_radix(port, 16).ok()? })
}

/// `0000000000000000: 00000002 00000000 00010000 0001 01 4711 /run/x`: address, references, protocol, flags, type, state,
/// inode, path.
fn of_unix(line: &[u8]) -> Option<(u64, Socket)> {
    /// `__SO_ACCEPTCON`, and `SS_CONNECTING` and `SS_CONNECTED`.
    const LISTENS: u32 = 1 << 16;
    const CONNECTING: u32 = 2;
    const CONNECTED: u32 = 3;
    let mut fields = [0; 7];
    let mut rest = line;
    for (index, field) in fields.iter_mut().enumerate() {
        let start = rest.iter().position(|byte| *byte != b' ')?;
        rest = rest.get(start..)?;
        let (word, after) = rest.split_at(rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len()));
        let word = std::str::from_utf8(word).ok()?.trim_end_matches(':');
        *field = if index == 6 { word.parse().ok()? } else { u64::from_str_radix(word, 16).ok()? };
        rest = after;
    }
    let [_, _, _, flags, _, state, inode] = fields;
    let state = match u32::try_from(state).ok()? {
        _ if flags & u64::from(LISTENS) != 0 => SocketState::LISTENING,
        CONNECTED => SocketState::ESTABLISHED,
        CONNECTING => SocketState::CONNECTING,
        _ => SocketState::UNCONNECTED,
    };
    let path = rest.strip_prefix(b" ").filter(|path| !path.is_empty()).map(|path| Bytes(path.to_vec()));
    Some((inode, Socket { protocol: SocketProtocol::UNIX, state, local: None, remote: None, path }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &[u8], port: u16) -> Option<Endpoint> {
        Some(Endpoint { address: Bytes(address.to_vec()), port })
    }

    #[test]
    fn a_line_of_the_tcp_table_is_a_socket() {
        let line =
            b"   0: 0100007F:1F90 0200000A:1538 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        let (inode, socket) = of_internet(line, SocketProtocol::TCP).unwrap();
        assert_eq!((inode, socket.state), (4711, SocketState::ESTABLISHED));
        assert_eq!((socket.local, socket.remote), (at(&[127, 0, 0, 1], 8080), at(&[10, 0, 0, 2], 5432)));
        let line = b" 1: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A \
            00000000:00000000 00:00000000 00000000 0 0 137 1";
        let (inode, socket) = of_internet(line, SocketProtocol::TCP).unwrap();
        assert_eq!((inode, socket.state, socket.remote), (137, SocketState::LISTENING, None));
        assert_eq!(socket.local, at(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 22));
    }

    #[test]
    fn a_line_of_the_unix_table_is_a_socket_with_whatever_path() {
        let line = b"0000000000000000: 00000002 00000000 00010000 0001 01    47 /run/a b";
        let (inode, socket) = of_unix(line).unwrap();
        assert_eq!((inode, socket.state, socket.path), (47, SocketState::LISTENING, Some("/run/a b".into())));
        let line = b"0000000088f525e8: 00000003 00000000 00000000 0001 03 4499572";
        let (inode, socket) = of_unix(line).unwrap();
        assert_eq!((inode, socket.state, socket.path), (4_499_572, SocketState::ESTABLISHED, None));
    }

    #[test]
    fn a_path_of_several_lines_begins_no_entry_of_its_own() {
        assert!(
            begins_entry(b"ffff8880102c4000: 00000002 00000000 00010000 0001 01 20539 /run/a") && begins_entry(b"")
        );
        assert!(!begins_entry(b" sock") && !begins_entry(b"abcdef: 0") && !begins_entry(b"ffff8880102c4000"));
    }

    #[test]
    fn lines_that_are_none_are_left_out() {
        for line in
            [&b""[..], b"0:", b"0: 01:1 01:1 01 0 0 0 0 0 4", b"0: 0100007F:1F90 0200000A:1538 01", b"\xff\xff", b"  "]
        {
            assert_eq!(of_internet(line, SocketProtocol::TCP), None);
            assert_eq!(of_unix(line), None);
        }
        for link in [&b"socket:[]"[..], b"socket:[-1]", b"pipe:[7]", b"socket:[99999999999999999999]"] {
            assert_eq!(inode(link), None);
        }
    }
}
