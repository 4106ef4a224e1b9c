// Autograd's nodes hooked without torch's handle of it.

#pragma once

#include <Python.h>

namespace bdp_ext::dropin {

// Has a hook called when a backward pass first reaches a tensor, as Tensor.register_hook would: 1,
// or 0 where it cannot be done, or -1 and an error.
int HookNode(PyObject* tensor, PyObject* hook);

}  // namespace bdp_ext::dropin
