// Processes of unusual kinds, by the first argument. Each counts what it does in the file `count`, eight bytes, so that others see
// it go on, and ends with status 1 if anything fails that should not.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile uint64_t *count;

static void fail(const char *what) {
    perror(what);
    _exit(1);
}

static void ready(void) {
    puts("ready");
    fflush(stdout);
}

static void *sleeper(void *unused) {
    (void)unused;
    for (;;) usleep(1000), __atomic_fetch_add(count, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static pthread_t begin(void *(*body)(void *), void *argument) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, argument)) fail("pthread_create");
    return thread;
}

static void *brief(void *number) { return (void *)((uintptr_t)number + 1); }

// Threads are born and die without end, some hundred at a time.
static void *bear(void *unused) {
    (void)unused;
    for (;;) {
        pthread_t threads[50];
        for (uintptr_t i = 0; i < 50; i++) threads[i] = begin(brief, (void *)i);
        for (uintptr_t i = 0; i < 50; i++) {
            void *result;
            if (pthread_join(threads[i], &result) || (uintptr_t)result != i + 1) fail("pthread_join");
            __atomic_fetch_add(count, 1, __ATOMIC_SEQ_CST);
        }
    }
    return NULL;
}

// The process becomes this program anew again and again: from its main thread, or from another one.
static char **arguments;
static void *become(void *unused) {
    (void)unused;
    for (int i = 0; i < 3; i++) begin(sleeper, NULL);
    usleep(2000);
    __atomic_fetch_add(count, 1, __ATOMIC_SEQ_CST);
    execv("/proc/self/exe", arguments);
    fail("execv");
    return NULL;
}

// A parent waits for its vforked child again and again, while another thread goes on.
static void *wait_for_children(void *unused) {
    (void)unused;
    for (;;) {
        pid_t child = vfork();
        if (child == 0) {
            usleep(20000);
            _exit(7);
        }
        int status;
        pid_t ended;
        do ended = waitpid(child, &status, 0);
        while (ended < 0 && errno == EINTR);
        if (child < 0 || ended != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7) fail("vfork");
        __atomic_fetch_add(count, 1, __ATOMIC_SEQ_CST);
    }
    return NULL;
}

// Pages whose rights alternate: each is a mapping of its own.
static void map_many(int mappings) {
    char *pages = mmap(NULL, (size_t)mappings << 12, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) fail("mmap");
    for (int i = 0; i < mappings; i += 2)
        if (mprotect(pages + ((size_t)i << 12), 4096, PROT_READ | PROT_WRITE)) fail("mprotect");
}

// Locals of main's caller lie in a page that nobody may touch.
__attribute__((noinline)) static void protect(int depth) {
    volatile char locals[4096];
    locals[0] = (char)depth;
    if (depth) protect(depth - 1);
    else {
        uintptr_t page = ((uintptr_t)__builtin_frame_address(0) + 3 * 4096) & ~(uintptr_t)4095;
        if (mprotect((void *)page, 4096, PROT_NONE)) fail("mprotect");
        ready();
        for (;;) usleep(1000), __atomic_fetch_add(count, 1, __ATOMIC_SEQ_CST);
    }
    locals[1] = 0;
}

static void *protected_stack(void *unused) {
    (void)unused;
    protect(8);
    return NULL;
}

int main(int argc, char **argv) {
    arguments = argv;
    alarm(900);
    int file = open("count", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, 8)) fail("count");
    count = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (count == MAP_FAILED) fail("mmap");
    const char *kind = argc > 1 ? argv[1] : "";
    if (strcmp(kind, "storm") == 0) {
        for (int i = 0; i < 3; i++) begin(bear, NULL);
    } else if (strcmp(kind, "exec") == 0) {
        ready();
        become(NULL);
    } else if (strcmp(kind, "exec-by-thread") == 0) {
        ready();
        begin(become, NULL);
    } else if (strcmp(kind, "vfork") == 0) {
        begin(sleeper, NULL);
        begin(wait_for_children, NULL);
        ready();
        wait_for_children(NULL);
    } else if (strcmp(kind, "leaderless") == 0) {
        for (int i = 0; i < 3; i++) begin(sleeper, NULL);
        ready();
        pthread_exit(NULL);
    } else if (strcmp(kind, "maps") == 0) {
        map_many(argc > 2 ? atoi(argv[2]) : 0);
        begin(sleeper, NULL);
    } else if (strcmp(kind, "protected") == 0) {
        begin(sleeper, NULL);
        begin(protected_stack, NULL);
        for (;;) pause();
    } else {
        return 2;
    }
    ready();
    for (;;) pause();
}
