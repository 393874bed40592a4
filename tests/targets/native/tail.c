// Tail calls leave no frame.
#include "case.h"

NOINLINE static int last(int n) {
    settle();
    return n + sink;
}

NOINLINE static int second(int n) {
    sink += n;
    return last(n + 1);
}

NOINLINE static int first(int n) {
    sink += n;
    return second(n + 1);
}

int main(int argc, char **argv) {
    return first(argc) + 1;
}
