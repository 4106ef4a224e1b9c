// What the drop-in (bdp_ext.prune) does for each batch and each forward pass of a search, where all
// is as usual; bdp_ext/dropin/_native.py says the same in Python. In the middle of a search code
// and memory are cold, so that fewer calls and less kept until a pass is scored is what counts
// (bench/bench_dropin.py).

#pragma once

#include <Python.h>

namespace bdp_ext::dropin {

// Each adds its file's types and functions to the module; false with a Python error set.
bool AddHookNode(PyObject* module);
bool AddDrawn(PyObject* module);
bool AddScoredPass(PyObject* module);
bool AddWatch(PyObject* module);

inline bool AddAll(PyObject* module) {
  return AddHookNode(module) && AddDrawn(module) && AddScoredPass(module) && AddWatch(module);
}

}  // namespace bdp_ext::dropin
