// Code that was made while the program runs, in anonymous memory: with a `frame` pointer, with a plain `return` after its call, or
// with `neither` that anyone could follow.
#include "case.h"

static void called(void) {
    ENTER();
    settle();
    sink++;
}

NOINLINE static int enter(void (*code)(void (*)(void))) {
    ENTER();
    code(called);
    return sink + 1;
}

int main(int argc, char **argv) {
    static const unsigned char frame[] = {
        0x55, 0x48, 0x89, 0xe5,             // push %rbp; mov %rsp, %rbp
        0x48, 0x83, 0xec, 0x20,             // sub $32, %rsp
        0xff, 0xd7, 0x90, 0x31, 0xc0,       // call *%rdi; nop; xor %eax, %eax
        0xc9, 0xc3,                         // leave; ret
    };
    static const unsigned char plain[] = {
        0x48, 0x83, 0xec, 0x08,             // sub $8, %rsp
        0xff, 0xd7, 0x48, 0x83, 0xc4, 0x08, // call *%rdi; add $8, %rsp
        0xc3,                               // ret
    };
    static const unsigned char neither[] = {
        0x48, 0x83, 0xec, 0x28,             // sub $40, %rsp
        0xff, 0xd7, 0x31, 0xc0, 0x90,       // call *%rdi; xor %eax, %eax; nop
        0x48, 0x83, 0xc4, 0x28, 0xc3,       // add $40, %rsp; ret
    };
    char *memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    // Not at the start of the mapping: what lies before is no code.
    char *code = memory + 100;
    if (!strcmp(argv[1], "frame"))
        memcpy(code, frame, sizeof frame);
    else if (!strcmp(argv[1], "plain"))
        memcpy(code, plain, sizeof plain);
    else
        memcpy(code, neither, sizeof neither);
    mprotect(memory, 8192, PROT_READ | PROT_EXEC);
    return enter((void (*)(void (*)(void)))code) + sink;
}
