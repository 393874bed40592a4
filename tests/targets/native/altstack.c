// A handler on an alternate stack, which a second signal interrupts.
#include "case.h"

static void second(int signal, siginfo_t *info, void *context) {
    settle();
    sink++;
}

static void first(int signal, siginfo_t *info, void *context) {
    raise(SIGUSR2);
    sink++;
}

NOINLINE static void interrupted(int n) {
    raise(SIGUSR1);
    sink += n;
}

int main(void) {
    signal_stack();
    handle(SIGUSR1, SA_ONSTACK, first);
    handle(SIGUSR2, SA_ONSTACK, second);
    interrupted(3);
    return sink;
}
