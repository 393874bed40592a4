// What a name in C++ can be: overloads, templates, operators, constructors and destructors, lambdas, anonymous namespaces, methods
// through a base that is not the first, each called by the one before.
#include "case.h"
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace {
struct Last {
    int n;
    NOINLINE ~Last() {
        settle();
        sink += n;
    }
};
} // namespace

namespace shop {
template <typename Key, typename Value = std::string> struct Shelf {
    std::map<Key, Value> all;
    NOINLINE explicit Shelf(int n) {
        Last last{n};
        sink += n;
    }
};

struct Named {
    virtual int name(const std::string &) { return 0; }
};
struct Priced {
    virtual int price(double) const { return 0; }
};

struct Book : Named, Priced {
    NOINLINE int price(double factor) const override {
        Shelf<long> shelf((int)factor);
        return (int)shelf.all.size() + sink;
    }
    NOINLINE int operator()(const char *, std::vector<int> &&) {
        const Priced *priced = never ? nullptr : this;
        return priced->price(2.5) + sink;
    }
    NOINLINE bool operator<(const Book &) {
        return (*this)("one", {1, 2}) + sink > 1;
    }
};

NOINLINE int sell(Book &book, unsigned char) {
    return book < book ? 1 : sink;
}

template <typename... All> NOINLINE int sell(All &...all) {
    auto each = [&](auto &book) __attribute__((noinline)) { return sell(book, (unsigned char)1) + sink; };
    int total = 0;
    ((total += each(all)), ...);
    return total;
}

NOINLINE int sell(int (*function)(Book &), Book &book) {
    return function(book) + sink;
}
} // namespace shop

int main() {
    static shop::Book book;
    std::function<int()> run = [] { return shop::sell(&shop::sell<shop::Book>, book) + sink; };
    return run() + sink;
}
