// aarch64: functions whose CFI tells that the return address is signed, in the ways that newer compilers have: with the place of the
// instruction that signed it (0x2c), and by setting the state (0x2b) rather than flipping it.
#include "case.h"

#define SIGNING(name, escape)                                                                                                   \
    int name(int (*function)(int), int n);                                                                                      \
    __asm__(".text\n.globl " #name "\n.type " #name ",%function\n" #name ":\n"                                                  \
            "  .cfi_startproc\n  hint #25\n  .cfi_escape " escape "\n"                                                          \
            "  stp x29, x30, [sp, #-32]!\n  .cfi_def_cfa_offset 32\n  .cfi_offset 29, -32\n  .cfi_offset 30, -24\n"              \
            "  mov x2, x0\n  mov w0, w1\n  blr x2\n"                                                                            \
            "  ldp x29, x30, [sp], #32\n  .cfi_restore 30\n  .cfi_restore 29\n  .cfi_def_cfa_offset 0\n"                        \
            "  hint #29\n  ret\n  .cfi_endproc\n.size " #name ", .-" #name "\n")

SIGNING(with_place, "0x2c");
SIGNING(with_state, "0x2b, 0x01, 0x7c");

static int innermost(int n) {
    ENTER();
    settle();
    return n + sink;
}

static int middle(int n) {
    ENTER();
    return with_state(innermost, n) + 1;
}

NOINLINE static int outer(int n) {
    ENTER();
    return with_place(middle, n) + 1;
}

int main(int argc, char **argv) {
    return outer(argc) + 1;
}
