// What torch's C++ asks of a GPU by itself, answered without one: the autograd engine wants streams
// and whether a device is in use, batch norm whether there is cuDNN. See fake_gpu.py.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <utility>

namespace {

using c10::Device, c10::DeviceIndex, c10::DeviceType, c10::Stream;

const Device kGpu(DeviceType::CUDA, 0);
const Stream kStream(Stream::DEFAULT, kGpu);

struct Guard : c10::impl::NoOpDeviceGuardImpl<DeviceType::CUDA> {
  Device exchangeDevice(Device) const override { return kGpu; }
  Device getDevice() const override { return kGpu; }
  Stream getStream(Device) const noexcept override { return kStream; }
  Stream exchangeStream(Stream) const noexcept override { return kStream; }
};

struct Hooks : at::CUDAHooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasCUDA() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex deviceCount() const override { return 1; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  bool compiledWithCuDNN() const override { return true; }
  bool compiledWithMIOpen() const override { return false; }
  long versionCuDNN() const override { return 91000; }
  double batchnormMinEpsilonCuDNN() const override { return 0; }
};

}  // namespace

// Puts these in place of torch's, or torch's back.
extern "C" void fake_gpu_swap() {
  static const c10::impl::DeviceGuardImplInterface* guard = new Guard;
  guard = c10::impl::device_guard_impl_registry[static_cast<int>(DeviceType::CUDA)].exchange(guard);
  // torch keeps its hooks to itself, but they are nothing more than their virtual functions.
  static Hooks hooks;
  const void* const theirs = &at::detail::getCUDAHooks();
  std::swap(*reinterpret_cast<void**>(&hooks), *static_cast<void**>(const_cast<void*>(theirs)));
}
