//! What `/proc/PID/status` and `uid_map` tell of the rights of a process.

use crate::live::procfs::Proc;

/// `CAP_SYS_PTRACE`
pub(super) const SYS_PTRACE: u64 = 1 << 19;

/// The rights of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    /// Real, effective, saved, and that for files.
    pub(super) uids: [u32; 4],
    pub(super) gids: [u32; 4],
    /// Capabilities: permitted, effective, and those that it can get at all.
    pub(super) permitted: u64,
    pub(super) effective: u64,
    pub(super) bounding: u64,
    pub(super) no_new_privileges: bool,
    /// Whether seccomp filters its system calls.
    pub(super) is_filtered: bool,
    /// How the ids of its user namespace map to those here: the same for two processes of one namespace.
    pub(super) uid_map: String,
}

impl Credentials {
    pub(super) fn of(proc: &Proc) -> Option<Credentials> {
        let uid_map = proc.read("uid_map").unwrap_or_default();
        let uid_map = String::from_utf8_lossy(&uid_map).into_owned();
        Some(Credentials { uid_map, ..parse(&String::from_utf8_lossy(&proc.read("status").ok()?)) })
    }

    /// Whether it may trace anything in its user namespace.
    pub(super) fn has_power(&self) -> bool {
        self.effective & SYS_PTRACE != 0
    }

    /// Whether its user namespace is one whose ids mean nothing here: neither ours nor one inside of ours.
    pub(super) fn is_outside(&self) -> bool {
        // `inside outside length`; an id that has none here is shown as the highest.
        let mut lines = self.uid_map.lines();
        lines.any(|line| line.split_ascii_whitespace().nth(1) == Some("4294967295"))
    }

    /// What helps who lacks `CAP_SYS_PTRACE`.
    pub(super) fn way_to_power(&self) -> &'static str {
        if self.bounding & SYS_PTRACE == 0 {
            "there is no CAP_SYS_PTRACE here, not for root either, as in a container by default: give the container \
             --cap-add SYS_PTRACE, or run on its host"
        } else if self.no_new_privileges {
            "no program can gain privileges here (no_new_privs, as in a sandbox): run as root outside of it"
        } else if self.uids[1] == 0 {
            "this is root without CAP_SYS_PTRACE: give it that capability back"
        } else {
            "run as root (sudo)"
        }
    }
}

fn parse(status: &str) -> Credentials {
    let mut parsed = Credentials::default();
    for (key, value) in status.lines().filter_map(|line| line.split_once(':')) {
        let mut numbers = value.split_ascii_whitespace().map_while(|word| word.parse().ok());
        let mut four = || [(); 4].map(|()| numbers.next().unwrap_or(0));
        let set = u64::from_str_radix(value.trim(), 16).unwrap_or(0);
        match key {
            "Uid" => parsed.uids = four(),
            "Gid" => parsed.gids = four(),
            "CapPrm" => parsed.permitted = set,
            "CapEff" => parsed.effective = set,
            "CapBnd" => parsed.bounding = set,
            "NoNewPrivs" => parsed.no_new_privileges = value.trim() == "1",
            "Seccomp" => parsed.is_filtered = value.trim() == "2",
            _ => {}
        }
    }
    parsed
}

/// The names of a set of capabilities, as in capabilities(7).
pub(super) fn names(set: u64) -> String {
    const NAMES: [&str; 41] = [
        "chown",
        "dac_override",
        "dac_read_search",
        "fowner",
        "fsetid",
        "kill",
        "setgid",
        "setuid",
        "setpcap",
        "linux_immutable",
        "net_bind_service",
        "net_broadcast",
        "net_admin",
        "net_raw",
        "ipc_lock",
        "ipc_owner",
        "sys_module",
        "sys_rawio",
        "sys_chroot",
        "sys_ptrace",
        "sys_pacct",
        "sys_admin",
        "sys_boot",
        "sys_nice",
        "sys_resource",
        "sys_time",
        "sys_tty_config",
        "mknod",
        "lease",
        "audit_write",
        "audit_control",
        "setfcap",
        "mac_override",
        "mac_admin",
        "syslog",
        "wake_alarm",
        "block_suspend",
        "audit_read",
        "perfmon",
        "bpf",
        "checkpoint_restore",
    ];
    let has = |bit: usize| set >> bit & 1 == 1;
    let named = NAMES.iter().enumerate().filter(|(bit, _)| has(*bit)).map(|(_, name)| format!("cap_{name}"));
    let all: Vec<String> = named.chain((NAMES.len()..64).filter(|bit| has(*bit)).map(|bit| bit.to_string())).collect();
    let (first, rest) = all.split_at(all.len().min(4));
    let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
    format!("{}{more}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_ids_capabilities_and_filters() {
        let status = "Name:\tx\nUid:\t1000\t0\t0\t7\nGid:\t1\t2\t3\t4\nNoNewPrivs:\t1\nSeccomp:\t2\n\
                      CapInh:\t0000000000000000\nCapPrm:\t0000000000080000\nCapEff:\t0000000000000000\n\
                      CapBnd:\t00000000a80425fb\n";
        let parsed = parse(status);
        assert_eq!((parsed.uids, parsed.gids), ([1000, 0, 0, 7], [1, 2, 3, 4]));
        assert_eq!((parsed.permitted, parsed.effective, parsed.bounding), (SYS_PTRACE, 0, 0xa804_25fb));
        assert!(parsed.no_new_privileges && parsed.is_filtered && !parsed.has_power());
        assert_eq!(parse(""), Credentials::default());
    }

    #[test]
    fn a_namespace_whose_ids_mean_nothing_here_is_told_by_its_map() {
        let with = |map: &str| Credentials { uid_map: map.to_owned(), ..Credentials::default() };
        assert!(!with("         0          0 4294967295\n").is_outside());
        assert!(!with("         0     100000      65536\n").is_outside());
        assert!(with("         0 4294967295 4294967295\n").is_outside());
        assert!(!with("").is_outside());
    }

    #[test]
    fn capabilities_have_names() {
        assert_eq!(names(SYS_PTRACE | 1 << 10), "cap_net_bind_service, cap_sys_ptrace");
        assert_eq!(names(u64::MAX), "cap_chown, cap_dac_override, cap_dac_read_search, cap_fowner and 60 more");
        assert_eq!(names(1 << 63), "63");
        assert_eq!(names(0), "");
    }
}
