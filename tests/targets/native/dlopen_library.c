// Calls back.
int call_back(void (*function)(void)) {
    volatile int kept = 1;
    function();
    return kept;
}
