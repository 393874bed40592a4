// A handler that itself fails: a handler of SIGSEGV above another handler.
#include "case.h"

static void on_fault(int signal, siginfo_t *info, void *context) {
    settle();
    sink++;
}

static void on_signal(int signal, siginfo_t *info, void *context) {
    *(volatile int *)(uintptr_t)signal = 1;
}

NOINLINE static void interrupted(int n) {
    raise(SIGUSR1);
    sink += n;
}

int main(void) {
    handle(SIGUSR1, 0, on_signal);
    handle(SIGSEGV, 0, on_fault);
    interrupted(3);
    return sink;
}
