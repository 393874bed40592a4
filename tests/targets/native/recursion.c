// Twenty thousand frames.
#include "case.h"

NOINLINE static int deeper(int n) {
    volatile int kept = n;
    if (n == 0) {
        settle();
        return 0;
    }
    return deeper(n - 1) + kept;
}

int main(void) {
    return deeper(20000) + sink;
}
