#include "dropin/tensors.h"

#include "dropin/python.h"

namespace bdp_ext::dropin {
namespace {

const dlpack::ExchangeApi* exchange = nullptr;
PyTypeObject* tensor_type = nullptr;

std::optional<dlpack::Tensor> View(PyObject* object) {
  dlpack::Tensor view;
  if (exchange == nullptr || !IsTensor(object)) return std::nullopt;
  if (exchange->view(object, &view) != 0) {
    PyErr_Clear();
    return std::nullopt;
  }
  view.data = static_cast<char*>(view.data) + view.byte_offset;
  if (view.device != dlpack::kCpu || view.lanes != 1) return std::nullopt;
  return view;
}

}  // namespace

bool IsTensor(PyObject* object) { return Py_TYPE(object) == tensor_type; }

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

// What is torch's own and private, or newer than torch 2.10, may be missing.
bool FindTorch() {
  if (tensor_type != nullptr) return true;
  const Owned torch(PyImport_ImportModule("torch"));
  if (torch == nullptr) return false;
  Owned type(PyObject_GetAttrString(torch.get(), "Tensor"));
  if (type == nullptr) return false;
  const Owned capsule(PyObject_GetAttrString(type.get(), "__dlpack_c_exchange_api__"));
  if (capsule != nullptr) {
    auto* found = static_cast<const dlpack::ExchangeApi*>(
        PyCapsule_GetPointer(capsule.get(), "dlpack_exchange_api"));
    if (found != nullptr && found->major == 1 && found->view != nullptr) exchange = found;
  }
  PyErr_Clear();
  tensor_type = reinterpret_cast<PyTypeObject*>(type.release());
  return true;
}

}  // namespace bdp_ext::dropin
