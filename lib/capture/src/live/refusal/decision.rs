//! What follows from what was looked at. The order is that of the kernel, which asks, for `/proc/PID/maps` and the like as for
//! ptrace and process_vm_readv: may the system call be made at all (seccomp)? Are all of the target's ids ours, or have we
//! `CAP_SYS_PTRACE` over it? Is it dumpable? Are its capabilities ours? And what do the security modules say?
//! (Linux, kernel/ptrace.c, __ptrace_may_access; security/commoncap.c, cap_ptrace_access_check; security/yama/yama_lsm.c)

use super::credentials::{Credentials, names};
use crate::error::CaptureError;
use nix::errno::Errno;

/// What was looked at.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) pid: u32,
    pub(super) own: Credentials,
    pub(super) target: Credentials,
    /// Root owns the files in `/proc/PID`.
    pub(super) is_owned_by_root: bool,
    /// What of `/proc/PID` is as guarded as `maps` can be read.
    pub(super) is_readable: bool,
    /// The target descends from this process.
    pub(super) is_descendant: bool,
    /// What came of calls that need no rights.
    pub(super) traces: Result<(), Errno>,
    pub(super) reads: Result<(), Errno>,
    /// `kernel.yama.ptrace_scope`, where there is Yama.
    pub(super) yama: Option<u32>,
    pub(super) own_label: Option<Label>,
    pub(super) target_label: Option<Label>,
    pub(super) selinux_denies_ptrace: bool,
}

/// What a security module calls a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Label {
    /// A profile.
    AppArmor(String),
    /// A context.
    SeLinux(String),
}

impl Label {
    /// `docker-default (enforce)`, `unconfined`; `system_u:system_r:container_t:s0:c1,c2`.
    pub(super) fn of(text: &str) -> Option<Label> {
        const LONGEST: usize = 200;
        let text: String = text.trim_end_matches(['\0', '\n']).chars().take(LONGEST).collect();
        match text.split(':').count() {
            _ if text.is_empty() => None,
            3.. if !text.contains(' ') => Some(Label::SeLinux(text)),
            _ => Some(Label::AppArmor(text)),
        }
    }

    fn confines(&self) -> bool {
        match self {
            // In complain mode all is permitted, and written to the log.
            Label::AppArmor(profile) => !profile.contains("unconfined") && !profile.ends_with("(complain)"),
            Label::SeLinux(context) => !context.contains(":unconfined_t:"),
        }
    }

    fn text(&self) -> &str {
        match self {
            Label::AppArmor(text) | Label::SeLinux(text) => text,
        }
    }
}

/// The first reason that the kernel would have come to.
pub(super) fn decide(facts: &Facts) -> CaptureError {
    let Facts { pid, own, target, .. } = facts;
    let remedy = own.way_to_power();
    if let Some(error) = forbidden_call(facts) {
        return error;
    }
    if target.is_outside() || (own.has_power() && target.uid_map != own.uid_map && !facts.is_readable) {
        return CaptureError::UserNamespace { pid: *pid };
    }
    if !own.has_power() {
        let reason = other_ids(facts, remedy).or_else(|| more_rights(facts, remedy));
        if let Some(error) = reason.or_else(|| yama(facts, remedy)) {
            return error;
        }
    } else if facts.yama == Some(3) && facts.is_readable {
        return CaptureError::Yama { pid: *pid, scope: 3, advice: NEVER.to_owned() };
    }
    security_module(facts).unwrap_or(CaptureError::NotPermitted { pid: *pid })
}

/// A system call that fails where none can is filtered, or the kernel has none.
fn forbidden_call(facts: &Facts) -> Option<CaptureError> {
    let failed = [("process_vm_readv", facts.reads), ("ptrace", facts.traces)];
    let (call, error) = failed.into_iter().find_map(|(call, result)| Some((call, result.err()?)))?;
    Some(match (facts.own.is_filtered, error) {
        (false, Errno::ENOSYS) => CaptureError::NoSystemCall { call },
        _ => {
            let otherwise = if call == "ptrace" { "use --no-block, which does without, or " } else { "" };
            CaptureError::Seccomp { pid: facts.pid, call, error: error.desc(), otherwise }
        }
    })
}

