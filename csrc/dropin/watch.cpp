// The forward hook of a criterion, where it is called as usual.

#include <cstddef>
#include <utility>

#include "dropin/dropin.h"
#include "dropin/python.h"
#include "dropin/scored_pass.h"

namespace bdp_ext::dropin {
namespace {

// What is known of the forward passes.
struct Watch {
  PyObject ob_base;
  PyObject* reached;  // list of those that count
  PyObject* levels;   // dict: the batches drawn lately, of each level
  PyObject *newest, *target;
  int64_t calls;
  char strange;
};

struct CriterionHook {
  PyObject ob_base;
  PyObject* watch;  // called, it gives a Watch or something else
};

using WatchHolder = Holder<Watch, &Watch::reached, &Watch::levels, &Watch::newest, &Watch::target>;
using HookHolder = Holder<CriterionHook, &CriterionHook::watch>;

PyTypeObject watch_type{}, hook_type{};
PyObject* note = nullptr;  // a name

// Notes a call with logits and the labels of a batch just drawn: 1, or 0 and nothing is done where
// it is another one, or -1 and an error.
int Note(CriterionHook* hook, PyObject* args, PyObject* kwargs) {
  if (!PyTuple_CheckExact(args) || PyTuple_GET_SIZE(args) != 2) return 0;
  if (!PyDict_CheckExact(kwargs) || PyDict_GET_SIZE(kwargs) != 0 || !hook->watch) return 0;
  const Owned there(PyObject_CallNoArgs(hook->watch));
  if (there == nullptr) return -1;
  if (!PyObject_TypeCheck(there.get(), &watch_type)) return 0;
  auto* watch = reinterpret_cast<Watch*>(there.get());
  if (watch->strange || watch->reached == nullptr || !PyList_CheckExact(watch->reached) ||
      watch->levels == nullptr || !PyDict_Check(watch->levels)) {
    return 0;
  }
  PyObject* target = PyTuple_GET_ITEM(args, 1);
  Owned pass(
      Score(watch->reached, watch->calls + 1, watch->levels, PyTuple_GET_ITEM(args, 0), target));
  if (pass == nullptr) return PyErr_Occurred() ? -1 : 0;
  ++watch->calls;
  const Owned before(std::exchange(watch->newest, pass.release()));
  const Owned its_target(std::exchange(watch->target, Py_NewRef(target)));
  return 1;
}

// hook(module, args, kwargs, output)
PyObject* Call(CriterionHook* hook, PyObject* given, PyObject*) {
  if (PyTuple_GET_SIZE(given) == 4) {
    const int noted = Note(hook, PyTuple_GET_ITEM(given, 1), PyTuple_GET_ITEM(given, 2));
    if (noted < 0) return nullptr;
    if (noted == 1) Py_RETURN_NONE;
  }
  const Owned slow(PyObject_GetAttr(reinterpret_cast<PyObject*>(hook), note));
  return slow == nullptr ? nullptr : PyObject_Call(slow.get(), given, nullptr);
}

PyMemberDef watch_members[] = {{"reached", T_OBJECT, offsetof(Watch, reached), 0, nullptr},
                               {"levels", T_OBJECT, offsetof(Watch, levels), 0, nullptr},
                               {"newest", T_OBJECT, offsetof(Watch, newest), 0, nullptr},
                               {"target", T_OBJECT, offsetof(Watch, target), 0, nullptr},
                               {"calls", T_LONGLONG, offsetof(Watch, calls), 0, nullptr},
                               {"strange", T_BOOL, offsetof(Watch, strange), 0, nullptr},
                               {nullptr, 0, 0, 0, nullptr}};

PyMemberDef hook_members[] = {{"watch", T_OBJECT, offsetof(CriterionHook, watch), 0, nullptr},
                              {nullptr, 0, 0, 0, nullptr}};

}  // namespace

bool AddWatch(PyObject* module) {
  WatchHolder::Describe(&watch_type, "bdp_ext._C.Watch", "What is known of the forward passes.");
  watch_type.tp_members = watch_members;
  watch_type.tp_flags |= Py_TPFLAGS_BASETYPE;
  watch_type.tp_new = PyType_GenericNew;
  HookHolder::Describe(&hook_type, "bdp_ext._C.CriterionHook",
                       "A forward hook: it notes the usual call of a criterion with its watch(),\n"
                       "and calls self.note(module, args, kwargs, output) for any other one.");
  hook_type.tp_members = hook_members;
  hook_type.tp_flags |= Py_TPFLAGS_BASETYPE;
  hook_type.tp_new = PyType_GenericNew;
  hook_type.tp_call = reinterpret_cast<ternaryfunc>(Call);
  note = PyUnicode_InternFromString("note");
  return note != nullptr && PyType_Ready(&watch_type) == 0 && PyType_Ready(&hook_type) == 0 &&
         PyModule_AddObjectRef(module, "Watch", reinterpret_cast<PyObject*>(&watch_type)) == 0 &&
         PyModule_AddObjectRef(module, "CriterionHook", reinterpret_cast<PyObject*>(&hook_type)) ==
             0;
}

}  // namespace bdp_ext::dropin
