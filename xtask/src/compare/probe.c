/* A native thread inside the target that tells for how long it was stopped.
 *
 * It has one processor for itself, at real-time priority, and spins on the clock. In a gap between two looks it may have
 * run (an interrupt), waited for the processor (accounted by the kernel as run-queue delay), or been stopped: what is left
 * of the gap without its own CPU time and that delay. A plain gap would say milliseconds on a machine that is shared.
 *
 * Commands come on standard input, answers go to standard output:
 *     w     watches: "watching", and spins until the next byte
 *     s     stops watching: "LONGEST TOTAL COUNT", in nanoseconds, of the times that it was stopped
 * The end of the input ends the process, so that none outlives the benchmark, however that ends. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Nanoseconds. Two looks at the clock are 30 apart; nothing that stops a thread takes less than 3000. */
enum { SMALLEST_GAP = 3000, LONGEST_LOOK = 10000, BETWEEN_POLLS = 1000000 };

static int processor;
static int schedstat;
static int refused;
static sem_t is_set_up;

static uint64_t nanoseconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The second number of /proc/thread-self/schedstat. The first one is the CPU time as of the last tick, too old to use. */
static uint64_t run_queue_delay(void) {
    char text[96];
    ssize_t length = pread(schedstat, text, sizeof text - 1, 0);
    text[length > 0 ? length : 0] = 0;
    char *second = strchr(text, ' ');
    return second ? strtoull(second, NULL, 10) : 0;
}

static void say(const char *text) {
    size_t length = strlen(text);
    if (write(STDOUT_FILENO, text, length) != (ssize_t)length)
        _exit(1);
}

static void watch(void) {
    uint64_t longest = 0, total = 0, count = 0;
    say("watching\n");
    uint64_t delay = run_queue_delay();
    uint64_t used = nanoseconds(CLOCK_THREAD_CPUTIME_ID);
    uint64_t since = nanoseconds(CLOCK_MONOTONIC), last = since, polled = since;
    for (;;) {
        uint64_t now = nanoseconds(CLOCK_MONOTONIC);
        /* Both clocks may run at slightly different speeds, so that they are compared often. */
        if (now - last > SMALLEST_GAP || now - since > BETWEEN_POLLS) {
            uint64_t used_now = nanoseconds(CLOCK_THREAD_CPUTIME_ID), delay_now = run_queue_delay();
            int64_t away = (int64_t)((now - since) - (used_now - used) - (delay_now - delay));
            if (away > SMALLEST_GAP) {
                longest = (uint64_t)away > longest ? (uint64_t)away : longest;
                total += (uint64_t)away;
                count++;
            }
            /* What begins now goes on from the very figures that this ended with: a stop may come at any instruction here. */
            since = now;
            used = used_now;
            delay = delay_now;
            uint64_t after = nanoseconds(CLOCK_MONOTONIC);
            now = after - now < LONGEST_LOOK ? after : now;
        }
        last = now;
        if (now - polled > BETWEEN_POLLS) {
            struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
            polled = now;
            if (poll(&input, 1, 0) > 0)
                break;
        }
    }
    char text[96];
    snprintf(text, sizeof text, "%llu %llu %llu\n", (unsigned long long)longest, (unsigned long long)total,
             (unsigned long long)count);
    say(text);
}

static void *probe(void *unused) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(processor, &only);
    struct sched_param priority = {.sched_priority = 50};
    schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    refused = schedstat < 0 || sched_setaffinity(0, sizeof only, &only) != 0 ||
              sched_setscheduler(0, SCHED_FIFO, &priority) != 0;
    sem_post(&is_set_up);
    for (;;) {
        char command;
        if (read(STDIN_FILENO, &command, 1) != 1)
            _exit(0);
        if (command == 'w')
            watch();
    }
    return unused;
}

/* Starts it on a processor; 0 when it runs there at real-time priority. */
int start(int on) {
    pthread_t thread;
    processor = on;
    if (sem_init(&is_set_up, 0, 0) != 0 || pthread_create(&thread, NULL, probe, NULL) != 0)
        return 1;
    sem_wait(&is_set_up);
    return refused;
}
