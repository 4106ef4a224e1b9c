"""The dominant eigenvalue of the validation loss's Hessian with respect to alpha."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter


def dominant_eigenvalue(loss: Callable[[], Tensor], parameters: Sequence[Parameter]) -> float:
    """The largest eigenvalue of the Hessian of `loss` with respect to `parameters`.

    By Lanczos (scipy) over Hessian-vector products; the Hessian itself is never formed.

    Args:
        loss: computes the loss [], differentiable twice.
        parameters: at least two numbers in all.

    Raises:
        FloatingPointError: the Hessian is not finite.

    Source: BDP (arXiv 2312.14200), Fig. 3 c; the measure is due to Zela et al. 2019.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh  # .1 s, which few searches need

    value = loss()
    gradients = torch.autograd.grad(value, parameters, create_graph=True)
    size = sum(parameter.numel() for parameter in parameters)

    def product(vector: np.ndarray) -> np.ndarray:
        flat = torch.as_tensor(vector, dtype=value.dtype, device=value.device).flatten()
        parts = flat.split([parameter.numel() for parameter in parameters])
        along = [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]
        rows = torch.autograd.grad(gradients, parameters, along, retain_graph=True)
        along_hessian = torch.cat([row.flatten() for row in rows])
        if not bool(along_hessian.isfinite().all()):
            raise FloatingPointError("the loss has no finite curvature here")
        return np.asarray(along_hessian.double().cpu())

    hessian = LinearOperator((size, size), matvec=product, dtype=np.float64)
    # A fixed start: the same search gives the same number.
    start = np.random.default_rng(0).standard_normal(size)
    return float(eigsh(hessian, k=1, which="LA", v0=start, return_eigenvectors=False)[0])
