#include "dropin/hook_node.h"

#include <utility>

#include "dropin/dropin.h"
#include "dropin/python.h"
#include "dropin/tensors.h"

namespace bdp_ext::dropin {
namespace {

// Calls a hook, once.
struct Slot {
  PyObject ob_base;
  PyObject* hook;
};

// A node takes hooks in the form of a tensor that carries them: ours, so that the user's stay as
// they are. Making one costs as much as hooking it on, so these are used again when no node has
// them.
struct Carrier {
  PyObject *tensor, *hooks;  // hooks is a dict with the slot
  Slot* slot;
  Py_ssize_t idle;  // references to hooks when no node has it

  bool free() const { return Py_REFCNT(hooks) == idle; }
};

constexpr int kCarriers = 32;
Carrier carriers[kCarriers];
int made = 0;
PyTypeObject slot_type{};
struct {
  PyObject *grad_fn, *output_nr, *backward_hooks, *register_hook_dict;
} names{};

// One that no node has, the same one if it can be: it is warm; null: there is none.
Carrier* FreeCarrier() {
  for (int i = 0; i < made; ++i) {
    if (carriers[i].free()) return &carriers[i];
  }
  return nullptr;
}

// As many as can be made; where they cannot, nothing is hooked here.
void MakeCarriers() {
  const Owned torch(PyImport_ImportModule("torch"));
  for (; torch != nullptr && made < kCarriers; ++made) {
    Carrier& carrier = carriers[made];
    carrier.tensor = PyObject_CallMethod(torch.get(), "empty", "i", 0);
    carrier.hooks = PyDict_New();
    carrier.slot = PyObject_New(Slot, &slot_type);
    if (!carrier.tensor || !carrier.hooks || !carrier.slot) break;
    carrier.slot->hook = nullptr;
    auto* slot = reinterpret_cast<PyObject*>(carrier.slot);
    if (PyDict_SetItem(carrier.hooks, Py_False, slot) != 0 ||
        PyObject_SetAttr(carrier.tensor, names.backward_hooks, carrier.hooks) != 0) {
      break;
    }
    carrier.idle = Py_REFCNT(carrier.hooks);
  }
  PyErr_Clear();
}

PyObject* CallSlot(Slot* slot, PyObject* args, PyObject*) {
  const Owned hook(std::exchange(slot->hook, nullptr));
  if (hook == nullptr) Py_RETURN_NONE;  // a second pass over a graph that was kept
  return PyObject_Call(hook.get(), args, nullptr);
}

// hook_node(tensor, hook)
PyObject* Hook(PyObject*, PyObject* const* given, Py_ssize_t count) {
  if (count != 2) {
    PyErr_SetString(PyExc_TypeError, "hook_node: a tensor and a hook are wanted");
    return nullptr;
  }
  const int hooked = HookNode(given[0], given[1]);
  return hooked < 0 ? nullptr : PyBool_FromLong(hooked);
}

PyMethodDef functions[] = {
    {"hook_node", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(Hook)), METH_FASTCALL,
     "hook_node(tensor, hook): tensor.register_hook without its handle, and for the first\n"
     "backward pass only; False where it cannot be done."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

int HookNode(PyObject* tensor, PyObject* hook) {
  if (!IsTensor(tensor)) return 0;
  const Owned output(PyObject_GetAttr(tensor, names.output_nr));
  if (output == nullptr) return -1;
  if (PyLong_AsLong(output.get()) != 0) return 0;
  const Owned node(PyObject_GetAttr(tensor, names.grad_fn));
  if (node == nullptr) return -1;
  if (node.get() == Py_None) return 0;
  Carrier* carrier = FreeCarrier();
  if (carrier == nullptr) return 0;
  const Owned before(std::exchange(carrier->slot->hook, Py_NewRef(hook)));
  const Owned done(
      PyObject_CallMethodOneArg(node.get(), names.register_hook_dict, carrier->tensor));
  if (done != nullptr) return 1;
  if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return -1;
  PyErr_Clear();
  return 0;
}

bool AddHookNode(PyObject* module) {
  Py_SET_REFCNT(&slot_type, 1);
  slot_type.tp_name = "bdp_ext._C.Slot";
  slot_type.tp_doc = "Calls a hook, once.";
  slot_type.tp_basicsize = sizeof(Slot);
  slot_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  slot_type.tp_call = reinterpret_cast<ternaryfunc>(CallSlot);
  names.grad_fn = PyUnicode_InternFromString("grad_fn");
  names.output_nr = PyUnicode_InternFromString("output_nr");
  names.backward_hooks = PyUnicode_InternFromString("_backward_hooks");
  names.register_hook_dict = PyUnicode_InternFromString("_register_hook_dict");
  if (!names.grad_fn || !names.output_nr || !names.backward_hooks || !names.register_hook_dict ||
      PyType_Ready(&slot_type) != 0 || !FindTorch()) {
    return false;
  }
  MakeCarriers();
  return PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace bdp_ext::dropin
