// One call for what the drop-in does with the usual forward pass: in the middle of a search code
// and memory are cold, so that fewer calls and less kept until the pass is scored is what counts
// (bench/bench_dropin.py). Tensors are seen by DLPack's exchange of C structures, which is the same
// in every version of torch that has it.

#include "scored_pass.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "dlpack.h"
#include "ops.h"

namespace bdp_ext {
namespace {

// A forward pass of which a backward pass is to say that it reached it: it is the tensor hook.
struct ScoredPass {
  PyVarObject ob_base;  // of 2 * rows items
  PyObject* reached;    // list to which it then appends itself
  PyObject* turn;       // of its batch
  int64_t order;
  PyObject* logits;     // weak reference to them, or to what they are a view of
  const void* address;  // of the logits, as long as that is there
  float items[1];       // score[rows], then position[rows] as int32_t

  int64_t rows() const { return ob_base.ob_size / 2; }
  int32_t* position() { return reinterpret_cast<int32_t*>(items + rows()); }
};

// A level as its data set numbers it: of each sample its class and its place in the level.
struct Samples {
  PyVarObject ob_base;
  struct {
    int32_t label, position;  // position < 0: it is no sample of the level
  } items[1];
};

struct Drop {
  void operator()(PyObject* object) const { Py_XDECREF(object); }
};
using Owned = std::unique_ptr<PyObject, Drop>;

const dlpack::ExchangeApi* exchange = nullptr;
PyTypeObject* tensor_type = nullptr;
struct Names {
  PyObject *target, *index, *turn, *level, *samples;                           // of batches
  PyObject *base, *grad_fn, *output_nr, *backward_hooks, *register_hook_dict;  // of tensors
} names{};

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
PyTypeObject pass_type{}, samples_type{}, slot_type{};

// A plain tensor on the CPU; none: it is another thing.
std::optional<dlpack::Tensor> View(PyObject* object) {
  dlpack::Tensor view;
  if (exchange == nullptr || Py_TYPE(object) != tensor_type) return std::nullopt;
  if (exchange->view(object, &view) != 0) {
    PyErr_Clear();
    return std::nullopt;
  }
  view.data = static_cast<char*>(view.data) + view.byte_offset;
  if (view.device != dlpack::kCpu || view.lanes != 1) return std::nullopt;
  return view;
}

std::optional<dlpack::Tensor> Vector(PyObject* object, uint8_t type, uint8_t bits) {
  const std::optional<dlpack::Tensor> view = View(object);
  if (!view || view->ndim != 1 || view->type != type || view->bits != bits) return std::nullopt;
  if (view->shape[0] > 1 && view->strides[0] != 1) return std::nullopt;
  return view;
}

std::optional<Logits> Matrix(PyObject* object) {
  const std::optional<dlpack::Tensor> view = View(object);
  if (!view || view->ndim != 2) return std::nullopt;
  if (view->shape[1] > 1 && view->strides[1] != 1) return std::nullopt;
  LogitType type;
  if (view->type == dlpack::kFloat && view->bits == 32) {
    type = LogitType::kFloat32;
  } else if (view->type == dlpack::kFloat && view->bits == 16) {
    type = LogitType::kFloat16;
  } else if (view->type == dlpack::kBfloat && view->bits == 16) {
    type = LogitType::kBFloat16;
  } else {
    return std::nullopt;
  }
  return Logits{view->data, type, view->shape[0], view->shape[1], view->strides[0]};
}

// The newest batch of a level whose label tensor this is: a new reference; null: there is none, or
// an error.
PyObject* FindBatch(PyObject* recent, PyObject* target) {
  PyObject *level, *batches;
  Py_ssize_t place = 0;
  while (PyDict_Next(recent, &place, &level, &batches)) {
    if (PyObject_Size(batches) <= 0) continue;
    PyObject* newest = PySequence_GetItem(batches, 0);
    if (newest == nullptr) return nullptr;
    PyObject* its = PyObject_GetAttr(newest, names.target);
    Py_XDECREF(its);  // the batch has it
    if (its == target) return newest;
    Py_DECREF(newest);
    if (its == nullptr) return nullptr;
  }
  return nullptr;
}

// samples(labels, position)
PyObject* MakeSamples(PyObject*, PyObject* const* given, Py_ssize_t count) {
  if (count != 2) {
    PyErr_SetString(PyExc_TypeError, "samples: two tensors are wanted");
    return nullptr;
  }
  const auto labels = Vector(given[0], dlpack::kInt, 64);
  const auto positions = Vector(given[1], dlpack::kInt, 64);
  if (!labels || !positions || labels->shape[0] != positions->shape[0]) Py_RETURN_NONE;
  const auto* label = static_cast<const int64_t*>(labels->data);
  const auto* position = static_cast<const int64_t*>(positions->data);
  Samples* samples = PyObject_NewVar(Samples, &samples_type, labels->shape[0]);
  if (samples == nullptr) return nullptr;
  for (int64_t i = 0; i < labels->shape[0]; ++i) {
    const bool usual = label[i] >= 0 && label[i] <= INT32_MAX && position[i] <= INT32_MAX;
    samples->items[i].label = static_cast<int32_t>(usual ? label[i] : 0);
    samples->items[i].position = static_cast<int32_t>(usual ? position[i] : -1);
  }
  return reinterpret_cast<PyObject*>(samples);
}

// Where the batch's samples stand in their level; false: an index is no sample of it, or its label
// is another one.
bool Locate(PyObject* index, const Samples* samples, const int64_t* target, int64_t classes,
            int32_t* position) {
  for (int64_t row = 0; row < PyList_GET_SIZE(index); ++row) {
    PyObject* number = PyList_GET_ITEM(index, row);
    if (!PyLong_CheckExact(number)) return false;
    int overflow;
    const int64_t sample = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (overflow != 0 || sample < 0 || sample >= samples->ob_base.ob_size) return false;
    const auto& [label, place] = samples->items[sample];
    if (place < 0 || label != target[row] || label >= classes) return false;
    position[row] = place;
  }
  return true;
}

// What keeps the memory of a tensor: itself, or the tensor that it is a view of.
PyObject* Keeper(PyObject* tensor) {
  PyObject* base = PyObject_GetAttr(tensor, names.base);
  if (base != Py_None) return base;
  Py_DECREF(base);
  return Py_NewRef(tensor);
}

// One that no node has, the same one if it can be: it is warm; null: there is none.
Carrier* FreeCarrier() {
  for (int i = 0; i < made; ++i) {
    if (carriers[i].free()) return &carriers[i];
  }
  return nullptr;
}

// Has a hook called when a backward pass first reaches a tensor, as Tensor.register_hook would, but
// without its handle: 1, or 0 where it cannot be done, or -1 and an error.
int Hook(PyObject* tensor, PyObject* hook) {
  if (Py_TYPE(tensor) != tensor_type) return 0;
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

// score_pass(reached, order, recent, logits, target)
PyObject* ScorePass(PyObject*, PyObject* const* given, Py_ssize_t count) {
  if (count != 5 || !PyList_CheckExact(given[0]) || !PyLong_CheckExact(given[1]) ||
      !PyDict_Check(given[2])) {
    PyErr_SetString(PyExc_TypeError, "score_pass: list, int, dict and two tensors are wanted");
    return nullptr;
  }
  const int64_t order = PyLong_AsLongLong(given[1]);
  if (order == -1 && PyErr_Occurred()) return nullptr;
  const Owned batch(FindBatch(given[2], given[4]));
  if (batch == nullptr) {
    if (PyErr_Occurred()) return nullptr;
    Py_RETURN_NONE;
  }
  const Owned index(PyObject_GetAttr(batch.get(), names.index));
  Owned turn(PyObject_GetAttr(batch.get(), names.turn));
  if (index == nullptr || turn == nullptr) return nullptr;
  const Owned level(PyObject_GetAttr(turn.get(), names.level));
  if (level == nullptr) return nullptr;
  const Owned samples(PyObject_GetAttr(level.get(), names.samples));
  if (samples == nullptr) return nullptr;
  const std::optional<Logits> logits = Matrix(given[3]);
  const auto target = Vector(given[4], dlpack::kInt, 64);
  if (!logits || !target || Py_TYPE(samples.get()) != &samples_type ||
      !PyList_CheckExact(index.get())) {
    Py_RETURN_NONE;
  }
  const int64_t rows = logits->rows;
  if (rows == 0 || PyList_GET_SIZE(index.get()) != rows || target->shape[0] != rows) {
    Py_RETURN_NONE;
  }

  ScoredPass* pass = PyObject_GC_NewVar(ScoredPass, &pass_type, 2 * rows);
  if (pass == nullptr) return nullptr;
  const Owned result(reinterpret_cast<PyObject*>(pass));
  pass->reached = Py_NewRef(given[0]);
  pass->turn = turn.release();
  pass->order = order;
  pass->address = logits->data;
  pass->logits = nullptr;
  PyObject_GC_Track(result.get());
  const auto* classes = static_cast<const int64_t*>(target->data);
  const auto* known = reinterpret_cast<const Samples*>(samples.get());
  if (!Locate(index.get(), known, classes, logits->classes, pass->position())) Py_RETURN_NONE;
  const Owned keeper(Keeper(given[3]));
  if (keeper == nullptr) return nullptr;
  pass->logits = PyWeakref_NewRef(keeper.get(), nullptr);
  if (pass->logits == nullptr) return nullptr;
  const int hooked = Hook(given[3], result.get());
  if (hooked < 0) return nullptr;
  if (hooked == 0) Py_RETURN_NONE;
  El2n(*logits, classes, pass->items);
  return Py_NewRef(result.get());
}

PyObject* Call(ScoredPass* pass, PyObject*, PyObject*) {
  if (PyList_Append(pass->reached, reinterpret_cast<PyObject*>(pass)) != 0) return nullptr;
  Py_RETURN_NONE;
}

PyObject* CallSlot(Slot* slot, PyObject* args, PyObject*) {
  const Owned hook(std::exchange(slot->hook, nullptr));
  if (hook == nullptr) Py_RETURN_NONE;  // a second pass over a graph that was kept
  return PyObject_Call(hook.get(), args, nullptr);
}

PyObject* Put(ScoredPass* pass, PyObject* row) {
  const auto view = Vector(row, dlpack::kFloat, 32);
  if (!view) {
    PyErr_SetString(PyExc_TypeError, "ScoredPass.put: row must be [N] float32 on the CPU");
    return nullptr;
  }
  auto* out = static_cast<float*>(view->data);
  const int32_t* position = pass->position();
  for (int64_t i = 0; i < pass->rows(); ++i) {
    if (position[i] >= view->shape[0]) {
      PyErr_SetString(PyExc_IndexError, "ScoredPass.put: row has too few samples");
      return nullptr;
    }
  }
  for (int64_t i = pass->rows(); i-- > 0;) {  // where a sample stands twice, its last row counts
    if (std::isnan(out[position[i]])) out[position[i]] = pass->items[i];
  }
  Py_RETURN_NONE;
}

PyObject* HookNode(PyObject*, PyObject* const* given, Py_ssize_t count) {
  if (count != 2) {
    PyErr_SetString(PyExc_TypeError, "hook_node: a tensor and a hook are wanted");
    return nullptr;
  }
  const int hooked = Hook(given[0], given[1]);
  return hooked < 0 ? nullptr : PyBool_FromLong(hooked);
}

int Traverse(ScoredPass* pass, visitproc visit, void* arg) {
  Py_VISIT(pass->reached);
  Py_VISIT(pass->turn);
  Py_VISIT(pass->logits);
  return 0;
}

int Clear(ScoredPass* pass) {
  Py_CLEAR(pass->reached);
  Py_CLEAR(pass->turn);
  Py_CLEAR(pass->logits);
  return 0;
}

void Delete(ScoredPass* pass) {
  PyObject_GC_UnTrack(pass);
  Clear(pass);
  PyObject_GC_Del(pass);
}

PyObject* Turn(ScoredPass* pass, void*) { return Py_NewRef(pass->turn); }

PyObject* Order(ScoredPass* pass, void*) { return PyLong_FromLongLong(pass->order); }

PyObject* Address(ScoredPass* pass, void*) {
  const Owned there(PyObject_CallNoArgs(pass->logits));
  if (there == nullptr) return nullptr;
  const bool gone = there.get() == Py_None;
  return PyLong_FromVoidPtr(gone ? nullptr : const_cast<void*>(pass->address));
}

PyMethodDef pass_methods[] = {
    {"put", reinterpret_cast<PyCFunction>(Put), METH_O,
     "put(row): write the scores of those samples of row [N] float32 that have none (NaN)."},
    {nullptr, nullptr, 0, nullptr}};

PyGetSetDef pass_attributes[] = {
    {"turn", reinterpret_cast<getter>(Turn), nullptr, "That of its batch.", nullptr},
    {"address", reinterpret_cast<getter>(Address), nullptr,
     "Where its logits lie; 0: they are gone.", nullptr},
    {"order", reinterpret_cast<getter>(Order), nullptr, "Its number.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyMethodDef functions[] = {
    {"samples", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(MakeSamples)), METH_FASTCALL,
     "samples(labels, position): what score_pass reads of a level, from [N] int64 each; None\n"
     "where they are something else."},
    {"score_pass", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(ScorePass)), METH_FASTCALL,
     "score_pass(reached, order, recent, logits, target): a ScoredPass with the EL2N of logits\n"
     "[B, C], which a backward pass appends to the list `reached`. `recent` has a sequence of\n"
     "batches for each level, the newest first, and target is the `target` of one of these; its\n"
     "`index` is a list of samples of its `turn.level.samples`.\n"
     "None, and nothing is done, where it is not, or where not all of it is on the CPU and of the\n"
     "usual types and labels."},
    {"hook_node", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(HookNode)), METH_FASTCALL,
     "hook_node(tensor, hook): tensor.register_hook without its handle, and for the first\n"
     "backward pass only; False where it cannot be done."},
    {nullptr, nullptr, 0, nullptr}};

// What is torch's own and private, or newer than torch 2.10, may be missing.
bool FindTorch() {
  PyObject* torch = PyImport_ImportModule("torch");
  if (torch == nullptr) return false;
  tensor_type = reinterpret_cast<PyTypeObject*>(PyObject_GetAttrString(torch, "Tensor"));
  Py_DECREF(torch);
  if (tensor_type == nullptr) return false;
  PyObject* capsule =
      PyObject_GetAttrString(reinterpret_cast<PyObject*>(tensor_type), "__dlpack_c_exchange_api__");
  if (capsule != nullptr) {
    auto* found = static_cast<const dlpack::ExchangeApi*>(
        PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
    if (found != nullptr && found->major == 1 && found->view != nullptr) exchange = found;
    Py_DECREF(capsule);
  }
  PyErr_Clear();
  return true;
}

bool InternNames() {
  const std::pair<PyObject**, const char*> all[] = {
      {&names.target, "target"},
      {&names.index, "index"},
      {&names.turn, "turn"},
      {&names.level, "level"},
      {&names.samples, "samples"},
      {&names.base, "_base"},
      {&names.grad_fn, "grad_fn"},
      {&names.output_nr, "output_nr"},
      {&names.backward_hooks, "_backward_hooks"},
      {&names.register_hook_dict, "_register_hook_dict"}};
  for (const auto& [name, text] : all) {
    *name = PyUnicode_InternFromString(text);
    if (*name == nullptr) return false;
  }
  return true;
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

}  // namespace

bool AddScoredPass(PyObject* module) {
  Py_SET_REFCNT(&pass_type, 1);
  pass_type.tp_name = "bdp_ext._C.ScoredPass";
  pass_type.tp_doc = "A forward pass and its scores, noted when a backward pass reaches it.";
  pass_type.tp_basicsize = offsetof(ScoredPass, items);
  pass_type.tp_itemsize = sizeof(float);
  pass_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC;
  pass_type.tp_dealloc = reinterpret_cast<destructor>(Delete);
  pass_type.tp_traverse = reinterpret_cast<traverseproc>(Traverse);
  pass_type.tp_clear = reinterpret_cast<inquiry>(Clear);
  pass_type.tp_call = reinterpret_cast<ternaryfunc>(Call);
  pass_type.tp_methods = pass_methods;
  pass_type.tp_getset = pass_attributes;
  Py_SET_REFCNT(&samples_type, 1);
  samples_type.tp_name = "bdp_ext._C.Samples";
  samples_type.tp_doc = "The class and the place of each sample of a level.";
  samples_type.tp_basicsize = offsetof(Samples, items);
  samples_type.tp_itemsize = sizeof(Samples::items[0]);
  samples_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  Py_SET_REFCNT(&slot_type, 1);
  slot_type.tp_name = "bdp_ext._C.Slot";
  slot_type.tp_doc = "Calls a hook, once.";
  slot_type.tp_basicsize = sizeof(Slot);
  slot_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  slot_type.tp_call = reinterpret_cast<ternaryfunc>(CallSlot);
  if (PyType_Ready(&slot_type) != 0 || PyType_Ready(&samples_type) != 0 ||
      PyType_Ready(&pass_type) != 0 || !FindTorch() || !InternNames()) {
    return false;
  }
  MakeCarriers();
  return PyModule_AddObjectRef(module, "ScoredPass", reinterpret_cast<PyObject*>(&pass_type)) ==
             0 &&
         PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace bdp_ext
