#include "dropin/drawn.h"

#include <cstddef>

#include "dropin/dropin.h"
#include "dropin/python.h"

namespace bdp_ext::dropin {
namespace {

using TurnHolder = Holder<Turn, &Turn::level, &Turn::of>;
using DrawnHolder = Holder<Drawn, &Drawn::turn, &Drawn::index, &Drawn::target>;

PyTypeObject turn_type{}, drawn_type{};

PyObject* MakeTurn(PyObject* level, PyObject* of) {
  Turn* turn = PyObject_GC_New(Turn, &turn_type);
  if (turn == nullptr) return nullptr;
  turn->level = Py_NewRef(level);
  turn->of = Py_NewRef(of);
  turn->scored = 0;
  PyObject_GC_Track(turn);
  return reinterpret_cast<PyObject*>(turn);
}

// Drawn(level, of, index, target)
PyObject* MakeDrawn(PyTypeObject* type, PyObject* args, PyObject*) {
  PyObject *level, *of, *index, *target;
  if (!PyArg_UnpackTuple(args, "Drawn", 4, 4, &level, &of, &index, &target)) return nullptr;
  Owned made(type->tp_alloc(type, 0));
  if (made == nullptr) return nullptr;
  auto* drawn = reinterpret_cast<Drawn*>(made.get());
  drawn->turn = MakeTurn(level, of);
  drawn->index = Py_NewRef(index);
  drawn->target = Py_NewRef(target);
  return drawn->turn == nullptr ? nullptr : made.release();
}

// pack_index(index)
PyObject* PackIndex(PyObject*, PyObject* index) {
  const Owned items(PySequence_Fast(index, "pack_index: a sequence is wanted"));
  if (items == nullptr) return nullptr;
  const Py_ssize_t rows = PySequence_Fast_GET_SIZE(items.get());
  Owned packed(PyBytes_FromStringAndSize(nullptr, rows * Py_ssize_t{sizeof(int32_t)}));
  if (packed == nullptr) return nullptr;
  auto* number = reinterpret_cast<int32_t*>(PyBytes_AS_STRING(packed.get()));
  for (Py_ssize_t row = 0; row < rows; ++row) {
    const int64_t sample = PyLong_AsLongLong(PySequence_Fast_GET_ITEM(items.get(), row));
    if (sample == -1 && PyErr_Occurred()) return nullptr;
    if (sample < INT32_MIN || sample > INT32_MAX) {
      PyErr_Format(PyExc_OverflowError, "pack_index: %lld is no 32-bit integer",
                   static_cast<long long>(sample));
      return nullptr;
    }
    number[row] = static_cast<int32_t>(sample);
  }
  return packed.release();
}

PyMemberDef turn_members[] = {{"level", T_OBJECT_EX, offsetof(Turn, level), READONLY, nullptr},
                              {"of", T_OBJECT_EX, offsetof(Turn, of), READONLY, nullptr},
                              {"scored", T_LONGLONG, offsetof(Turn, scored), 0, nullptr},
                              {nullptr, 0, 0, 0, nullptr}};

PyMemberDef drawn_members[] = {{"turn", T_OBJECT_EX, offsetof(Drawn, turn), READONLY, nullptr},
                               {"index", T_OBJECT_EX, offsetof(Drawn, index), READONLY, nullptr},
                               {"target", T_OBJECT_EX, offsetof(Drawn, target), READONLY, nullptr},
                               {nullptr, 0, 0, 0, nullptr}};

PyMethodDef functions[] = {
    {"pack_index", PackIndex, METH_O,
     "pack_index(index): a sequence of integers as bytes, 32 bits each. TypeError, OverflowError:\n"
     "they are something else."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool IsDrawn(PyObject* object) { return PyObject_TypeCheck(object, &drawn_type); }

bool AddDrawn(PyObject* module) {
  TurnHolder::Describe(&turn_type, "bdp_ext._C.Turn", "Level and pass of a batch.");
  turn_type.tp_members = turn_members;
  turn_type.tp_flags |= Py_TPFLAGS_DISALLOW_INSTANTIATION;
  DrawnHolder::Describe(&drawn_type, "bdp_ext._C.Drawn", "Drawn(level, of, index, target)");
  drawn_type.tp_members = drawn_members;
  drawn_type.tp_flags |= Py_TPFLAGS_BASETYPE;
  drawn_type.tp_new = MakeDrawn;
  return PyType_Ready(&turn_type) == 0 && PyType_Ready(&drawn_type) == 0 &&
         PyModule_AddObjectRef(module, "Turn", reinterpret_cast<PyObject*>(&turn_type)) == 0 &&
         PyModule_AddObjectRef(module, "Drawn", reinterpret_cast<PyObject*>(&drawn_type)) == 0 &&
         PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace bdp_ext::dropin
