"""The input of a supernet's last layer, for pruners that look at it."""

from typing import Any

from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from bdp_ext.errors import UserError


class Features:
    """Remembers what went into `classifier` as long as the logits that came out are there.

    Args:
        supernet: with a submodule `classifier` that gives its logits.

    Raises:
        UserError: it has none.
    """

    def __init__(self, supernet: nn.Module) -> None:
        classifier = getattr(supernet, "classifier", None)
        if not isinstance(classifier, nn.Module):
            raise UserError(
                f"this --pruner looks at the input of the supernet's last layer, but "
                f"{type(supernet).__name__} has no module `classifier`: name its last layer so, or "
                "choose another --pruner."
            )
        self._of = WeakTensorKeyDictionary()
        classifier.register_forward_hook(self._remember)

    def of(self, logits: Tensor) -> Tensor:
        """[B, D], from which the supernet computed these logits [B, classes]; detached."""
        features: Tensor = self._of[logits]
        return features

    def _remember(self, classifier: nn.Module, inputs: tuple[Any, ...], logits: Tensor) -> None:
        self._of[logits] = inputs[0].detach()
