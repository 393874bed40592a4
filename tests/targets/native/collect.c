/* Functions that are called as those of Python's garbage collector, and are none. */
#include <unistd.h>

int collect(void)
{
    sleep(1000000);
    return 1;
}

int collect_rent(void)
{
    sleep(1000000);
    return 1;
}
