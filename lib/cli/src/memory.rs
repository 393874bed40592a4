//! The memory of a tool. One that gets no more says so in one line and fails, where Rust would have it abort, with a core that
//! holds what it has of its target.

use nix::libc;
use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::io::Read;

/// Has the heap grow by a MiB at once, and shrink by more. glibc asks the kernel for 128 KiB at a time otherwise, and gives them
/// back as often: a snapshot of hundreds of threads is a few MiB. What is not written to takes no memory.
pub(crate) fn grow_by_large_steps() {
    #[cfg(target_env = "gnu")]
    {
        const STEP: libc::c_int = 1 << 20;
        #[expect(unsafe_code, reason = "there is no safe wrapper")]
        // SAFETY: takes numbers only, and the heap there is stays in use.
        let _ = unsafe { (libc::mallopt(libc::M_TOP_PAD, STEP), libc::mallopt(libc::M_TRIM_THRESHOLD, 4 * STEP)) };
    }
}

/// Has the kernel find some memory now, which takes a microsecond a page: as much as a snapshot of a hundred threads needs. One
/// whose input comes from another tool waits for that, and has nothing else to do.
pub(crate) fn fill_the_wait() {
    const PIECE: usize = 64 << 10;
    const PAGE: usize = 4096;
    // Longer ones would not come from the heap, and not stay there.
    let pieces: [Vec<u8>; 6] = std::array::from_fn(|_| {
        let mut piece = Vec::with_capacity(PIECE);
        piece.spare_capacity_mut().iter_mut().step_by(PAGE).for_each(|byte| _ = byte.write(0));
        piece
    });
    std::hint::black_box(&pieces);
}

#[global_allocator]
static MEMORY: OrFail = OrFail;

/// The system's memory; where there is none, the end.
struct OrFail;

#[expect(unsafe_code, reason = "an allocator is unsafe by its nature")]
// SAFETY: each call goes to the system's allocator as it came. What comes back is what that gave, which is never null, for
// then the process ends.
unsafe impl GlobalAlloc for OrFail {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the one that is asked for.
        or_fail(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        or_fail(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        or_fail(unsafe { System.realloc(old, layout, size) }, size)
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(old, layout) }
    }
}

fn or_fail(memory: *mut u8, size: usize) -> *mut u8 {
    if memory.is_null() { fail(size) } else { memory }
}

/// Ends the process with exit status 1 and a line, without any more memory.
#[cold]
fn fail(size: usize) -> ! {
    let mut line = [0u8; 160];
    let mut name = [0u8; 16];
    let length = File::open("/proc/self/comm").and_then(|mut comm| comm.read(&mut name)).unwrap_or(0);
    let name = name.get(..length).unwrap_or_default().trim_ascii_end();
    let name = if name.is_empty() { b"pyst" } else { name };
    let mut digits = [0u8; 20];
    let size = decimal(size, &mut digits);
    let mut end = 0;
    for part in [name, b": out of memory: ", size, b" bytes more are not to be had: raise its limit\n"] {
        let to = end + part.len();
        if let Some(place) = line.get_mut(end..to) {
            place.copy_from_slice(part);
            end = to;
        }
    }
    let _ = nix::unistd::write(std::io::stderr(), line.get(..end).unwrap_or_default());
    #[expect(unsafe_code, reason = "what runs at an ordinary exit may need memory")]
    // SAFETY: ends the process, whatever its state.
    unsafe {
        libc::_exit(1)
    }
}

/// The digits of a number.
fn decimal(mut number: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        start -= 1;
        if number == 0 {
            break;
        }
    }
    digits.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_digits() {
        for number in [0, 7, 10, 1_048_576, usize::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }
}
