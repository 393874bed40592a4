// Threads that sleep at different depths.
#include "case.h"

static pthread_barrier_t all;

NOINLINE static int deeper(intptr_t n) {
    volatile int kept = n;
    if (n > 0)
        return deeper(n - 1) + kept;
    pthread_barrier_wait(&all);
    while (!never)
        pause();
    return kept;
}

static void *start(void *depth) {
    sink += deeper((intptr_t)depth);
    return NULL;
}

int main(void) {
    pthread_barrier_init(&all, NULL, 4);
    for (intptr_t i = 1; i < 4; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, start, (void *)(i * 5));
    }
    pthread_barrier_wait(&all);
    // Until all of them sleep.
    usleep(200000);
    settle();
    return sink;
}
