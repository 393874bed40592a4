// A stack that the program made: makecontext.
#include "case.h"

static ucontext_t own, other;

static void started(int n) {
    ENTER();
    volatile int kept = n;
    settle();
    sink += kept;
}

int main(void) {
    static char stack[65536];
    getcontext(&other);
    other.uc_stack.ss_sp = stack;
    other.uc_stack.ss_size = sizeof stack;
    other.uc_link = &own;
    makecontext(&other, (void (*)(void))started, 1, 5);
    swapcontext(&own, &other);
    return sink;
}
