// Code without CFI that keeps a frame pointer, but for one function, whose caller a chain of frame pointers leaves out.
#include "case.h"

#define OMITS __attribute__((noinline, noclone, optimize("omit-frame-pointer")))

OMITS static int omitting(int n) {
    ENTER();
    settle();
    return n + sink;
}

NOINLINE static int left_out(int n) {
    ENTER();
    return omitting(n + 1) + sink;
}

NOINLINE static int outer(int n) {
    ENTER();
    return left_out(n + 1) + sink;
}

int main(int argc, char **argv) {
    ENTER();
    return outer(argc) + 1;
}
