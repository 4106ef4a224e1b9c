"""DARTS, first order (arXiv 1806.09055): alpha goes down the validation loss at the weights as they
are."""

from torch.nn.functional import cross_entropy

from bdp_ext.methods.method import Batch, Loss
from bdp_ext.spaces import Supernet


class Darts:
    """Cross-entropy on both levels."""

    name = "darts"

    def architecture_loss(self, supernet: Supernet, valid: Batch, train: Batch) -> Loss:
        return self.weights_loss(supernet, valid)

    def weights_loss(self, supernet: Supernet, train: Batch) -> Loss:
        logits = supernet(train.images)
        return Loss(cross_entropy(logits, train.target), logits)
