// What it takes to hold Python's objects, and to make types of objects that hold some.

#pragma once

#include <Python.h>
#include <structmember.h>

#include <initializer_list>
#include <memory>

namespace bdp_ext::dropin {

struct Drop {
  void operator()(PyObject* object) const { Py_XDECREF(object); }
};
using Owned = std::unique_ptr<PyObject, Drop>;

// A type whose objects hold others in the members kHeld.
template <class Object, PyObject* Object::*... kHeld>
struct Holder {
  static int Traverse(Object* self, visitproc visit, void* arg) {
    for (PyObject* held : {self->*kHeld...}) Py_VISIT(held);
    return 0;
  }

  static int Clear(Object* self) {
    for (PyObject** held : {&(self->*kHeld)...}) Py_CLEAR(*held);
    return 0;
  }

  static void Delete(Object* self) {
    PyObject_GC_UnTrack(self);
    Clear(self);
    Py_TYPE(self)->tp_free(self);
  }

  static void Describe(PyTypeObject* type, const char* name, const char* doc) {
    Py_SET_REFCNT(type, 1);
    type->tp_name = name;
    type->tp_doc = doc;
    type->tp_basicsize = sizeof(Object);
    type->tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC;
    type->tp_dealloc = reinterpret_cast<destructor>(Delete);
    type->tp_traverse = reinterpret_cast<traverseproc>(Traverse);
    type->tp_clear = reinterpret_cast<inquiry>(Clear);
    type->tp_free = PyObject_GC_Del;
  }
};

}  // namespace bdp_ext::dropin
