// One call for what the drop-in does with the usual forward pass: in the middle of a search code
// and memory are cold, so that fewer calls and less kept until the pass is scored is what counts
// (bench/bench_dropin.py). Tensors are seen by DLPack's exchange of C structures, which is the same
// in every version of torch that has it.

#include "scored_pass.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "dlpack.h"
#include "ops.h"

namespace bdp_ext {
namespace {

// A forward pass of which a backward pass is to say that it reached it: it is the tensor hook.
struct ScoredPass {
  PyVarObject ob_base;  // of 2 * rows items
  PyObject* reached;    // list to which it then appends itself
  PyObject* of;         // its batch
  int64_t order;
  const void* address;  // of its logits
  float items[1];       // score[rows], then position[rows] as int32_t

  int64_t rows() const { return ob_base.ob_size / 2; }
  int32_t* position() { return reinterpret_cast<int32_t*>(items + rows()); }
};

const dlpack::ExchangeApi* exchange = nullptr;
PyTypeObject* tensor_type = nullptr;
PyObject *grad_fn = nullptr, *output_nr = nullptr, *backward_hooks = nullptr,
         *register_hook_dict = nullptr;
PyObject* carrier = nullptr;  // a tensor
PyObject* carried = nullptr;  // its newest hooks
PyTypeObject pass_type{};

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

// Where the batch's samples stand in their level; false: an index is no sample of it, or its label
// is another one.
bool Locate(PyObject* index, const dlpack::Tensor& labels, const dlpack::Tensor& positions,
            const int64_t* target, int64_t classes, int32_t* position) {
  const auto* label = static_cast<const int64_t*>(labels.data);
  const auto* place = static_cast<const int64_t*>(positions.data);
  for (int64_t row = 0; row < PyList_GET_SIZE(index); ++row) {
    PyObject* number = PyList_GET_ITEM(index, row);
    if (!PyLong_CheckExact(number)) return false;
    int overflow;
    const int64_t sample = PyLong_AsLongLongAndOverflow(number, &overflow);
    if (overflow != 0 || sample < 0 || sample >= labels.shape[0]) return false;
    if (label[sample] != target[row] || target[row] < 0 || target[row] >= classes) return false;
    if (place[sample] < 0 || place[sample] > INT32_MAX) return false;
    position[row] = static_cast<int32_t>(place[sample]);
  }
  return true;
}

// Tensor.register_hook without the handle: 1, or 0 where it cannot be done, or -1 and an error. A
// node takes hooks in the form of a tensor that carries them: ours, so that the user's stay as they
// are.
int Hook(PyObject* tensor, PyObject* hook) {
  if (Py_TYPE(tensor) != tensor_type) return 0;
  PyObject* output = PyObject_GetAttr(tensor, output_nr);
  if (output == nullptr) return -1;
  const bool first = PyLong_AsLong(output) == 0;
  Py_DECREF(output);
  if (!first) return 0;
  PyObject* node = PyObject_GetAttr(tensor, grad_fn);
  if (node == nullptr) return -1;
  PyObject* take = node == Py_None ? nullptr : PyObject_GetAttr(node, register_hook_dict);
  Py_DECREF(node);
  if (take == nullptr) {
    PyErr_Clear();
    return 0;
  }
  PyObject* before = carried;  // not to be freed, by whatever code, until the node has ours
  carried = PyDict_New();
  PyObject* done = nullptr;
  if (carried != nullptr && PyDict_SetItem(carried, Py_False, hook) == 0 &&
      PyObject_SetAttr(carrier, backward_hooks, carried) == 0) {
    done = PyObject_CallOneArg(take, carrier);
  }
  Py_XDECREF(before);
  Py_DECREF(take);
  if (done == nullptr) return -1;
  Py_DECREF(done);
  return 1;
}

// score_pass(reached, order, of, logits, target, index, labels, position)
PyObject* ScorePass(PyObject*, PyObject* const* given, Py_ssize_t count) {
  if (count != 8 || !PyList_CheckExact(given[0]) || !PyLong_CheckExact(given[1])) {
    PyErr_SetString(PyExc_TypeError, "score_pass: list, int and six more are wanted");
    return nullptr;
  }
  PyObject* index = given[5];
  const std::optional<Logits> logits = Matrix(given[3]);
  const auto target = Vector(given[4], dlpack::kInt, 64);
  const auto labels = Vector(given[6], dlpack::kInt, 64);
  const auto positions = Vector(given[7], dlpack::kInt, 64);
  if (!logits || !target || !labels || !positions || !PyList_CheckExact(index)) Py_RETURN_NONE;
  const int64_t rows = logits->rows;
  if (rows == 0 || PyList_GET_SIZE(index) != rows || target->shape[0] != rows ||
      positions->shape[0] != labels->shape[0]) {
    Py_RETURN_NONE;
  }
  const int64_t order = PyLong_AsLongLong(given[1]);
  if (order == -1 && PyErr_Occurred()) return nullptr;

  ScoredPass* pass = PyObject_GC_NewVar(ScoredPass, &pass_type, 2 * rows);
  if (pass == nullptr) return nullptr;
  pass->reached = Py_NewRef(given[0]);
  pass->of = Py_NewRef(given[2]);
  pass->order = order;
  pass->address = logits->data;
  PyObject_GC_Track(reinterpret_cast<PyObject*>(pass));
  const auto* classes = static_cast<const int64_t*>(target->data);
  if (!Locate(index, *labels, *positions, classes, logits->classes, pass->position())) {
    Py_DECREF(pass);
    Py_RETURN_NONE;
  }
  const int hooked = Hook(given[3], reinterpret_cast<PyObject*>(pass));
  if (hooked <= 0) {
    Py_DECREF(pass);
    if (hooked < 0) return nullptr;
    Py_RETURN_NONE;
  }
  El2n(*logits, classes, pass->items);
  return reinterpret_cast<PyObject*>(pass);
}

PyObject* Call(ScoredPass* pass, PyObject*, PyObject*) {
  if (PyList_Append(pass->reached, reinterpret_cast<PyObject*>(pass)) != 0) return nullptr;
  Py_RETURN_NONE;
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
  Py_VISIT(pass->of);
  return 0;
}

int Clear(ScoredPass* pass) {
  Py_CLEAR(pass->reached);
  Py_CLEAR(pass->of);
  return 0;
}

void Delete(ScoredPass* pass) {
  PyObject_GC_UnTrack(pass);
  Clear(pass);
  PyObject_GC_Del(pass);
}

PyObject* Of(ScoredPass* pass, void*) { return Py_NewRef(pass->of); }

PyObject* Order(ScoredPass* pass, void*) { return PyLong_FromLongLong(pass->order); }

PyObject* Address(ScoredPass* pass, void*) {
  return PyLong_FromVoidPtr(const_cast<void*>(pass->address));
}

PyMethodDef pass_methods[] = {
    {"put", reinterpret_cast<PyCFunction>(Put), METH_O,
     "put(row): write the scores of those samples of row [N] float32 that have none (NaN)."},
    {nullptr, nullptr, 0, nullptr}};

PyGetSetDef pass_attributes[] = {
    {"of", reinterpret_cast<getter>(Of), nullptr, "Its batch.", nullptr},
    {"address", reinterpret_cast<getter>(Address), nullptr, "Where its logits lie.", nullptr},
    {"order", reinterpret_cast<getter>(Order), nullptr, "Its number.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

PyMethodDef functions[] = {
    {"score_pass", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(ScorePass)), METH_FASTCALL,
     "score_pass(reached, order, of, logits, target, index, labels, position): a ScoredPass with\n"
     "the EL2N of logits [B, C], which a backward pass appends to the list `reached`; None, and\n"
     "nothing is done, where not all of it is on the CPU and of the usual types and labels."},
    {"hook_node", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(HookNode)), METH_FASTCALL,
     "hook_node(tensor, hook): tensor.register_hook without its handle; False where it\n"
     "cannot be done."},
    {nullptr, nullptr, 0, nullptr}};

// What is torch's own and private, or newer than torch 2.10, may be missing.
bool FindTorch() {
  PyObject* torch = PyImport_ImportModule("torch");
  if (torch == nullptr) return false;
  tensor_type = reinterpret_cast<PyTypeObject*>(PyObject_GetAttrString(torch, "Tensor"));
  PyObject* empty = PyObject_CallMethod(torch, "empty", "i", 0);
  Py_DECREF(torch);
  if (tensor_type == nullptr || empty == nullptr) return false;
  PyObject* capsule =
      PyObject_GetAttrString(reinterpret_cast<PyObject*>(tensor_type), "__dlpack_c_exchange_api__");
  if (capsule != nullptr) {
    auto* found = static_cast<const dlpack::ExchangeApi*>(
        PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
    if (found != nullptr && found->major == 1 && found->view != nullptr) exchange = found;
    Py_DECREF(capsule);
  }
  PyErr_Clear();
  grad_fn = PyUnicode_InternFromString("grad_fn");
  output_nr = PyUnicode_InternFromString("output_nr");
  backward_hooks = PyUnicode_InternFromString("_backward_hooks");
  register_hook_dict = PyUnicode_InternFromString("_register_hook_dict");
  carrier = empty;
  return grad_fn && output_nr && backward_hooks && register_hook_dict;
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
  if (PyType_Ready(&pass_type) != 0 || !FindTorch()) return false;
  return PyModule_AddObjectRef(module, "ScoredPass", reinterpret_cast<PyObject*>(&pass_type)) ==
             0 &&
         PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace bdp_ext
