"""A machine with one GPU, where there is none: tensors that say they lie on cuda:0 and are computed
on the CPU. What a GPU refuses is refused, and what it would do is counted, exactly and without
noise; how long it would take is not known here.

    with fake_gpu() as log:
        search = Search(SearchConfig(data="digits", device="cuda"), images)
        search.step()
        log.clear()
        search.step()
    print(log.kernels, log.bytes, len(log.waits))

Every operation passes a dispatch mode, which sees it below autograd and autocast. Those on a GPU
tensor are computed with the CPU tensor inside, and count as the kernels that a GPU launches: one,
but for views (none), lists of tensors and convolutions (`_kernels`), and the package's own
operations, which launch what `kernel_launches.py` says. Bytes are those of the tensors that an
operation reads and writes, each once. Modes are a thread's own, so the backward passes stay in
this one.
"""

import ctypes
import hashlib
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple
from unittest.mock import patch

import kernel_launches
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import bdp_ext
from bdp_ext.ops import reference

EMPTY: dict[str, Any] = {}
GPU, CPU = torch.device("cuda:0"), torch.device("cpu")
PACKAGE = str(Path(bdp_ext.__file__).parent)
CXX = os.environ.get("CXX") or "g++"
BUILD = Path(__file__).parents[1] / "build/fake_gpu"
aten = torch.ops.aten

READS_BACK = {  # the host waits for the size or the value of the result
    "aten::_local_scalar_dense",
    "aten::_unique2",
    "aten::bincount",
    "aten::equal",
    "aten::masked_select",
    "aten::nonzero",
    "aten::repeat_interleave",
    "aten::unique_consecutive",
    "aten::unique_dim",
}
BETWEEN = {"aten::_to_copy", "aten::copy_"}
TAKES_INDICES = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
PICKS = {"aten::index", "aten::index_select", "aten::gather", "aten::embedding"}
OVERWRITES = {"aten::copy_", "aten::fill_", "aten::zero_", "aten::_foreach_copy_"}
ALLOCATES = {"aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty"}
ALLOCATES |= {"aten::new_empty_strided", "aten::_unsafe_view", "aten::lift_fresh"}
SEVERAL = {"aten::select_backward": 2, "aten::slice_backward": 2, "aten::index_put": 2}
TENSORS_A_LAUNCH = {1: 770, 2: 448, 3: 336, 4: 252}  # CUDA 13's: ATen/native/cuda/MultiTensorApply


class Launch(NamedTuple):
    """The kernels of one operation."""

    op: str
    kernels: int
    bytes: int
    caller: str  # line and function of the package


class Copy(NamedTuple):
    """Between host and device."""

    to: str  # "the device" or "the host"
    bytes: int
    blocking: bool
    caller: str


class Wait(NamedTuple):
    """Of the host for the device."""

    reason: str
    caller: str


