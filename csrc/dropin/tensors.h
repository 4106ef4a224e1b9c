// Python's tensors seen from C: by DLPack's exchange of C structures, which is the same in every
// version of torch that has it.

#pragma once

#include <Python.h>

#include <cstdint>
#include <optional>

#include "dropin/dlpack.h"
#include "ops.h"

namespace bdp_ext::dropin {

// Finds torch; false with a Python error set.
bool FindTorch();

// Whether it is a torch.Tensor, and of no subclass.
bool IsTensor(PyObject* object);

// A [n] tensor without gaps on the CPU; none: it is another thing.
std::optional<dlpack::Tensor> Vector(PyObject* object, uint8_t type, uint8_t bits);

// Logits [n, classes] on the CPU, each row without gaps; none: it is another thing.
std::optional<Logits> Matrix(PyObject* object);

}  // namespace bdp_ext::dropin