/// The ids that ours are compared with: real, effective and saved.
fn other_ids(facts: &Facts, remedy: &'static str) -> Option<CaptureError> {
    let Facts { pid, own, target, .. } = facts;
    let compared = |ids: &[u32; 4]| -> [u32; 3] { [ids[0], ids[1], ids[2]] };
    let (uids, gids) = (compared(&target.uids), compared(&target.gids));
    // The kernel takes the real id for ptrace, and that for files in /proc.
    let differs = |ids: &[u32; 3], own: &[u32; 4]| ids.iter().any(|id| *id != own[0] || *id != own[3]);
    if differs(&uids, &own.uids) {
        let [real, owner, saved] = uids;
        if real != owner || saved != owner {
            return Some(CaptureError::ChangedUser {
                pid: *pid,
                real,
                effective: owner,
                saved,
                own: own.uids[0],
                remedy,
            });
        }
        return Some(CaptureError::OtherUser { pid: *pid, owner, own: own.uids[0], remedy });
    }
    let other = gids.iter().find(|gid| **gid != own.gids[0] || **gid != own.gids[3]).copied();
    other.map(|group| CaptureError::OtherGroup { pid: *pid, group, own: own.gids[0], remedy })
}

fn more_rights(facts: &Facts, remedy: &'static str) -> Option<CaptureError> {
    let Facts { pid, own, target, .. } = facts;
    // Who got capabilities is not dumpable for it either.
    let more = target.permitted & !own.permitted;
    if more != 0 {
        return Some(CaptureError::MoreCapabilities { pid: *pid, names: names(more), remedy });
    }
    if facts.is_owned_by_root && target.uids[1] != 0 {
        return Some(CaptureError::NotDumpable { pid: *pid, remedy });
    }
    // Root's files are root's, dumpable or not; what is left of the ways to refuse even a look at /proc is this one.
    let is_confined = [&facts.own_label, &facts.target_label].into_iter().flatten().any(Label::confines);
    (target.uids[1] == 0 && !facts.is_readable && !is_confined)
        .then_some(CaptureError::NotDumpable { pid: *pid, remedy })
}

const NEVER: &str = "nothing may be inspected until the machine is started anew with a lower value";

/// Yama lets anybody look, and forbids to read memory and to trace.
fn yama(facts: &Facts, remedy: &'static str) -> Option<CaptureError> {
    let advice = match facts.yama.filter(|_| facts.is_readable)? {
        1 if !facts.is_descendant => format!(
            "{remedy}, set kernel.yama.ptrace_scope to 0, or have the process allow it with prctl(PR_SET_PTRACER)"
        ),
        2 => remedy.to_owned(),
        3.. => NEVER.to_owned(),
        _ => return None,
    };
    Some(CaptureError::Yama { pid: facts.pid, scope: facts.yama?, advice })
}

fn security_module(facts: &Facts) -> Option<CaptureError> {
    let labels = [&facts.own_label, &facts.target_label];
    if !facts.selinux_denies_ptrace && !labels.into_iter().flatten().any(Label::confines) {
        return None;
    }
    let text = |label: &Option<Label>| label.as_ref().map_or("nothing", Label::text).to_owned();
    let (module, remedy) = match labels.into_iter().flatten().next()? {
        Label::SeLinux(_) if facts.selinux_denies_ptrace => {
            ("SELinux", "its boolean deny_ptrace is on: setsebool deny_ptrace off")
        }
        Label::SeLinux(_) => {
            ("SELinux", "run it unconfined, on the host; in a container with --security-opt label=disable")
        }
        Label::AppArmor(_) => {
            ("AppArmor", "run it unconfined, on the host; in a container with --security-opt apparmor=unconfined")
        }
    };
    let (own, target) = (text(&facts.own_label), text(&facts.target_label));
    Some(CaptureError::SecurityModule { pid: facts.pid, module, own, target, remedy })
}

#[cfg(test)]
mod tests;
