// Programs that have Python in them: `embedding [-u] SCRIPT`. With -DIN_A_THREAD Python runs in a thread that the program starts.
#include <Python.h>
#include <pthread.h>
#include <stdio.h>

static const char *script;

static void *run(void *unused) {
    (void)unused;
    Py_Initialize();
    FILE *file = fopen(script, "r");
    if (!file) return "no script";
    PyRun_SimpleString("import os, sys; sys.path.insert(0, os.environ['PYST_TARGET_DIR'])");
    return PyRun_SimpleFileEx(file, script, 1) ? "failed" : NULL;
}

int main(int argc, char **argv) {
    script = argv[argc - 1];
    void *outcome = NULL;
#ifdef IN_A_THREAD
    pthread_t thread;
    pthread_create(&thread, NULL, run, NULL);
    pthread_join(thread, &outcome);
#else
    outcome = run(NULL);
#endif
    return outcome != NULL;
}
