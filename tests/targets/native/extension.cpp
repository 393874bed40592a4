// An extension module in C++ with what a name in C++ can be: overloaded functions in nested namespaces, a template, a method, and
// one that is inlined where there is debug information to tell it. Each calls Python, which calls the next.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <time.h>

#define NOINLINE __attribute__((noinline))

namespace outer {
namespace inner {

NOINLINE PyObject *call(PyObject *function, int depth) {
    PyObject *result = PyObject_CallFunction(function, (char *)"i", depth);
    asm volatile("" ::: "memory");
    return result;
}

NOINLINE PyObject *call(PyObject *function, double depth) {
    PyObject *result = PyObject_CallFunction(function, (char *)"d", depth);
    asm volatile("" ::: "memory");
    return result;
}

}  // namespace inner

inline __attribute__((always_inline)) void pause_for(long seconds) {
    struct timespec time = {seconds, 0};
    Py_BEGIN_ALLOW_THREADS
    nanosleep(&time, nullptr);
    Py_END_ALLOW_THREADS
}

class Caller {
public:
    explicit Caller(PyObject *function) : function(function) {}

    NOINLINE PyObject *operator()(const char *text) const {
        PyObject *result = PyObject_CallFunction(function, (char *)"s", text);
        asm volatile("" ::: "memory");
        return result;
    }

private:
    PyObject *function;
};

template <typename Duration>
NOINLINE long sleep_long(Duration seconds) {
    pause_for(seconds);
    asm volatile("" ::: "memory");
    return seconds;
}

}  // namespace outer

static PyObject *by_int(PyObject *, PyObject *function) { return outer::inner::call(function, 1); }
static PyObject *by_double(PyObject *, PyObject *function) { return outer::inner::call(function, 1.0); }
static PyObject *by_method(PyObject *, PyObject *function) { return outer::Caller(function)("one"); }
static PyObject *sleeping(PyObject *, PyObject *) { return PyLong_FromLong(outer::sleep_long<long>(1000000)); }

static PyMethodDef methods[] = {
    {"by_int", by_int, METH_O, nullptr},
    {"by_double", by_double, METH_O, nullptr},
    {"by_method", by_method, METH_O, nullptr},
    {"sleeping", sleeping, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

#if PY_MAJOR_VERSION >= 3
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "extension", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};
PyMODINIT_FUNC PyInit_extension() { return PyModule_Create(&definition); }
#else
PyMODINIT_FUNC initextension() { Py_InitModule("extension", methods); }
#endif
