// A handler of SIGSEGV, on an alternate stack: the pc is that of the instruction that failed, the first of its function.
#include "case.h"

static void on_fault(int signal, siginfo_t *info, void *context) {
    settle();
    sink++;
}

NOINLINE static int fault(int *nowhere) {
    return *nowhere;
}

NOINLINE static int outer(int *nowhere) {
    return fault(nowhere) + sink;
}

int main(void) {
    signal_stack();
    handle(SIGSEGV, SA_ONSTACK, on_fault);
    return outer(NULL) + sink;
}
