"""beta-DARTS (arXiv 2203.01665): alpha is kept from growing apart by a beta-decay regulariser."""

import torch

from bdp_ext.methods.method import Batch, Loss, Method, Step

LAMBDA = 50.0


class BetaDarts(Method):
    """Adds lambda * mean over edges of logsumexp(alpha); lambda rises from 0 to 50 linearly."""

    name = "beta-darts"

    def architecture_loss(self, step: Step, valid: Batch) -> Loss:
        loss = super().architecture_loss(step, valid)
        weight = LAMBDA * step.epoch / max(1, step.epochs - 1)
        alphas = [alpha for alpha in step.supernet.alphas() if alpha.dim() == 2]
        edges = torch.cat([alpha.logsumexp(1) for alpha in alphas])
        return Loss(loss.value + weight * edges.mean(), loss.logits)
