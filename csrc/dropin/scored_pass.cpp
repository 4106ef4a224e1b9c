#include "dropin/scored_pass.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <optional>
#include <vector>

#include "dropin/drawn.h"
#include "dropin/dropin.h"
#include "dropin/hook_node.h"
#include "dropin/python.h"
#include "dropin/tensors.h"

namespace bdp_ext::dropin {
namespace {

// A forward pass of which a backward pass is to say that it reached it: it is the tensor hook.
struct ScoredPass {
  PyVarObject ob_base;  // of 2 * rows items
  PyObject* reached;    // list to which it then appends itself
  PyObject* turn;       // of its batch
  PyObject* logits;     // weak reference to them, or to what they are a view of
  int64_t order;
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

Turn* TurnOf(ScoredPass* pass) { return reinterpret_cast<Turn*>(pass->turn); }

using PassHolder = Holder<ScoredPass, &ScoredPass::reached, &ScoredPass::turn, &ScoredPass::logits>;

PyTypeObject pass_type{}, samples_type{};
struct {
  PyObject *samples, *row, *base;
} names{};

// The newest batch of a level whose label tensor this is; null: there is none, or an error.
Owned FindBatch(PyObject* levels, PyObject* target) {
  PyObject *level, *batches;
  Py_ssize_t place = 0;
  while (PyDict_Next(levels, &place, &level, &batches)) {
    if (PyObject_Size(batches) <= 0) continue;
    Owned newest(PySequence_GetItem(batches, 0));
    if (newest == nullptr) return nullptr;
    if (!IsDrawn(newest.get())) continue;
    if (reinterpret_cast<Drawn*>(newest.get())->target == target) return newest;
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

// Where the batch's samples stand in their level; false: a number is no sample of it, or its label
// is another one.
bool Locate(const int32_t* number, int64_t rows, const Samples* samples, const int64_t* target,
            int64_t classes, int32_t* position) {
  for (int64_t row = 0; row < rows; ++row) {
    if (number[row] < 0 || number[row] >= samples->ob_base.ob_size) return false;
    const auto& [label, place] = samples->items[number[row]];
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

PyObject* Call(ScoredPass* pass, PyObject*, PyObject*) {
  if (PyList_Append(pass->reached, reinterpret_cast<PyObject*>(pass)) != 0) return nullptr;
  Py_RETURN_NONE;
}

// Writes the scores of those samples of row [N] that have none.
void Put(ScoredPass* pass, float* row) {
  const int32_t* position = pass->position();
  for (int64_t i = pass->rows(); i-- > 0;) {  // where a sample stands twice, its last row counts
    if (std::isnan(row[position[i]])) row[position[i]] = pass->items[i];
  }
}

// The row of the pass's level, null for None; `rows` keeps those that have been asked for. False:
// it cannot hold the pass, or another error.
bool FindRow(PyObject* rows, ScoredPass* pass, float** row) {
  PyObject* level = TurnOf(pass)->level;
  PyObject* given = PyDict_GetItemWithError(rows, level);
  if (given == nullptr) {
    if (PyErr_Occurred()) return false;
    const Owned asked(PyObject_GetAttr(level, names.row));
    if (asked == nullptr || PyDict_SetItem(rows, level, asked.get()) != 0) return false;
    given = asked.get();  // rows has it
  }
  *row = nullptr;
  if (given == Py_None) return true;
  const auto view = Vector(given, dlpack::kFloat, 32);
  const int32_t* position = pass->position();
  const int32_t last = *std::max_element(position, position + pass->rows());
  if (!view || last >= view->shape[0]) {
    PyErr_SetString(PyExc_TypeError,
                    "settle: a level's row must be float32 on the CPU and have all its samples");
    return false;
  }
  *row = static_cast<float*>(view->data);
  return true;
}

// settle(reached, began)
PyObject* Settle(PyObject*, PyObject* const* given, Py_ssize_t count) {
  if (count != 2 || !PyList_CheckExact(given[0]) || !PyLong_CheckExact(given[1])) {
    PyErr_SetString(PyExc_TypeError, "settle: list and int are wanted");
    return nullptr;
  }
  const int64_t began = PyLong_AsLongLong(given[1]);
  if (began == -1 && PyErr_Occurred()) return nullptr;
  const Py_ssize_t size = PyList_GET_SIZE(given[0]);
  const Owned reached(PyList_GetSlice(given[0], 0, size));
  const Owned rows(PyDict_New());
  Owned trained(PyDict_New());
  if (reached == nullptr || rows == nullptr || trained == nullptr) return nullptr;
  std::vector<ScoredPass*> passes;
  passes.reserve(size);
  for (Py_ssize_t i = 0; i < size; ++i) {
    PyObject* pass = PyList_GET_ITEM(reached.get(), i);
    if (Py_TYPE(pass) != &pass_type) Py_RETURN_NONE;
    passes.push_back(reinterpret_cast<ScoredPass*>(pass));
  }
  if (PyList_SetSlice(given[0], 0, size, nullptr) != 0) return nullptr;
  std::sort(passes.begin(), passes.end(),
            [](ScoredPass* one, ScoredPass* other) { return one->order < other->order; });
  for (ScoredPass* pass : passes) {
    Turn* turn = TurnOf(pass);
    if (turn->scored > began || turn->scored >= pass->order) continue;
    float* row;
    if (!FindRow(rows.get(), pass, &row)) return nullptr;
    if (row != nullptr) Put(pass, row);
    PyObject* before = PyDict_GetItemWithError(trained.get(), turn->of);
    if (before == nullptr && PyErr_Occurred()) return nullptr;
    const int64_t batches = before == nullptr ? 0 : PyLong_AsLongLong(before);
    const Owned after(PyLong_FromLongLong(batches + (turn->scored == 0)));
    if (after == nullptr || PyDict_SetItem(trained.get(), turn->of, after.get()) != 0) {
      return nullptr;
    }
    turn->scored = pass->order;
  }
  return trained.release();
}

PyObject* GetTurn(ScoredPass* pass, void*) { return Py_NewRef(pass->turn); }

PyObject* GetOrder(ScoredPass* pass, void*) { return PyLong_FromLongLong(pass->order); }

PyObject* GetAddress(ScoredPass* pass, void*) {
  const Owned there(PyObject_CallNoArgs(pass->logits));
  if (there == nullptr) return nullptr;
  const bool gone = there.get() == Py_None;
  return PyLong_FromVoidPtr(gone ? nullptr : const_cast<void*>(pass->address));
}

PyGetSetDef pass_attributes[] = {
    {"turn", reinterpret_cast<getter>(GetTurn), nullptr, "That of its batch.", nullptr},
    {"address", reinterpret_cast<getter>(GetAddress), nullptr,
     "Where its logits lie; 0: they are gone.", nullptr},
    {"order", reinterpret_cast<getter>(GetOrder), nullptr, "Its number.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyMethodDef functions[] = {
    {"samples", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(MakeSamples)), METH_FASTCALL,
     "samples(labels, position): what is read of a level to score its batches, from [N] int64\n"
     "each; None where they are something else."},
    {"settle", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(Settle)), METH_FASTCALL,
     "settle(reached, began): empty this list and write down the scores of its passes, in their\n"
     "order, in their level's `row`, [N] float32 or None: of each batch once, unless a pass after\n"
     "number `began` scored it before, and of the samples that have none (NaN). {of: how many of\n"
     "its batches were scored for the first time}.\n"
     "None, and nothing is done, where not all are ScoredPasses."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

PyObject* Score(PyObject* reached, int64_t order, PyObject* levels, PyObject* given_logits,
                PyObject* given_target) {
  const Owned newest = FindBatch(levels, given_target);
  if (newest == nullptr) return nullptr;
  const auto* batch = reinterpret_cast<Drawn*>(newest.get());
  const auto* turn = reinterpret_cast<Turn*>(batch->turn);
  const Owned samples(PyObject_GetAttr(turn->level, names.samples));
  if (samples == nullptr) return nullptr;
  const std::optional<Logits> logits = Matrix(given_logits);
  const auto target = Vector(given_target, dlpack::kInt, 64);
  if (!logits || !target || Py_TYPE(samples.get()) != &samples_type ||
      !PyBytes_CheckExact(batch->index)) {
    return nullptr;
  }
  const int64_t rows = PyBytes_GET_SIZE(batch->index) / Py_ssize_t{sizeof(int32_t)};
  if (rows == 0 || logits->rows != rows || target->shape[0] != rows) return nullptr;

  ScoredPass* pass = PyObject_GC_NewVar(ScoredPass, &pass_type, 2 * rows);
  if (pass == nullptr) return nullptr;
  Owned result(reinterpret_cast<PyObject*>(pass));
  pass->reached = Py_NewRef(reached);
  pass->turn = Py_NewRef(batch->turn);
  pass->logits = nullptr;
  pass->order = order;
  pass->address = logits->data;
  PyObject_GC_Track(pass);
  const auto* number = reinterpret_cast<const int32_t*>(PyBytes_AS_STRING(batch->index));
  const auto* known = reinterpret_cast<const Samples*>(samples.get());
  const auto* classes = static_cast<const int64_t*>(target->data);
  if (!Locate(number, rows, known, classes, logits->classes, pass->position())) return nullptr;
  const Owned keeper(Keeper(given_logits));
  if (keeper == nullptr) return nullptr;
  pass->logits = PyWeakref_NewRef(keeper.get(), nullptr);
  if (pass->logits == nullptr || HookNode(given_logits, result.get()) != 1) return nullptr;
  El2n(*logits, classes, pass->items);
  return result.release();
}

bool AddScoredPass(PyObject* module) {
  PassHolder::Describe(&pass_type, "bdp_ext._C.ScoredPass",
                       "A forward pass and its scores, noted when a backward pass reaches it.");
  pass_type.tp_basicsize = offsetof(ScoredPass, items);
  pass_type.tp_itemsize = sizeof(float);
  pass_type.tp_flags |= Py_TPFLAGS_DISALLOW_INSTANTIATION;
  pass_type.tp_call = reinterpret_cast<ternaryfunc>(Call);
  pass_type.tp_getset = pass_attributes;
  Py_SET_REFCNT(&samples_type, 1);
  samples_type.tp_name = "bdp_ext._C.Samples";
  samples_type.tp_doc = "The class and the place of each sample of a level.";
  samples_type.tp_basicsize = offsetof(Samples, items);
  samples_type.tp_itemsize = sizeof(Samples::items[0]);
  samples_type.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION;
  names.samples = PyUnicode_InternFromString("samples");
  names.row = PyUnicode_InternFromString("row");
  names.base = PyUnicode_InternFromString("_base");
  return names.samples != nullptr && names.row != nullptr && names.base != nullptr &&
         PyType_Ready(&samples_type) == 0 && PyType_Ready(&pass_type) == 0 && FindTorch() &&
         PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace bdp_ext::dropin
