// Goes on by single steps, and stops where the argument says: `plt N` after N instructions in a PLT, `vdso N` in the vDSO,
// `code N` in a function's own code, from its first instruction to its return.
#include "case.h"

static const char *where;
static long remaining;
static unsigned long vdso;

NOINLINE int work(int n) {
    char *more = alloca(n);
    memset(more, 1, n);
    _Alignas(64) volatile int aligned[16] = {n};
    int total = 0;
    for (int i = 0; i < n; i++)
        total += more[i];
    return total + aligned[0];
}

static int is_wanted(unsigned long pc) {
    const unsigned char *code = (const unsigned char *)pc;
    if (!strcmp(where, "vdso"))
        return pc >= vdso && pc < vdso + 0x2000;
    if (!strcmp(where, "code"))
        return pc >= (unsigned long)work && pc < (unsigned long)work + 0x100;
    // jmp *x(%rip); push n; jmp PLT0; push x(%rip)
    extern char __executable_start, etext;
    int own = pc >= (unsigned long)&__executable_start && pc < (unsigned long)&etext;
    return own && ((code[0] == 0xff && (code[1] == 0x25 || code[1] == 0x35)) || code[0] == 0x68 ||
                   (code[0] == 0xe9 && code[-5] == 0x68));
}

static void on_step(int signal, siginfo_t *info, void *context) {
    ucontext_t *interrupted = context;
    if (is_wanted(interrupted->uc_mcontext.gregs[REG_RIP]) && remaining-- == 0)
        settle();
}

NOINLINE static int stepped(int n) {
    struct timespec now;
    // The trap flag.
    __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc");
    int total = work(n);
    total += abs((int)strtol("12", NULL, n));
    clock_gettime(CLOCK_MONOTONIC, &now);
    total += (int)now.tv_nsec;
    __asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc");
    return total;
}

int main(int argc, char **argv) {
    where = argv[1];
    remaining = atol(argv[2]);
    vdso = getauxval(AT_SYSINFO_EHDR);
    handle(SIGTRAP, 0, on_step);
    stepped(argc + 10);
    printf("passed\n");
    return 0;
}
