use super::super::credentials::SYS_PTRACE;
use super::*;

const ALL: u64 = (1 << 41) - 1;
/// What Docker gives.
const DOCKER: u64 = 0xa804_25fb;
const INITIAL: &str = "         0          0 4294967295\n";

fn user(uid: u32) -> Credentials {
    Credentials { uids: [uid; 4], gids: [uid; 4], bounding: ALL, uid_map: INITIAL.to_owned(), ..Credentials::default() }
}

fn root() -> Credentials {
    Credentials { permitted: ALL, effective: ALL, ..user(0) }
}

fn root_in_docker() -> Credentials {
    Credentials { permitted: DOCKER, effective: DOCKER, bounding: DOCKER, ..user(0) }
}

/// Whom nothing refuses, as far as can be seen.
fn facts(own: Credentials, target: Credentials) -> Facts {
    Facts {
        pid: 7,
        is_owned_by_root: target.uids[1] == 0,
        own,
        target,
        is_readable: true,
        is_descendant: false,
        traces: Ok(()),
        reads: Ok(()),
        yama: None,
        own_label: None,
        target_label: None,
        selinux_denies_ptrace: false,
    }
}

/// Its code, and that it says all of `words`.
fn says(facts: &Facts, words: &[&str]) -> &'static str {
    let error = decide(facts);
    let message = error.to_string();
    let missing = words.iter().find(|word| !message.contains(**word));
    assert_eq!(missing, None, "not in: {message}");
    assert!(matches!(error, CaptureError::NoSystemCall { .. }) || message.contains("process 7"), "{message}");
    error.code()
}

#[test]
fn ids_are_compared_as_the_kernel_does() {
    let of_other = facts(user(1000), user(33));
    assert_eq!(says(&of_other, &["uid 33", "this is uid 1000", "sudo"]), "other-user");
    let su = Credentials { uids: [1000, 0, 0, 0], ..user(1000) };
    assert_eq!(says(&facts(user(1000), su), &["real uid 1000, effective 0", "sudo"]), "changed-user");
    // It may go back to what it was.
    let dropped = Credentials { uids: [1000, 1000, 0, 1000], ..user(1000) };
    assert_eq!(says(&facts(user(1000), dropped), &["saved 0"]), "changed-user");
    let grouped = Credentials { gids: [1000, 44, 44, 44], ..user(1000) };
    assert_eq!(says(&facts(user(1000), grouped), &["group 44", "group 1000", "sg"]), "other-group");
}

#[test]
fn what_helps_is_what_is_to_be_had_here() {
    // docker exec of root, and a server that has become www-data.
    let in_docker = facts(root_in_docker(), Credentials { bounding: DOCKER, ..user(33) });
    assert_eq!(says(&in_docker, &["uid 33", "--cap-add SYS_PTRACE", "run as that user"]), "other-user");
    let own = Credentials { bounding: DOCKER, ..user(1000) };
    assert_eq!(says(&facts(own, user(33)), &["--cap-add SYS_PTRACE"]), "other-user");
    let own = Credentials { no_new_privileges: true, ..user(1000) };
    assert_eq!(says(&facts(own, user(33)), &["no_new_privs"]), "other-user");
    let own = Credentials { permitted: ALL & !SYS_PTRACE, effective: ALL & !SYS_PTRACE, ..user(0) };
    assert_eq!(says(&facts(own, user(33)), &["root without CAP_SYS_PTRACE"]), "other-user");
}

#[test]
fn who_owns_the_files_in_proc_tells_what_is_not_dumpable() {
    let hidden = Facts { is_owned_by_root: true, is_readable: false, ..facts(user(1000), user(1000)) };
    assert_eq!(says(&hidden, &["not dumpable", "sudo"]), "not-dumpable");
    // Root's files are root's in any case.
    let of_root = Facts { is_readable: false, ..facts(root_in_docker(), root_in_docker()) };
    assert_eq!(says(&of_root, &["not dumpable", "--cap-add"]), "not-dumpable");
}

