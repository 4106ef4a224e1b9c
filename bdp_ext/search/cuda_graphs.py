"""What is made for one shape, so for full batches alone: compiled code and CUDA graphs. A partial
batch, the last of a pass, goes the usual way."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bdp_ext.methods import Batch, Gradients, Loss

Result = tuple[Gradients, Loss]
Function = Callable[..., Result]
"""(batches) -> the gradients of what a step updates, and the loss."""
Captured = tuple[Callable[[], None], Result]
"""What computes again, and the tensors into which it writes its result."""

WARM = 2
"""Calls before a capture: libraries choose their algorithms and Triton compiles its kernels."""


def compiled(network: nn.Module, batch_size: int, **options: Any) -> Callable[[Tensor], Tensor]:
    """A network's forward pass, and the backward pass that follows, by torch.compile.

    Args:
        network: forward(images [B, 3, H, W]).
        batch_size: B of what is compiled; the network itself computes any other.
        options: of `torch.compile`.
    """
    fast = torch.compile(network, dynamic=False, **options)

    def forward(images: Tensor) -> Tensor:
        y: Tensor = (fast if images.shape[0] == batch_size else network)(images)
        return y

    return forward


def capture_graph(function: Callable[[], Result]) -> Captured:
    """Record a function's kernels as a CUDA graph; nothing is computed before its first replay."""
    graph = torch.cuda.CUDAGraph()
    # Threads that read images ahead may use the device meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = function()
    return graph.replay, result


class Graphs:
    """The gradients of a step as CUDA graphs, one for each function that computes some.

    A supernet's step is thousands of small kernels, which take less time than their launches; a
    graph launches all of them at once. It holds the numbers that the host knew when it was
    captured, a learning rate, say: capture anew when they change, which takes about as long as a
    step.

    Args:
        batch_size: samples of the batches that graphs are made for.
        capture: `capture_graph`, or what stands in for it on a machine without a GPU.
    """

    def __init__(
        self,
        batch_size: int,
        capture: Callable[[Callable[[], Result]], Captured] = capture_graph,
    ) -> None:
        self._batch_size = batch_size
        self._capture = capture
        self._graphs: dict[Function, _Graph] = {}
        self._calls: dict[Function, int] = {}

    def reset(self) -> None:
        """Capture anew from the next calls on."""
        self._graphs.clear()

    def restart(self) -> None:
        """The functions compute with another network from now on."""
        self.reset()
        self._calls.clear()

    def __call__(self, function: Function, *batches: Batch) -> Result:
        """function(*batches). The tensors of the result hold until the next call with the same
        function.

        Args:
            function: equal to itself from call to call, as a bound method is. It waits for no
                result on the host.
        """
        if any(len(batch.target) != self._batch_size for batch in batches):
            return function(*batches)
        calls = self._calls[function] = self._calls.get(function, 0) + 1
        if calls <= WARM:
            return _on_side_stream(lambda: function(*batches))
        if function not in self._graphs:
            self._graphs[function] = _Graph(function, batches, self._capture)
        return self._graphs[function](*batches)


class _Graph:
    """A captured function and the memory of its arguments."""

    def __init__(
        self,
        function: Function,
        batches: Sequence[Batch],
        capture: Callable[[Callable[[], Result]], Captured],
    ) -> None:
        self._batches = [
            replace(batch, **{name: tensor.clone() for name, tensor in _tensors(batch).items()})
            for batch in batches
        ]
        self._replay, self._result = capture(lambda: function(*self._batches))

    def __call__(self, *batches: Batch) -> Result:
        for own, batch in zip(self._batches, batches, strict=True):
            for name, tensor in _tensors(own).items():
                tensor.copy_(getattr(batch, name))
        self._replay()
        return self._result


def _tensors(batch: Batch) -> dict[str, Tensor]:
    """What is computed with."""
    tensors = {"images": batch.images, "target": batch.target}
    return tensors if batch.weight is None else {**tensors, "weight": batch.weight}


def _on_side_stream(function: Callable[[], Result]) -> Result:
    """Call a function as a capture will: on a stream of its own."""
    if not torch.cuda.is_available():
        return function()
    stream, here = torch.cuda.Stream(), torch.cuda.current_stream()
    stream.wait_stream(here)
    with torch.cuda.stream(stream):
        result = function()
    here.wait_stream(stream)
    return result
