//! Pages that are not in memory, and may take for ever to come.
//!
//! A page that a userfaultfd, FUSE or NFS has to bring is waited for by whoever reads it, and no signal ends that. So a thread
//! of its own reads such pages, and is left behind when it takes too long: it ends with this process.

use super::page::PAGE;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use pyst_memory::RangeSet;
use pyst_snapshot::{Address, Range};
use std::cell::{Cell, RefCell};
use std::io::IoSliceMut;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// How long all such pages of a target are waited for. One that another process brings, as after a lazy migration, takes
/// milliseconds; one that nobody brings takes this once.
const LIMIT: Duration = Duration::from_secs(1);

/// A page as it was read; `None` for one that cannot be.
pub(crate) type Page = Option<Box<[u8]>>;

/// Reads pages that are not in memory, for a limited time.
pub(crate) struct Patience {
    pid: Pid,
    reader: RefCell<Option<Reader>>,
    left: Cell<Duration>,
    /// Those that did not come.
    given_up: RefCell<Vec<u64>>,
}

struct Reader {
    wanted: Sender<u64>,
    pages: Receiver<Page>,
}

impl Patience {
    pub(crate) fn with(pid: Pid) -> Patience {
        Patience { pid, reader: RefCell::default(), left: Cell::new(LIMIT), given_up: RefCell::default() }
    }

    /// The page that starts at `page`, if it comes in time.
    pub(crate) fn read(&self, page: u64) -> Page {
        if self.left.get().is_zero() {
            self.given_up.borrow_mut().push(page);
            return None;
        }
        let mut reader = self.reader.borrow_mut();
        if reader.is_none() {
            *reader = Reader::start(self.pid);
        }
        let Reader { wanted, pages } = reader.as_ref()?;
        let asked = Instant::now();
        wanted.send(page).ok()?;
        let read = pages.recv_timeout(self.left.get());
        if read.is_err() {
            self.given_up.borrow_mut().push(page);
            self.left.set(Duration::ZERO);
        } else {
            self.left.set(self.left.get().saturating_sub(asked.elapsed()));
        }
        read.ok().flatten()
    }

    /// The pages that did not come, ascending and disjoint.
    pub(crate) fn given_up(&self) -> Vec<Range> {
        let page = |page: &u64| Range::sized(Address(*page), PAGE);
        self.given_up.borrow().iter().filter_map(page).collect::<RangeSet>().merged().to_vec()
    }
}

impl Reader {
    fn start(pid: Pid) -> Option<Reader> {
        let (wanted, asked) = mpsc::channel();
        let (read, pages) = mpsc::channel();
        let serve = move || {
            while let Ok(page) = asked.recv() {
                let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
                let is_read = read_page(pid, page, &mut bytes);
                if read.send(is_read.then_some(bytes)).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("patience".to_owned()).spawn(serve).ok()?;
        Some(Reader { wanted, pages })
    }
}

/// Reads a page at once into its place, and says whether that can be.
pub(crate) fn read_page(pid: Pid, page: u64, place: &mut [u8]) -> bool {
    let Ok(base) = usize::try_from(page) else { return false };
    let len = place.len();
    let got = process_vm_readv(pid, &mut [IoSliceMut::new(place)], &[RemoteIoVec { base, len }]);
    got.is_ok_and(|got| got == len)
}
