// A signal handler.
#include "case.h"

static void on_signal(int signal, siginfo_t *info, void *context) {
    settle();
    sink++;
}

NOINLINE static void interrupted(int n) {
    raise(SIGUSR1);
    sink += n;
}

int main(void) {
    handle(SIGUSR1, 0, on_signal);
    interrupted(3);
    return sink;
}
