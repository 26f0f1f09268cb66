// Release of Python's lock for the length of a scope, which outlasts the interpreter.
#pragma once

#include <Python.h>
#include <unistd.h>

namespace fastseg::bindings {

// A daemon thread that comes back from a kernel while the interpreter ends is ended by CPython
// before 3.14, by unwinding. That may not pass a destructor, and would abort the process: such a
// thread sleeps until the process is gone.
class ReleasedGil {
  public:
    ReleasedGil() : state_(PyEval_SaveThread()) {}
    ReleasedGil(const ReleasedGil&) = delete;
    ReleasedGil& operator=(const ReleasedGil&) = delete;
    ~ReleasedGil() {
        try {
            PyEval_RestoreThread(state_);
        } catch (...) {
            for (;;) pause();
        }
    }

  private:
    PyThreadState* state_;
};

}  // namespace fastseg::bindings
