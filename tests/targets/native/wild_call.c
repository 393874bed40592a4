// A call to where no code is: `null`, `unmapped`, or `data`, a page that is mapped but may not be executed.
#include "case.h"

static void on_fault(int signal, siginfo_t *info, void *context) {
    settle();
    sink++;
}

NOINLINE static int caller(int (*function)(int), int n) {
    ENTER();
    volatile int kept = n;
    return function(n) + kept;
}

int main(int argc, char **argv) {
    static char data[16384];
    int (*function)(int) = NULL;
    if (!strcmp(argv[1], "unmapped")) {
        void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        munmap(page, 4096);
        function = (int (*)(int))page;
    }
    if (!strcmp(argv[1], "data"))
        function = (int (*)(int))(data + 8192);
    signal_stack();
    handle(SIGSEGV, SA_ONSTACK, on_fault);
    return caller(function, argc) + sink;
}
