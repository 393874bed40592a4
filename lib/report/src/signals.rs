//! The names of Linux's signals, which are the same on x86_64 and aarch64.

use std::borrow::Cow;

const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// Real-time signals are counted as the C libraries do, which keep the first two (musl: three) for themselves.
const REAL_TIME_MIN: i32 = 34;
const REAL_TIME_MAX: i32 = 64;

pub(crate) const SIGSEGV: i32 = 11;

/// The name of a signal, `None` for a number that is none.
pub(crate) fn name(number: i32) -> Option<Cow<'static, str>> {
    match number {
        REAL_TIME_MIN => Some(Cow::Borrowed("SIGRTMIN")),
        35..=REAL_TIME_MAX => Some(Cow::Owned(format!("SIGRTMIN+{}", number - REAL_TIME_MIN))),
        32 | 33 => Some(Cow::Owned(format!("SIG{number}"))),
        _ => {
            let index = usize::try_from(number).ok()?.checked_sub(1)?;
            NAMES.get(index).map(|name| Cow::Borrowed(*name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_names_that_kill_l_lists() {
        for (number, expected) in [
            (1, "SIGHUP"),
            (6, "SIGABRT"),
            (SIGSEGV, "SIGSEGV"),
            (16, "SIGSTKFLT"),
            (19, "SIGSTOP"),
            (31, "SIGSYS"),
            (34, "SIGRTMIN"),
            (40, "SIGRTMIN+6"),
        ] {
            assert_eq!(name(number).as_deref(), Some(expected));
        }
        for number in [0, -1, 65, i32::MIN, i32::MAX] {
            assert_eq!(name(number), None);
        }
    }
}
