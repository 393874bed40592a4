// A library that chooses a function when it is bound.
#include "case.h"

static int one(int n) {
    return n + 1;
}

static int (*choose(void))(int) {
    // While the program is linked nothing can be called; by the time it is bound lazily, all can.
    if (getenv("PYST_SETTLE"))
        settle();
    return one;
}

int chosen(int n) __attribute__((ifunc("choose")));