#[test]
fn capabilities_that_we_lack_are_named() {
    let server = Credentials { permitted: 1 << 10, effective: 1 << 10, ..user(1000) };
    assert_eq!(says(&facts(user(1000), server), &["(cap_net_bind_service)", "sudo"]), "more-capabilities");
    let whole = Facts { is_readable: false, ..facts(root_in_docker(), root()) };
    assert_eq!(says(&whole, &["and ", " more)", "--cap-add"]), "more-capabilities");
}

#[test]
fn rights_end_at_the_border_of_the_user_namespace() {
    let inside = Credentials { uid_map: "0 1000 1\n".to_owned(), ..root() };
    let outside = Credentials { uid_map: "0 4294967295 4294967295\n".to_owned(), ..user(65534) };
    let facts = Facts { is_readable: false, ..facts(inside, outside) };
    assert_eq!(says(&facts, &["user namespace", "on the host"]), "user-namespace");
}

#[test]
fn a_system_call_that_fails_whatever_it_is_asked_is_filtered() {
    let filtered = Credentials { is_filtered: true, ..root() };
    let facts = facts(filtered, user(33));
    let no_read = Facts { reads: Err(Errno::EPERM), ..facts.clone() };
    assert_eq!(says(&no_read, &["seccomp", "process_vm_readv", "seccomp=unconfined"]), "seccomp");
    let no_trace = Facts { traces: Err(Errno::ENOSYS), ..facts.clone() };
    assert_eq!(says(&no_trace, &["seccomp", "ptrace (Function not implemented)", "--no-block"]), "seccomp");
    let no_call = Facts { own: root(), reads: Err(Errno::ENOSYS), ..facts };
    assert_eq!(says(&no_call, &["no system call process_vm_readv"]), "no-system-call");
}

#[test]
fn yama_is_the_reason_where_it_forbids_and_all_else_permits() {
    let under = |scope| Facts { yama: Some(scope), ..facts(user(1000), user(1000)) };
    assert_eq!(says(&under(1), &["ptrace_scope = 1", "ptrace_scope to 0", "PR_SET_PTRACER", "sudo"]), "yama");
    assert_eq!(says(&under(2), &["ptrace_scope = 2", "sudo"]), "yama");
    assert_eq!(says(&under(3), &["ptrace_scope = 3", "started anew"]), "yama");
    assert_eq!(says(&Facts { yama: Some(3), ..facts(root(), user(1000)) }, &["started anew"]), "yama");
    // It is not asked where something else has refused already, and permits these:
    assert_eq!(says(&Facts { yama: Some(1), ..facts(user(1000), user(33)) }, &["uid 33"]), "other-user");
    assert_eq!(says(&Facts { is_descendant: true, ..under(1) }, &[]), "not-permitted");
    assert_eq!(says(&under(0), &[]), "not-permitted");
    let in_docker = Facts { yama: Some(1), ..facts(root_in_docker(), root_in_docker()) };
    assert_eq!(says(&in_docker, &["ptrace_scope = 1", "--cap-add SYS_PTRACE"]), "yama");
}

#[test]
fn security_modules_are_named_with_what_they_call_both() {
    let facts = facts(root(), root());
    let confined = Label::of("docker-default (enforce)\n");
    let docker = Facts { own_label: confined.clone(), target_label: Label::of("unconfined\n"), ..facts.clone() };
    assert_eq!(
        says(&docker, &["AppArmor", "docker-default (enforce)", "(unconfined)", "apparmor="]),
        "security-module"
    );
    let own_label = Label::of("system_u:system_r:container_t:s0:c1,c2\0");
    let podman = Facts { own_label: own_label.clone(), target_label: own_label, ..facts.clone() };
    assert_eq!(says(&podman, &["SELinux", "container_t", "label=disable"]), "security-module");
    let own_label = Label::of("unconfined_u:unconfined_r:unconfined_t:s0");
    let denied = Facts { own_label: own_label.clone(), selinux_denies_ptrace: true, ..facts.clone() };
    assert_eq!(says(&denied, &["deny_ptrace off"]), "security-module");
    let free = Facts { own_label, target_label: Label::of("snap (complain)"), ..facts };
    assert_eq!(says(&free, &["Landlock"]), "not-permitted");
    assert_eq!((Label::of(""), Label::of("\n")), (None, None));
}
