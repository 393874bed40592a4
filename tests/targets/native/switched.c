// A stack as greenlet leaves it: `g_initialstub` starts a greenlet on top of whichever stack is in use, and by the time it sleeps what
// lies above belongs to others, here to calls that were never made.
#include "case.h"

NOINLINE static int never_called(int n) {
    return sink + n;
}

NOINLINE static int never_calling(int n) {
    return never_called(n) + 1;
}

static int inner(int n) {
    ENTER();
    settle();
    return n + sink;
}

NOINLINE int g_initialstub(int (*function)(int)) {
    char saved[256];
    char *above = (char *)__builtin_dwarf_cfa() - 8;
    memcpy(saved, above, sizeof saved);
    // Where a call to never_called returns to.
    const unsigned char *code = (const unsigned char *)never_calling;
    while (*code != 0xe8)
        code++;
    for (int i = 0; i < 32; i++)
        ((const void *volatile *)above)[i] = code + 5;
    int result = function(1);
    memcpy(above, saved, sizeof saved);
    return result;
}

int main(void) {
    volatile char room[512] = {0};
    return g_initialstub(inner) + never_calling(2) + room[sink];
}
