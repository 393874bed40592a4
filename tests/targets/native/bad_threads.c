// Threads whose stacks cannot be followed, and good ones beside them: sp points to nowhere; the return address is unmapped; the
// chain of frame pointers goes in a circle (without CFI); a thread goes round and round in the vDSO.
#include "case.h"

static pthread_barrier_t all;

static void arrive(const char *name) {
    prctl(PR_SET_NAME, name);
    pthread_barrier_wait(&all);
}

NOINLINE static void sleep_well(int n) {
    volatile int kept = n;
    while (!never)
        pause();
    sink += kept;
}

static void *good(void *name) {
    arrive(name);
    sleep_well(1);
    return NULL;
}

static void *garbage_sp(void *unused) {
    arrive("garbage-sp");
    __asm__ volatile("mov $0x1234567812345678, %%rsp\n1: mov $34, %%eax; syscall; jmp 1b" ::: "memory");
    return NULL;
}

static void *null_sp(void *unused) {
    arrive("null-sp");
    __asm__ volatile("xor %%esp, %%esp\n1: mov $34, %%eax; syscall; jmp 1b" ::: "memory");
    return NULL;
}

static void *unmapped_return(void *unused) {
    arrive("unmapped-return");
    void **frame = __builtin_frame_address(0);
    frame[1] = (void *)0x6666666000;
    sleep_well(2);
    return NULL;
}

static void *odd_return(void *unused) {
    arrive("odd-return");
    void **frame = __builtin_frame_address(0);
    // Not code: a word of data.
    frame[1] = (void *)&all;
    sleep_well(2);
    return NULL;
}

static void *looping(void *unused);

static void *spin(void *unused) {
    struct timespec now;
    arrive("vdso");
    while (!never) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        sink += (int)now.tv_nsec;
    }
    return NULL;
}

#include "looping.h"

static void *looping(void *unused) {
    arrive("looping");
    loop_frames();
    return NULL;
}

int main(void) {
    void *(*functions[])(void *) = {good, garbage_sp, null_sp, unmapped_return, odd_return, looping, spin, good};
    const char *names[] = {"good-1", "", "", "", "", "", "", "good-2"};
    pthread_barrier_init(&all, NULL, 9);
    for (int i = 0; i < 8; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, functions[i], (void *)names[i]);
    }
    pthread_barrier_wait(&all);
    usleep(100000);
    settle();
    return 0;
}
