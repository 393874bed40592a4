// What debug information has to tell: functions inlined one into the other, overloads, lines.
#include "case.h"

namespace shapes {
static inline __attribute__((always_inline)) int stretched(int n) {
    settle();
    return n + sink;
}

static inline __attribute__((always_inline)) int turned(int n) {
    int half = stretched(n / 2);
    return half + sink;
}

NOINLINE int area(int n) {
    return turned(n) * 2;
}

NOINLINE int area(double n, const char *unit) {
    return area((int)n) + unit[0];
}
} // namespace shapes

int main(int argc, char **argv) {
    return shapes::area(argc + 0.5, argv[0]) + sink;
}
