// Frames that are realigned (DRAP): their CFA is in memory, and CFI says so by an expression.
#include "case.h"

NOINLINE static int inner(int n, char *buffer) {
    _Alignas(64) volatile char aligned[128];
    char *more = alloca(n + 16);
    memset(more, n, n + 16);
    aligned[0] = more[0] + buffer[0];
    settle();
    return aligned[n & 127] + more[1];
}

// More arguments than registers: some are found through the realigned frame's pointer.
NOINLINE static int outer(int a, int b, int c, int d, int e, int f, int g, int h) {
    _Alignas(128) volatile char aligned[256];
    char *more = alloca(a * 8);
    memset(more, b, a * 8);
    aligned[1] = more[2] + g + h;
    return inner(c, more) + aligned[1] + d + e + f + g;
}

int main(int argc, char **argv) {
    return outer(argc + 3, 1, 100, 3, 4, 5, 6, 7) + sink;
}
