// A parent that waits for its vforked child, which sleeps on the same stack.
#include "case.h"

NOINLINE static int start(int n) {
    volatile int kept = n;
    pid_t child = vfork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        syscall(SYS_write, 1, "ready\n", 6);
        syscall(SYS_pause);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    return kept;
}

int main(int argc, char **argv) {
    return start(argc) + 1;
}
