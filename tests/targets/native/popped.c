// A function that waits with its return address in a register and not on the stack, as glibc's vfork does: the child returns
// first, and would leave something else there.
#include "case.h"

long popped(void);
asm(".text\n"
    ".globl popped\n"
    ".type popped, @function\n"
    "popped:\n"
    ".cfi_startproc\n"
    "pop %rdi\n"
    ".cfi_def_cfa_offset 0\n"
    ".cfi_register %rip, %rdi\n"
    "mov $34, %eax\n" // pause
    "syscall\n"
    "push %rdi\n"
    ".cfi_def_cfa_offset 8\n"
    ".cfi_offset %rip, -8\n"
    "ret\n"
    ".cfi_endproc\n"
    ".size popped, . - popped\n");

NOINLINE static int outer(int n) {
    printf("ready\n");
    fflush(stdout);
    while (!never)
        sink += popped();
    return n + sink;
}

int main(int argc, char **argv) {
    return outer(argc) + 1;
}
