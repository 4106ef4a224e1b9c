// The entry of bdp_ext._C. Importing the module runs the registrations of register.cpp; what it
// offers itself is build_info(). Nothing of torch but the stable ABI is used here: a tensor type of
// torch/extension.h would tie the library to one version of torch.

#include <pybind11/pybind11.h>
#include <torch/csrc/stable/version.h>

#include <string>

#include "cpu/isa.h"

namespace py = pybind11;

namespace {

const char* CpuPath() { return bdp_ext::kIsaNames[static_cast<int>(bdp_ext::IsaInUse())]; }

// Computes with this instruction set from now on.
void UseCpuPath(const std::string& name) {
  if (!bdp_ext::FindIsa(name.c_str(), &bdp_ext::IsaInUse())) {
    throw py::value_error("this processor has no cpu_path " + name);
  }
}

py::dict BuildInfo() {
  py::dict info;
#ifdef __clang__
  info["compiler"] = "clang " __clang_version__;
#else
  info["compiler"] = "gcc " __VERSION__;
#endif
  info["flags"] = BDP_EXT_FLAGS;
  info["cxx_standard"] = __cplusplus / 100 % 100;
  info["built_with_torch"] = TORCH_VERSION;
  info["needs_torch"] = std::to_string(TORCH_TARGET_VERSION >> 56) + "." +
                        std::to_string(TORCH_TARGET_VERSION >> 48 & 0xff);
  info["cpu_path"] = CpuPath();  // chosen for this processor, at run time
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "bdp_ext's operations in C++ for the CPU; they are called through torch.ops.bdp_ext.";
  m.def("build_info", &BuildInfo, "How this library was built: plain values.");
  m.def("use_cpu_path", &UseCpuPath, "For tests: compute with avx512, avx2 or plain.");
}
