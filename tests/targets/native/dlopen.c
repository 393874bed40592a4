// A library that is loaded while the program runs.
#include "case.h"

static void settled(void) {
    settle();
    sink++;
}

int main(int argc, char **argv) {
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library)
        return puts(dlerror());
    int (*call_back)(void (*)(void)) = (int (*)(void (*)(void)))dlsym(library, "call_back");
    return call_back(settled) + 1;
}
