// A process that gets signals without end, and knows what it got: from a child of its own, which counts what it sends.
//
// Queued signals, to the process and to single threads, each with a number of its own: all must arrive. Standard ones, which are
// sent one at a time. A timer's, each of which says how many more it stands for. SIGSTOP and SIGCONT: it must go on.
// When it has begun there is a file `begun`. When the file `end` appears, the child stops, and the process writes `told`: "whole", or what is missing.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { QUEUED = 4, SLEEPERS = 4, BUSY = 2, THREADS = 1 + SLEEPERS + BUSY };

struct shared {
    volatile int tids[THREADS];
    volatile unsigned long sent[QUEUED], sent_sum[QUEUED];
    unsigned long got[QUEUED], got_sum[QUEUED];
    volatile unsigned long standard_sent;
    unsigned long standard_got;
    unsigned long ticks;
    volatile int done;
};

static struct shared *shared;

static int first(void) { return SIGRTMIN + 2; }

static void on_queued(int signal, siginfo_t *info, void *context) {
    (void)context;
    int index = signal - first();
    __atomic_fetch_add(&shared->got[index], 1, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&shared->got_sum[index], (unsigned long)info->si_value.sival_int, __ATOMIC_SEQ_CST);
}

static void on_standard(int signal) {
    (void)signal;
    __atomic_fetch_add(&shared->standard_got, 1, __ATOMIC_SEQ_CST);
}

// timer_getoverrun is of the newest signal, which another thread may have taken since.
static void on_timer(int signal, siginfo_t *info, void *context) {
    (void)signal;
    (void)context;
    __atomic_fetch_add(&shared->ticks, 1 + (unsigned long)info->si_overrun, __ATOMIC_SEQ_CST);
}

static void *body(void *number) {
    shared->tids[(long)number] = (int)syscall(SYS_gettid);
    volatile unsigned long work = 0;
    for (;;) {
        if ((long)number > SLEEPERS) work++;
        else usleep(500);
    }
    return NULL;
}

static void nap(long microseconds) {
    struct timespec time = {0, microseconds * 1000};
    nanosleep(&time, NULL);
}

static void send_until_the_end(pid_t target) {
    int number = 0;
    for (int round = 0; access("end", F_OK) != 0; round++) {
        for (int i = 0; i < 16; i++) {
            int index = number % QUEUED;
            siginfo_t info = {.si_signo = first() + index, .si_code = SI_QUEUE};
            info.si_pid = getpid();
            info.si_value.sival_int = ++number;
            int tid = shared->tids[(number / QUEUED) % THREADS];
            long result = number % 3 ? syscall(SYS_rt_sigqueueinfo, target, info.si_signo, &info)
                                     : syscall(SYS_rt_tgsigqueueinfo, target, tid, info.si_signo, &info);
            if (result == 0) {
                shared->sent[index]++;
                shared->sent_sum[index] += (unsigned long)number;
            }
        }
        // Of a standard signal one at most is pending: the next when this one has arrived.
        if (__atomic_load_n(&shared->standard_got, __ATOMIC_SEQ_CST) == shared->standard_sent) {
            shared->standard_sent++;
            kill(target, SIGUSR2);
        }
        if (round % 64 == 63) {
            kill(target, SIGSTOP);
            nap(300);
            kill(target, SIGCONT);
        }
        nap(100);
    }
    shared->done = 1;
}

static const char *missing(void) {
    static char text[200];
    for (int i = 0; i < QUEUED; i++) {
        if (shared->got[i] != shared->sent[i] || shared->got_sum[i] != shared->sent_sum[i]) {
            snprintf(text, sizeof text, "signal %d: %lu sent, %lu got, sums %lu and %lu", first() + i, shared->sent[i],
                     shared->got[i], shared->sent_sum[i], shared->got_sum[i]);
            return text;
        }
    }
    if (shared->standard_got != shared->standard_sent) {
        snprintf(text, sizeof text, "SIGUSR2: %lu sent, %lu got", shared->standard_sent, shared->standard_got);
        return text;
    }
    return NULL;
}

int main(void) {
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    struct sigaction queued = {.sa_sigaction = on_queued, .sa_flags = SA_SIGINFO | SA_RESTART};
    for (int i = 0; i < QUEUED; i++) sigaction(first() + i, &queued, NULL);
    signal(SIGUSR2, on_standard);
    int tick = first() + QUEUED;
    struct sigaction ticking = {.sa_sigaction = on_timer, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigaction(tick, &ticking, NULL);
    alarm(900);

    pid_t target = getpid();
    pid_t sender = fork();
    if (sender == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while (!shared->tids[0]) nap(1000);
        send_until_the_end(target);
        _exit(0);
    }
    for (long i = 1; i < THREADS; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, body, (void *)i);
        while (!shared->tids[i]) nap(100);
    }
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = tick};
    struct itimerspec every = {{0, 1000000}, {0, 1000000}};
    struct timespec began, ended;
    timer_t timer;
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    clock_gettime(CLOCK_MONOTONIC, &began);
    timer_settime(timer, 0, &every, NULL);
    shared->tids[0] = (int)target;
    FILE *begun = fopen("begun", "w");
    if (!begun || fputs("begun\n", begun) < 0 || fclose(begun)) return 1;
    puts("ready");
    fflush(stdout);

    while (!shared->done) usleep(1000);
    const char *lost = missing();
    // What is on its way arrives within moments.
    for (int i = 0; i < 3000 && lost; i++, lost = missing()) usleep(1000);
    // A tick that is on its way stands for all since the last; then there are none.
    struct itimerspec never = {{0, 0}, {0, 0}};
    unsigned long ticks = shared->ticks;
    clock_gettime(CLOCK_MONOTONIC, &ended);
    for (int i = 0; i < 3000 && ticks == shared->ticks; i++) usleep(1000);
    ticks = shared->ticks;
    timer_settime(timer, 0, &never, NULL);
    unsigned long elapsed = (unsigned long)((ended.tv_sec - began.tv_sec) * 1000 + (ended.tv_nsec - began.tv_nsec) / 1000000);
    static char text[200];
    if (!lost && ticks + 1 < elapsed) {
        snprintf(text, sizeof text, "timer: %lu ticks in %lu ms", ticks, elapsed);
        lost = text;
    }
    FILE *told = fopen("told.part", "w");
    if (!told) return 1;
    unsigned long all = shared->standard_got + ticks;
    for (int i = 0; i < QUEUED; i++) all += shared->got[i];
    fprintf(told, "%s\n%lu signals\n", lost ? lost : "whole", all);
    fclose(told);
    rename("told.part", "told");
    return lost ? 1 : 0;
}
