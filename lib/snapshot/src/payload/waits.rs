//! `waits`: what the kernel says of what threads wait for, and the files that their system calls name.
//!
//! The system call itself is in a thread's registers.

use super::first_version;
use crate::address::{Address, Tid};
use crate::code::open_enum;
use crate::text::Bytes;
use serde::{Deserialize, Serialize};

/// The newest version of the payload.
pub type Waits = WaitsV1;
/// The newest version of what one thread waits for.
pub type ThreadWait = ThreadWaitV1;
/// The newest version of a system call.
pub type SystemCall = SystemCallV1;
/// The newest version of an open file.
pub type OpenFile = OpenFileV1;
/// The newest version of a socket.
pub type Socket = SocketV1;
/// The newest version of a socket's address.
pub type Endpoint = EndpointV1;

open_enum!(
    /// What a socket speaks.
    SocketProtocol {
        /// TCP.
        TCP = 1, "TCP";
        /// UDP.
        UDP = 2, "UDP";
        /// A socket of this machine.
        UNIX = 3, "unix";
    }
);

open_enum!(
    /// The state of a socket. Those of TCP have the kernel's numbers.
    SocketState {
        /// Connected.
        ESTABLISHED = 1, "established";
        /// It asked for a connection, and has no answer.
        SYN_SENT = 2, "syn-sent";
        /// It was asked for a connection, and has answered.
        SYN_RECEIVED = 3, "syn-received";
        /// Closed here; the other side has not acknowledged that.
        FIN_WAIT_1 = 4, "fin-wait-1";
        /// Closed here, and acknowledged.
        FIN_WAIT_2 = 5, "fin-wait-2";
        /// Closed on both sides; late packets are waited for.
        TIME_WAIT = 6, "time-wait";
        /// Not connected.
        CLOSED = 7, "closed";
        /// Closed by the other side, not yet here.
        CLOSE_WAIT = 8, "close-wait";
        /// Closed here after the other side; not yet acknowledged.
        LAST_ACK = 9, "last-ack";
        /// It waits for connections.
        LISTENING = 10, "listening";
        /// Closed on both sides at once; not yet acknowledged.
        CLOSING = 11, "closing";
        /// Asked for a connection, before a socket for it was made.
        NEW_SYN_RECEIVED = 12, "syn-received";
        /// A socket of this machine that asked for a connection.
        CONNECTING = 256, "connecting";
        /// One without another side: it may send to many, and receive from many.
        UNCONNECTED = 257, "unconnected";
    }
);

/// The `waits` payload, version 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitsV1 {
    /// The monotonic clock (`CLOCK_MONOTONIC`) at `capture.captured_at_ns`, in nanoseconds: the deadlines of most system
    /// calls are times of it. Absent where the process may have another one, in a time namespace of its own.
    pub monotonic_ns: Option<u64>,
    /// By ascending tid; without the threads of which nothing is known.
    pub threads: Vec<ThreadWaitV1>,
    /// The open files that system calls of threads name, by ascending descriptor. Read before the stop and after it; those
    /// that changed in between are left out.
    pub files: Vec<OpenFileV1>,
}

/// What a thread waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadWaitV1 {
    /// The thread.
    pub tid: Tid,
    /// `/proc/T/wchan` before the stop: the kernel's function that it slept in.
    pub wait_channel: Option<Bytes>,
    /// `/proc/T/syscall` before the stop; only where `threads` has no registers of it, or those say `restart_syscall`.
    pub system_call: Option<SystemCallV1>,
}

/// A system call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemCallV1 {
    /// Its number.
    pub number: u64,
    /// The registers of its six arguments.
    pub arguments: Vec<u64>,
    /// The address after the instruction that called.
    pub program_counter: Address,
}

/// An open file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFileV1 {
    /// Its descriptor.
    pub descriptor: i32,
    /// What the link `/proc/PID/fd/N` holds: a path, or `pipe:[4711]`, `socket:[4712]`, `anon_inode:[eventpoll]`.
    pub target: Bytes,
    /// Of a socket.
    pub socket: Option<SocketV1>,
    /// Of an epoll instance, the descriptors that it watches, ascending: the first 64.
    pub watched: Option<Vec<i32>>,
}

/// A socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketV1 {
    /// What it speaks.
    pub protocol: SocketProtocol,
    /// Its state.
    pub state: SocketState,
    /// Its own address.
    pub local: Option<EndpointV1>,
    /// The address that it is connected to.
    pub remote: Option<EndpointV1>,
    /// Of a unix socket: its path; an abstract one starts with `@`.
    pub path: Option<Bytes>,
}

/// An internet address and a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointV1 {
    /// Four bytes, or sixteen, in network order.
    pub address: Bytes,
    /// The port.
    pub port: u16,
}

first_version!(WaitsV1, WAITS);
