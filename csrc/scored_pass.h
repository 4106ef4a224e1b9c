// The usual forward pass of a search, noted and scored for bdp_ext.prune() in one call.

#pragma once

#include <Python.h>

namespace bdp_ext {

// Adds ScoredPass, score_pass() and hook_node() to the module; false with a Python error set.
bool AddScoredPass(PyObject* module);

}  // namespace bdp_ext
