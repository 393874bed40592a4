// Within the lazy binding of a function: its resolver, which the loader calls, sleeps.
#include "case.h"

int chosen(int);

int main(int argc, char **argv) {
    return chosen(argc) + sink;
}
