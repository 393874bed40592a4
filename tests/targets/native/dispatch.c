// An interpreter whose instructions are functions that tail-call each other, and of which none keeps a register, as CPython can be
// built: the one that runs has the only frame, within that of the function which began, and this one has the machine in its own.
#include "case.h"

#define INSTRUCTION __attribute__((preserve_none, noinline)) static int
#define NEXT __attribute__((musttail)) return instructions[code[1]]

typedef struct machine {
    struct machine *caller;
    int values[8];
} machine;
typedef __attribute__((preserve_none)) int instruction(machine *machine, int *top, const unsigned char *code, int left);

static instruction *const instructions[];
static const unsigned char program[] = {0, 1, 2};

NOINLINE static int run(machine *caller, int left) {
    machine own = {.caller = caller};
    return instructions[program[0]](&own, own.values, program, left);
}

INSTRUCTION push(machine *machine, int *top, const unsigned char *code, int left) {
    *top = left;
    NEXT(machine, top + 1, code + 1, left);
}

INSTRUCTION call(machine *machine, int *top, const unsigned char *code, int left) {
    if (left > 0)
        top[-1] += run(machine, left - 1);
    else
        settle();
    NEXT(machine, top, code + 1, left);
}

INSTRUCTION end(machine *machine, int *top, const unsigned char *code, int left) {
    return top[-1] + *code + left + (machine->caller != NULL);
}

static instruction *const instructions[] = {push, call, end};

int main(int argc, char **argv) {
    return run(NULL, argc + 1) + 1;
}
