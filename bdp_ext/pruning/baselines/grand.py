"""GraNd (arXiv 2107.07075): one-shot pruning by the norm of each sample's gradient."""

from torch import Tensor

from bdp_ext.pruning.baselines.el2n import El2n


class GraNd(El2n):
    """The score is the gradient norm of the last layer's weights and bias; low ones go, all at
    once.

    The gradient of a linear layer's weights is (p - y) h^T, that of its bias p - y, so that the
    norm of both is |p - y| sqrt(1 + |h|^2): the EL2N score and the features h give it without a
    backward pass. Means are taken as in `El2n`.

    Source: Paul, Ganguli, Dziugaite, "Deep Learning on a Data Diet" (arXiv 2107.07075), Sec. 2; the
        gradient of the last layer only.
    """

    name = "grand"
    features = True

    def measure(self, logits: Tensor, target: Tensor, features: Tensor | None) -> Tensor:
        if features is None:
            raise ValueError("the grand pruner needs features: observe(index, logits, target, ...)")
        length = (1 + features.detach().float().square().sum(1)).sqrt()
        return super().measure(logits, target, features) * length
