//! The names of system calls.

mod aarch64;
mod x86_64;

use pyst_snapshot::payload::Arch;

/// The name of a system call, as the kernel's headers have it; those of Linux 6.1 and before are known.
pub(crate) fn name(arch: Arch, number: u64) -> Option<&'static str> {
    let names = match arch {
        Arch::X86_64 => x86_64::NAMES,
        Arch::AARCH64 => aarch64::NAMES,
        _ => return None,
    };
    let number = u16::try_from(number).ok()?;
    let index = names.binary_search_by_key(&number, |(number, _)| *number).ok()?;
    names.get(index).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_names_of_the_manual() {
        // syscall(2), and the tables of strace.
        for (arch, number, expected) in [
            (Arch::X86_64, 0, Some("read")),
            (Arch::X86_64, 202, Some("futex")),
            (Arch::X86_64, 230, Some("clock_nanosleep")),
            (Arch::X86_64, 232, Some("epoll_wait")),
            (Arch::AARCH64, 63, Some("read")),
            (Arch::AARCH64, 98, Some("futex")),
            (Arch::AARCH64, 22, Some("epoll_pwait")),
            (Arch::X86_64, 400, None),
            (Arch::X86_64, 1 << 40, None),
            (Arch::X86_64, u64::MAX, None),
            (Arch(777), 0, None),
        ] {
            assert_eq!(name(arch, number), expected, "{number}");
        }
    }

    #[test]
    fn the_tables_are_in_order() {
        for names in [x86_64::NAMES, aarch64::NAMES] {
            assert!(names.is_sorted_by(|a, b| a.0 < b.0));
        }
    }
}
