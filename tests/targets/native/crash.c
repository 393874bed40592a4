// Dies where nobody handles it.
#include "case.h"

NOINLINE static int fault(int *nowhere) {
    return *nowhere;
}

NOINLINE static int outer(int *nowhere) {
    return fault(nowhere) + sink;
}

static void on_signal(int signal, siginfo_t *info, void *context) {
    sink = outer(NULL);
}

int main(void) {
    handle(SIGUSR2, 0, on_signal);
    settle();
    return sink;
}
