// The record of a batch that a loader yielded.

#pragma once

#include <Python.h>

#include <cstdint>

namespace bdp_ext::dropin {

// What is kept of a batch until its scores are written down.
struct Turn {
  PyObject ob_base;
  PyObject *level, *of;
  int64_t scored;
};

// A batch of one level, as the loop got it.
struct Drawn {
  PyObject ob_base;
  PyObject* turn;    // a Turn
  PyObject* index;   // its samples: bytes, of pack_index
  PyObject* target;  // the loader's own label tensor
};

// Whether it is a Drawn, or of a class derived from it.
bool IsDrawn(PyObject* object);

}  // namespace bdp_ext::dropin
