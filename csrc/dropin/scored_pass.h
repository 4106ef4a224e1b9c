// A forward pass that is scored and hooked at once.

#pragma once

#include <Python.h>

#include <cstdint>

namespace bdp_ext::dropin {

// A ScoredPass with the EL2N of logits [B, C], which a backward pass appends to the list `reached`.
// `levels` is a dict with a sequence of Drawn for each level, the newest first, and target is that
// of one of these.
// Null without an error, and nothing is done: it is not, or not all of it is on the CPU and of the
// usual types and labels.
PyObject* Score(PyObject* reached, int64_t order, PyObject* levels, PyObject* logits,
                PyObject* target);

}  // namespace bdp_ext::dropin
