// Frames whose size only the program knows.
#include "case.h"

NOINLINE static int inner(int n) {
    volatile char variable[n];
    variable[n - 1] = 1;
    for (int i = 0; i < n; i++)
        variable[i] = i;
    settle();
    return variable[n / 2];
}

NOINLINE static int outer(int n) {
    char *more = alloca(n * 3);
    memset(more, n, n * 3);
    return inner(n + more[n]) + more[1];
}

int main(int argc, char **argv) {
    return outer(argc + 99) + sink;
}
