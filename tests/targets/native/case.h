// What every program here shares: at its deepest place it calls settle(), which says that it is there and sleeps for ever.
//
// Where gdb cannot be the oracle (it makes frames up in code without CFI), functions begin with ENTER: it writes down where the
// function returns to and where its frame ends, and settle() prints all of that.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#if __has_include(<alloca.h>)
#include <alloca.h>
#endif

#define NOINLINE __attribute__((noinline, noclone))

volatile int never;
volatile int sink;

static struct {
    void *return_address, *cfa;
} entered[64];
static int depth;

#define ENTER()                                                                                                                 \
    do {                                                                                                                        \
        entered[depth].return_address = __builtin_return_address(0);                                                            \
        entered[depth++].cfa = __builtin_dwarf_cfa();                                                                           \
    } while (0)

// Not all of these are used by all.
__attribute__((unused)) NOINLINE static void settle(void) {
    for (int i = 0; i < depth; i++)
        printf("entered %p %p\n", entered[i].return_address, entered[i].cfa);
    FILE *maps = getenv("PYST_MAPS") ? fopen("/proc/self/maps", "r") : NULL;
    for (char line[4096]; maps && fgets(line, sizeof line, maps);)
        printf("map %s", line);
    printf("ready\n");
    fflush(stdout);
    while (!never)
        pause();
    sink++;
}

__attribute__((unused)) static void handle(int signal, int flags, void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    sigaction(signal, &action, NULL);
}

__attribute__((unused)) static void signal_stack(void) {
    stack_t stack;
    memset(&stack, 0, sizeof stack);
    stack.ss_sp = malloc(65536);
    stack.ss_size = 65536;
    sigaltstack(&stack, NULL);
}
