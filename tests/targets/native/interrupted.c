// Threads that each sleep in a call of their own, again and again, and note whether it ever returned EINTR: a byte each in the file
// `eintr`, in the order of the lines "thread TID NAME" that are printed first.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SECONDS = 600 };

static const struct timespec LONG = {SECONDS, 0};
static int epoll, semaphores, messages, pipes[2], limited[2], unlimited[2], full[2], child;

static int do_epoll_wait(void) { struct epoll_event event; return epoll_wait(epoll, &event, 1, -1); }
static int do_epoll_wait_timeout(void) { struct epoll_event event; return epoll_wait(epoll, &event, 1, SECONDS * 1000); }
static int do_epoll_pwait(void) { struct epoll_event event; sigset_t none; sigemptyset(&none); return epoll_pwait(epoll, &event, 1, -1, &none); }
static int do_semop(void) { struct sembuf take = {0, -1, 0}; return semop(semaphores, &take, 1); }
static int do_semtimedop(void) { struct sembuf take = {0, -1, 0}; return semtimedop(semaphores, &take, 1, &LONG); }
static int do_sigtimedwait(void) { sigset_t set; sigemptyset(&set); sigaddset(&set, SIGUSR2); return sigtimedwait(&set, NULL, &LONG); }
static int do_sigwaitinfo(void) { sigset_t set; sigemptyset(&set); sigaddset(&set, SIGUSR2); return sigwaitinfo(&set, NULL); }
static int do_recv_timeout(void) { char byte; return (int)recv(limited[0], &byte, 1, 0); }
static int do_send_timeout(void) { static char bytes[1 << 20]; return (int)send(full[1], bytes, sizeof bytes, 0); }
static int do_recv(void) { char byte; return (int)recv(unlimited[0], &byte, 1, 0); }
static int do_msgrcv(void) { struct { long type; char text[1]; } message; return (int)msgrcv(messages, &message, 1, 0, 0); }
static int do_nanosleep(void) { return nanosleep(&LONG, NULL); }
static int do_clock_nanosleep(void) { errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &LONG, NULL); return errno ? -1 : 0; }
static int do_futex(void) { static int word; return (int)syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0); }
static int do_futex_timeout(void) { static int word; return (int)syscall(SYS_futex, &word, FUTEX_WAIT, 0, &LONG, NULL, 0); }
static int do_poll(void) { struct pollfd file = {pipes[0], POLLIN, 0}; return poll(&file, 1, -1); }
static int do_poll_timeout(void) { struct pollfd file = {pipes[0], POLLIN, 0}; return poll(&file, 1, SECONDS * 1000); }
static int do_ppoll(void) { struct pollfd file = {pipes[0], POLLIN, 0}; return ppoll(&file, 1, &LONG, NULL); }
static int do_select(void) { fd_set set; FD_ZERO(&set); FD_SET(pipes[0], &set); struct timeval time = {SECONDS, 0}; return select(pipes[0] + 1, &set, NULL, NULL, &time); }
static int do_read(void) { char byte; return (int)read(pipes[0], &byte, 1); }
static int do_eventfd(void) { static int file; uint64_t count; if (!file) file = eventfd(0, EFD_CLOEXEC); return (int)read(file, &count, 8); }
static int do_inotify(void) { static int file; char event[4096]; if (!file) file = inotify_init1(IN_CLOEXEC); return (int)read(file, event, sizeof event); }
static int do_pause(void) { return pause(); }
static int do_waitpid(void) { return waitpid(child, NULL, 0); }
static int do_mutex(void) { static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; pthread_mutex_lock(&mutex); return pthread_mutex_lock(&mutex); }

static const struct { const char *name; int (*call)(void); } CALLS[] = {
#define CALL(name) {#name, do_##name}
    CALL(epoll_wait), CALL(epoll_wait_timeout), CALL(epoll_pwait), CALL(semop), CALL(semtimedop), CALL(sigtimedwait), CALL(sigwaitinfo),
    CALL(recv_timeout), CALL(send_timeout), CALL(recv), CALL(msgrcv), CALL(nanosleep), CALL(clock_nanosleep), CALL(futex), CALL(futex_timeout),
    CALL(poll), CALL(poll_timeout), CALL(ppoll), CALL(select), CALL(read), CALL(eventfd), CALL(inotify), CALL(pause), CALL(waitpid), CALL(mutex),
};
enum { COUNT = sizeof CALLS / sizeof *CALLS };

static volatile char *interrupted;
static int tids[COUNT];

static void *body(void *number) {
    intptr_t i = (intptr_t)number;
    __atomic_store_n(&tids[i], (int)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
    for (;;) {
        int result = CALLS[i].call();
        if (result == -1 && errno == EINTR) interrupted[i] = 1;
    }
    return NULL;
}

int main(void) {
    alarm(900);
    int file = open("eintr", O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, COUNT)) return 1;
    interrupted = mmap(NULL, COUNT, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    epoll = epoll_create1(0);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    messages = msgget(IPC_PRIVATE, 0600);
    struct timeval time = {SECONDS, 0};
    if (interrupted == MAP_FAILED || epoll < 0 || semaphores < 0 || messages < 0 || pipe(pipes) ||
        socketpair(AF_UNIX, SOCK_STREAM, 0, limited) || socketpair(AF_UNIX, SOCK_STREAM, 0, full) || socketpair(AF_UNIX, SOCK_STREAM, 0, unlimited) ||
        setsockopt(limited[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time) ||
        setsockopt(full[1], SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time))
        return 1;
    // Semaphores and messages outlive a process that is killed, and its children may be killed too: a process that is none of them
    // takes them away.
    int end[2];
    if (pipe(end)) return 1;
    pid_t parent = fork();
    if (parent == 0) {
        if (fork() == 0) {
            char byte;
            setsid();
            close(end[1]);
            close(STDOUT_FILENO);
            while (read(end[0], &byte, 1) < 0) {}
            semctl(semaphores, 0, IPC_RMID);
            msgctl(messages, IPC_RMID, NULL);
        }
        _exit(0);
    }
    waitpid(parent, NULL, 0);
    close(end[0]);
    child = fork();
    if (child == 0) {
        close(end[1]);
        for (;;) pause();
    }
    sigset_t waited;
    sigemptyset(&waited);
    sigaddset(&waited, SIGUSR2);
    sigprocmask(SIG_BLOCK, &waited, NULL);
    for (intptr_t i = 0; i < COUNT; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, body, (void *)i)) return 1;
        while (!__atomic_load_n(&tids[i], __ATOMIC_SEQ_CST)) usleep(100);
        printf("thread %d %s\n", tids[i], CALLS[i].name);
    }
    usleep(200000);
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}
