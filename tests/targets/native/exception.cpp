// A C++ exception: `catch` sleeps in the handler that caught it, `unwinding` in a destructor that runs on the way there, `terminate`
// where nobody catches.
#include "case.h"
#include <exception>
#include <stdexcept>
#include <vector>

namespace shapes {
struct Guard {
    bool sleeps;
    ~Guard() {
        if (sleeps)
            settle();
    }
};

NOINLINE int thrower(int n, const std::vector<int> &all) {
    Guard guard{false};
    if (n > 0)
        throw std::out_of_range("far out");
    return all.at(0);
}

template <typename T> NOINLINE T passes(T n, bool sleeps) {
    Guard guard{sleeps};
    return thrower(n, {1, 2, 3}) + 1;
}

NOINLINE int catches(int n, bool sleeps) {
    try {
        return passes<int>(n, sleeps);
    } catch (const std::exception &error) {
        settle();
        return sink;
    }
}
} // namespace shapes

int main(int argc, char **argv) {
    std::set_terminate([] { settle(); abort(); });
    if (!strcmp(argv[1], "terminate"))
        return shapes::passes<int>(argc, false) + sink;
    return shapes::catches(argc, !strcmp(argv[1], "unwinding")) + sink;
}
