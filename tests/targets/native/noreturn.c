// Functions whose last instruction is a call that never returns: the return address belongs to another function.
#include "case.h"

__attribute__((noreturn, noinline)) static void last(int n) {
    for (;;) {
        settle();
        sink += n;
    }
}

__attribute__((noreturn, noinline)) static void middle(int n) {
    volatile int kept[8] = {n};
    last(kept[n & 7]);
}

__attribute__((noinline)) void outer(int n) {
    volatile int kept[2] = {n};
    middle(kept[0]);
}

__attribute__((noinline)) int following(int n) {
    return n + sink;
}

int main(int argc, char **argv) {
    outer(argc);
    return following(argc);
}
