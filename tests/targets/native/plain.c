// Nothing odd but what the compiler's options make of it: without CFI, with .debug_frame only, static, stripped.
#include "case.h"

NOINLINE static int innermost(int n) {
    ENTER();
    settle();
    return n + sink;
}

NOINLINE static int middle(int n) {
    ENTER();
    volatile int kept[6] = {n, n, n};
    return innermost(n + 1) + kept[n & 3];
}

NOINLINE int outer(int n) {
    ENTER();
    int total = 0;
    for (int i = 0; i < n; i++)
        total += middle(i + n) * total;
    return total;
}

int main(int argc, char **argv) {
    return outer(argc + 1) + 1;
}
