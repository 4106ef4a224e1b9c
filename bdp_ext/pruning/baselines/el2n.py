"""EL2N (arXiv 2107.07075): one-shot pruning by the mean error of the first epochs."""

from torch import Tensor

from bdp_ext import ops
from bdp_ext.pruning import Passes
from bdp_ext.pruning.baselines.dynamics import Dynamics


class El2n(Dynamics):
    """The score is the norm of softmax(logits) - onehot(target); easy samples (low) go, all at
    once.

    The paper takes the mean over several networks early in their training; here it is the mean over
    the epochs before the schedule's first pruning (five by default) of the one network there is.
    With `--criterion` it is the BDP paper's Table 2.

    Source: Paul, Ganguli, Dziugaite, "Deep Learning on a Data Diet" (arXiv 2107.07075), Sec. 2.
    """

    name = "el2n"
    one_shot = True

    def initial_scores(self) -> dict[str, Tensor]:
        return {
            **super().initial_scores(),
            "total": self.per_sample(0),
            "epochs": self.per_sample(0),
        }

    def measure(self, logits: Tensor, target: Tensor, features: Tensor | None) -> Tensor:
        return ops.el2n(logits, target)

    def close(self, value: Tensor) -> None:
        self.scores["total"] += value.nan_to_num(0)
        self.scores["epochs"] += ~value.isnan()

    def score(self, samples: Tensor, num_requested: int, passes: Passes | None) -> Tensor:
        return self.scores["total"][samples] / self.scores["epochs"][samples]
