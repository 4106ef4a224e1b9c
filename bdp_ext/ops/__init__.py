"""The kernels' one door: `el2n`, `update_voe_`, `voe`, `capped_topk` for pruning;
`depthwise_conv2d`, `conv3x3`, `node_sum`, `norm_relu` for supernets.

Each function is one call into `torch.ops.bdp_ext`; who computes is the dispatcher's business
(compiled C++ on the CPU, CUDA or Triton on a GPU, plain torch elsewhere). `bdp_ext.backend(...)`
forces one. Every implementation refuses bad arguments before it writes anything. Inputs are
read-only unless the name ends in `_`. Nothing here needs the rest of the package.
"""

from bdp_ext.ops import register  # noqa: F401  defines the operations before a library is loaded
from bdp_ext.ops.functions import (
    capped_topk,
    conv3x3,
    conv3x3_backward,
    depthwise_conv2d,
    depthwise_conv2d_backward,
    el2n,
    node_sum,
    norm_relu,
    norm_relu_backward,
    norm_relu_with_moments,
    update_voe_,
    voe,
)

__all__ = [
    "capped_topk",
    "conv3x3",
    "conv3x3_backward",
    "depthwise_conv2d",
    "depthwise_conv2d_backward",
    "el2n",
    "node_sum",
    "norm_relu",
    "norm_relu_backward",
    "norm_relu_with_moments",
    "update_voe_",
    "voe",
]