class Log:
    """What happened on the GPU.

    Attributes:
        capturing: whether a CUDA graph is being captured, and waiting is an error.
    """

    def __init__(self) -> None:
        self.launches: list[Launch] = []
        self.copies: list[Copy] = []
        self.waits: list[Wait] = []
        self.capturing = False

    def clear(self) -> None:
        self.launches, self.copies, self.waits = [], [], []

    @property
    def kernels(self) -> int:
        return sum(launch.kernels for launch in self.launches)

    @property
    def bytes(self) -> int:
        return sum(launch.bytes for launch in self.launches)

    @property
    def blocking_copies(self) -> int:
        return sum(copy.blocking for copy in self.copies)

    def kernels_by(self, key: Callable[[Launch], str]) -> Counter[str]:
        """Kernels by `op`, by `caller`, ..."""
        counts: Counter[str] = Counter()
        for launch in self.launches:
            counts[key(launch)] += launch.kernels
        return counts

    def copied(self, to_gpu: bool, tensor: Tensor, blocking: bool) -> None:
        to = "the device" if to_gpu else "the host"
        self.copies.append(Copy(to, _bytes(tensor), blocking, _caller()))
        if blocking:
            self.waited(f"copy to {to}")

    def waited(self, reason: str) -> None:
        if self.capturing:
            raise RuntimeError(f"{reason} while a CUDA graph is captured, in {_caller()}.")
        self.waits.append(Wait(reason, _caller()))

    def capture(self, function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """In place of `cuda_graphs.capture_graph`: computes again on the same memory, as a graph
        does; the first results are no results."""

        def run() -> list[Tensor]:
            nonlocal result
            self.capturing = True
            try:
                result = function()
            finally:
                self.capturing = False
            return [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]

        def replay() -> None:
            for place, tensor in zip(places, run(), strict=True):
                place.cpu_tensor.copy_(tensor.cpu_tensor)

        result: Any = None
        places, first = run(), result
        for place in places:
            place.cpu_tensor.fill_(math.nan)
        return replay, first


class GpuTensor(Tensor):
    """Says that it lies on cuda:0.

    Attributes:
        cpu_tensor: its numbers.
    """

    cpu_tensor: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> "GpuTensor":
        outer = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=GPU,
        )
        outer.cpu_tensor = inner
        return outer

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Outside of `fake_gpu()`, in another thread say, nothing is noted."""
        return _run(Log(), func, args, kwargs or {})

    def __repr__(self) -> str:  # type: ignore[override]
        return f"GpuTensor({self.cpu_tensor!r})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError("a tensor on cuda:0 has no numpy array; copy it to the CPU first.")
        return self.cpu().numpy()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        return self.numpy()

    def data_ptr(self) -> int:
        return self.cpu_tensor.data_ptr()

    def __deepcopy__(self, memo: dict[int, Any]) -> "GpuTensor":
        twin = self.detach().clone().requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            twin._is_param = True
        memo[id(self)] = twin
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Saved as a tensor of the CPU, as which it is loaded."""
        return self.detach().cpu().__reduce_ex__(protocol)


class _Mode(TorchDispatchMode):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(self.log, func, args, kwargs or {})


def _run(log: Log, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation, of the CPU or the GPU."""
    name = func._schema.name
    tensors = _tensors(args, kwargs)
    ours = [tensor for tensor in tensors if isinstance(tensor, GpuTensor)]
    on_gpu = bool(ours) if kwargs.get("device") is None else _is_gpu(kwargs["device"])
    if name in BETWEEN:
        target, source = args[:2] if name == "aten::copy_" else (None, args[0])
        on_gpu = on_gpu if target is None else isinstance(target, GpuTensor)
        if on_gpu != isinstance(source, GpuTensor):
            asynchronous = kwargs.get("non_blocking") or True in args[2:]
            log.copied(on_gpu, source, blocking=not asynchronous)
            result = _call(func, args, kwargs)
            return target if target is not None else GpuTensor(result) if on_gpu else result
    if not on_gpu and not ours:
        if name == "aten::_pin_memory":
            return args[0].clone()
        return _call(func, args, kwargs)

    _refuse_mix(func, args, kwargs, tensors)
    own = name.removeprefix("bdp_ext::")
    if own != name and own not in kernel_launches.OWN:
        with _Mode(log):  # it has no kernels: plain torch, counted as such
            return getattr(reference, own)(*args, **kwargs)
    if name in TAKES_INDICES:
        _take_indices(log, args[1])
    if name in READS_BACK:
        log.waited(name)
    result = _call(INSTEAD.get(name, func), args, kwargs)
    _note(log, func, args, kwargs, ours, result)
    known = {id(tensor.cpu_tensor): tensor for tensor in ours}  # what an operation in place returns
    return _outside(result, known)


def _is_gpu(device: Any) -> bool:
    return torch.device(device).type == "cuda"


def _tensors(args: Any, kwargs: Any = EMPTY) -> list[Tensor]:
    """Those among an operation's arguments, of which some are lists, or results."""
    found = []
    for value in (*args, *kwargs.values()) if kwargs else args:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += [x for x in value if isinstance(x, Tensor)]
    return found


def _inside(value: Any) -> Any:
    """Arguments for the CPU."""
    if isinstance(value, GpuTensor):
        return value.cpu_tensor
    if isinstance(value, list | tuple):
        return type(value)(map(_inside, value))
    return CPU if isinstance(value, torch.device) else value


def _outside(value: Any, known: dict[int, GpuTensor]) -> Any:
    """Results as the GPU's."""
    if isinstance(value, Tensor):
        return known[id(value)] if id(value) in known else GpuTensor(value)
    if isinstance(value, list | tuple):
        return type(value)(_outside(x, known) for x in value)
    return value


def _call(func: Any, args: Any, kwargs: Any) -> Any:
    """The operation on the CPU."""
    inside = {name: _inside(value) for name, value in kwargs.items() if name != "pin_memory"}
    return func(*_inside(args), **inside)


def _refuse_mix(func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> None:
    """A CPU tensor with a dimension beside the GPU's, one that is written, or a generator."""
    name = func._schema.name
    read = [x for x in tensors if not isinstance(x, GpuTensor)]
    if name in TAKES_INDICES and isinstance(args[0], GpuTensor):
        read = [x for x in read if all(x is not index for index in args[1])]
    found = [x for x in read if x.dim()]
    if func._schema.is_mutable and read and not isinstance(args[0], GpuTensor):
        found = read
    if kwargs.get("generator") is not None:
        raise RuntimeError(f"{name} on cuda:0 draws from a generator of the CPU, in {_caller()}.")
    if found:
        places = ", ".join(f"{tuple(x.shape)} on {x.device}" for x in tensors)
        raise RuntimeError(f"{name} mixes devices: {places}, in {_caller()}.")


def _take_indices(log: Log, indices: Sequence[Tensor | None]) -> None:
    for index in indices:
        if index is None:
            continue
        if not isinstance(index, GpuTensor):
            log.copied(True, index, blocking=True)
        if index.dtype in (torch.bool, torch.uint8):
            log.waited("a mask as index")


def _note(log: Log, func: Any, args: Any, kwargs: Any, ours: list[GpuTensor], result: Any) -> None:
    """What an operation launches."""
    schema = func._schema
    if _launches_nothing(func):
        return
    written = _tensors(result if isinstance(result, list | tuple) else [result])
    if not schema.returns:
        arguments = zip(schema.arguments, args, strict=False)
        written = _tensors([x for a, x in arguments if a.alias_info and a.alias_info.is_write])
    if not any(x.numel() for x in (*written, *ours)):
        return
    read = [tensor.cpu_tensor for tensor in ours]
    if schema.name in OVERWRITES:
        read = read[len(written) :]
    if schema.name in PICKS:  # as much as is picked, not all there is to pick from
        read = [*written, *read[1:]]
    if schema.name == "bdp_ext::update_voe_":  # a few numbers of its ring and VoE
        read, written = read[2:], []
    kernels = _kernels(schema.name, args, kwargs)
    total = sum(map(_bytes, [*read, *written]))
    log.launches.append(Launch(schema.name.removeprefix("aten::"), kernels, total, _caller()))


@cache
def _launches_nothing(func: Any) -> bool:
    """Whether it gives a view, or memory."""
    views = any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns)
    return views or func._schema.name in ALLOCATES


def _kernels(name: str, args: Any, kwargs: Any) -> int:
    if name.startswith("bdp_ext::"):
        return kernel_launches.OWN[name.removeprefix("bdp_ext::")](*args, **kwargs)
    if name == "aten::convolution_backward":
        return sum(args[-1])  # input, weight, bias
    if name.startswith(("aten::_foreach", "aten::_amp_foreach")):
        lists = [value for value in args if isinstance(value, list) and _are_tensors(value)]
        if any(len({_strides(x) for x in tensors}) > 1 for tensors in zip(*lists, strict=True)):
            return len(lists[0])  # the slow way, one by one
        depth = len(lists) + (not name.endswith("_"))
        extra = name == "aten::_foreach_norm"
        return -(-len(lists[0]) // TENSORS_A_LAUNCH[depth]) + extra
    return SEVERAL.get(name, 1)


def _strides(x: Tensor) -> tuple[tuple[int, int], ...]:
    """Where an element's neighbours lie, as the kernels for lists of tensors compare it."""
    return tuple((n, stride) for n, stride in zip(x.shape, x.stride(), strict=True) if n > 1)


def _are_tensors(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, Tensor) for value in values)


def _bytes(x: Tensor) -> int:
    """An expanded tensor is as small as what it was expanded from."""
    strides = x.stride()
    if 0 not in strides or not x.numel():
        return x.nbytes
    return x.element_size() * math.prod(
        n for n, stride in zip(x.shape, strides, strict=True) if stride
    )


@cache
def _in_package(code: CodeType) -> str:
    """Its file in the package, or nothing."""
    name = code.co_filename
    return name[len(PACKAGE) + 1 :] if name.startswith(PACKAGE) else ""


def _caller() -> str:
    """The innermost line of the package that is being run."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if file := _in_package(frame.f_code):
            return f"{file}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "outside of bdp_ext"


def _cudnn_batch_norm(x: Tensor, *args: Any) -> tuple[Tensor, ...]:
    return *aten.native_batch_norm(x, *args), torch.empty(0, dtype=torch.uint8)


def _cudnn_batch_norm_backward(
    x: Tensor, grad: Tensor, weight: Tensor, *args: Any
) -> tuple[Tensor, ...]:
    *moments, eps, _ = args
    wanted = [True, True, True]
    result = aten.native_batch_norm_backward(grad, x, weight, *moments, True, eps, wanted)
    return tuple(result)


INSTEAD = {
    "aten::cudnn_batch_norm": _cudnn_batch_norm,
    "aten::cudnn_batch_norm_backward": _cudnn_batch_norm_backward,
}


class _Stream:
    """A stream, or an event: there is one of each, and both are done."""

    def __init__(self, log: Log, *args: Any, **kwargs: Any) -> None:
        self._log = log

    def synchronize(self) -> None:
        self._log.waited("synchronize")

    def query(self) -> bool:
        return True

    def record(self, *args: Any) -> None: ...

    wait = wait_event = wait_stream = record_event = record


@contextmanager
def fake_gpu(bf16: bool = True) -> Iterator[Log]:
    """The machine, while in the block.

    Args:
        bf16: whether it computes in bfloat16; a V100 does not.
    """
    log = Log()
    guards = _guards()
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    cuda = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "is_bf16_supported": lambda *args, **kwargs: bf16,
        "is_current_stream_capturing": lambda: log.capturing,
        "manual_seed_all": lambda seed: None,
        "get_rng_state_all": list,
        "synchronize": lambda *args: log.waited("synchronize"),
        "Stream": partial(_Stream, log),
        "Event": partial(_Stream, log),
        "current_stream": partial(_Stream, log),
        "stream": lambda stream: nullcontext(),
    }
    types = [Tensor, torch.nn.Parameter, GpuTensor]
    with ExitStack() as stack:
        stack.enter_context(patch.multiple(torch.cuda, **cuda))
        for module in ("torch.optim.optimizer", "torch.utils._foreach_utils"):
            of_lists = import_module(module)
            stack.enter_context(patch.object(of_lists, "_foreach_supported_types", types))
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        # A module's parameters stay the objects they are when it moves, as on a GPU.
        torch.__future__.set_swap_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swaps)
        guards.fake_gpu_swap()
        stack.callback(guards.fake_gpu_swap)
        stack.enter_context(_Mode(log))
        yield log


@cache
def _guards() -> ctypes.CDLL:
    """fake_gpu.cpp, compiled; kept under a hash of what it was made from."""
    source, torch_folder = Path(__file__).with_suffix(".cpp"), Path(torch.__file__).parent
    command = [CXX, "-std=c++20", "-shared", "-fPIC", f"-I{torch_folder / 'include'}", str(source)]
    command += [f"-L{torch_folder / 'lib'}", "-lc10", "-ltorch_cpu"]
    made_from = f"{source.read_text()}{command}{torch.__version__}"
    library = BUILD / f"{hashlib.sha256(made_from.encode()).hexdigest()[:16]}.so"
    if not library.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        new = library.with_suffix(f".{os.getpid()}")
        subprocess.run([*command, "-o", new], check=True)
        new.replace(library)
    return ctypes.CDLL(str(library))
