"""What the pruners of one level have in common: live samples, schedule, class caps, report, state.

A method is a subclass that scores samples: see `VoePruner`, and `baselines/`.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bdp_ext import ops
from bdp_ext.pruning.balance import CAPS, CapsExpression, balance_degree
from bdp_ext.pruning.history import PruningHistory
from bdp_ext.pruning.schedule import Schedule


@dataclass(frozen=True)
class Pruning:
    """What one pruning of one level did.

    Attributes:
        epoch: after which epoch, counted from 1.
        before: samples it chose from: the live ones; all, where pruned samples may come back.
        num_requested: samples that the schedule asked for.
        taken: samples pruned; fewer than requested when caps bind or samples have no score.
        after: live samples after it.
        unscored: samples without a score (by BDP: fewer than two errors in the window), which stay.
        balance_before: b of the samples before.
        balance_after: b of them after.
        capped_classes: the classes that would have lost more without their cap.
    """

    epoch: int
    before: int
    num_requested: int
    taken: int
    after: int
    unscored: int
    balance_before: float
    balance_after: float
    capped_classes: list[int]


class Outputs(NamedTuple):
    """What a network says of n samples."""

    logits: Tensor  # [n, C] float32
    target: Tensor  # [n] int64
    features: Tensor  # [n, D] float32, input of its last layer; D = 0 unless the pruner needs it


class Passes(NamedTuple):
    """Extra forward passes, for pruners that need more than training shows; the loop counts them.

    Attributes:
        own: the outputs for these samples [n] int64 of the pruner's level.
        valid: the outputs for all samples of the validation level.
    """

    own: Callable[[Tensor], Outputs]
    valid: Callable[[], Outputs]


def required(passes: Passes | None, pruner: str) -> Passes:
    """The passes that a method cannot do without.

    Raises:
        ValueError: there are none.
    """
    if passes is None:
        raise ValueError(f"the {pruner} pruner needs forward passes: give end_epoch(passes).")
    return passes


class Pruner:
    """Scores, and the live samples, of one data set; subclasses say what the scores are.

    The schedule says when how many samples go, and each class has a cap on what it may lose, so
    that methods can be compared at the same sizes.

    Args:
        labels: [N] int64, the class of every sample.
        schedule: when and how much.
        criterion: which score goes first, one of `criteria`.
        balance: "paper", "none", or an expression of your own for the caps N_i (see
            `CapsExpression`).
        min_per_class: samples that every class keeps.
        seed: of what the method draws at random.
        device: where the logits will be.

    Attributes:
        name: as the command line spells it.
        defaults: settings of `SearchConfig` that are usual for this method.
        criteria: what `criterion` may be.
        one_shot: prunes once, when the schedule's first pruning is due, down to what its last one
            would leave.
        readmits: every pruning chooses from all samples, so that pruned ones may come back.
        features: needs the input of the network's last layer.
        labels: [N] int64, on the pruner's device.
        scores: the method's own tensors; `initial_scores` makes them, and a state holds them.
        generator: for what the method draws; a state holds it.

    Raises:
        ValueError: an argument outside its range.
    """

    name = "pruner"
    defaults: Mapping[str, Any] = {"criterion": "low-low"}
    criteria: tuple[str, ...] = ("lowest", "highest")
    one_shot = False
    readmits = False
    features = False

    def __init__(
        self,
        labels: Tensor,
        schedule: Schedule,
        *,
        criterion: str = "lowest",
        balance: str | CapsExpression = "paper",
        min_per_class: int = 1,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if labels.dim() != 1 or labels.dtype != torch.int64 or labels.numel() == 0:
            raise ValueError(
                f"labels must be a non-empty 1-d int64 tensor, got {list(labels.shape)} "
                f"{labels.dtype}."
            )
        if int(labels.min()) < 0:
            raise ValueError(f"labels must be >= 0, got {int(labels.min())}.")
        if criterion not in self.criteria:
            raise ValueError(
                f"criterion must be one of {', '.join(self.criteria)}, got {criterion!r}."
            )
        if isinstance(balance, str) and balance not in CAPS:
            raise ValueError(f"balance must be one of {', '.join(CAPS)}, got {balance!r}.")
        if min_per_class < 1:
            raise ValueError(f"min_per_class must be >= 1, got {min_per_class}.")
        self.schedule = replace(schedule, one_shot=True) if self.one_shot else schedule
        self.criterion = criterion
        self.min_per_class = min_per_class
        self.epoch = 0
        self.prunings: list[Pruning] = []
        self.history = PruningHistory(labels.numel(), device)
        self._caps = CAPS[balance] if isinstance(balance, str) else balance
        self.labels = labels.to(device)
        self._classes = int(labels.max()) + 1
        # A label that no sample has (a class outside a subset) is no class of this data set.
        self._present = self._count(self.labels) > 0
        self.generator = torch.Generator().manual_seed(seed)
        self.scores = self.initial_scores()

    @property
    def live(self) -> Tensor:
        """[n] int64, the samples still there, ascending, on the pruner's device."""
        return self.history.live

    @property
    def weights(self) -> Tensor | None:
        """[N] float32, by which the loop multiplies each sample's loss; None: it does not."""
        return None

    @property
    def balance(self) -> float:
        """b of the live samples (Eq. 5)."""
        return self._balance(self._count(self.labels[self.live]))

    def observe(
        self, index: Tensor, logits: Tensor, target: Tensor, features: Tensor | None = None
    ) -> None:
        """Take notice of a batch that the loop computed anyway; a sample's first pass in an epoch
        counts.

        Args:
            index: [B] int64, which samples of this level these are.
            logits: [B, C] float32, float16 or bfloat16, on the pruner's device. Read detached.
            target: [B] int64.
            features: [B, D] floating, input of the network's last layer, where the method needs it.

        Raises:
            ValueError: wrong shape, dtype or device.
        """

    def end_epoch(self, passes: Passes | None = None) -> Pruning | None:
        """Close the epoch; prunes when the schedule says so and returns what was done, else None.

        A pruning that is due while no sample has a score does not happen. With a stage of the
        search the scores go, too: they are another network's.

        Args:
            passes: for the methods that ask for extra forward passes.
        """
        self.epoch += 1
        pruning = self.prune(passes) if self.is_due() else None
        if self.epoch in self.schedule.stage_ends:
            self.reset()
        return pruning

    def reset(self) -> None:
        """Begin anew: scores of another network are not to be compared with those to come."""
        self.scores = self.initial_scores()

    def report(self) -> list[dict[str, Any]]:
        """Every pruning so far, as plain values (see `Pruning`)."""
        return [asdict(pruning) for pruning in self.prunings]

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values; loads with `weights_only=True`."""
        return {
            "epoch": self.epoch,
            "scores": self.scores,
            "history": self.history.state_dict(),
            "generator": self.generator.get_state(),
            "prunings": self.report(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch = state["epoch"]
        self.scores = {k: score.to(self.labels.device) for k, score in state["scores"].items()}
        self.history.load_state_dict(state["history"])
        self.generator.set_state(state["generator"])
        self.prunings = [Pruning(**pruning) for pruning in state["prunings"]]

    def initial_scores(self) -> dict[str, Tensor]:
        """The method's own tensors as they are before the first sample."""
        return {}

    def score(self, samples: Tensor, num_requested: int, passes: Passes | None) -> Tensor:
        """The scores of samples [n] int64, `num_requested` of which are to go: [n] float32, on the
        pruner's device; NaN: the sample stays."""
        raise NotImplementedError

    def recorded(self, samples: Tensor, score: Tensor) -> Tensor:
        """What the record of a pruning says of these samples [n]: their score, or what it stands
        for: [n] float32."""
        return score

    def is_due(self) -> bool:
        """Whether the epoch that ends is one to prune after."""
        return self.epoch in self.schedule.prunings

    def num_requested(self, samples: int, live: int) -> int:
        """How many of so many samples, of which `live` are left, are to go."""
        return samples - live + self.schedule.num_requested(self.epoch, live, self.labels.numel())

    def prune(self, passes: Passes | None) -> Pruning | None:
        samples = live = self.live
        if self.readmits:
            samples = torch.arange(self.labels.numel(), device=live.device)
        before = samples.numel()
        label = self.labels.index_select(0, samples)
        counts = self._count(label)
        balance = self._balance(counts)
        num_requested = self.num_requested(before, live.numel())
        expression = self._caps(counts, balance, len(self.schedule.prunings))
        cap = expression.minimum(counts - self.min_per_class).clamp(min=0).to(samples.device)

        score = self.score(samples, num_requested, passes)
        known = ~score.isnan()
        if not (self.readmits or bool(known.any())):
            return None
        scored, score, label = (each.masked_select(known) for each in (samples, score, label))
        largest = self.criterion == "highest"
        mask, _ = ops.capped_topk(score, label, cap, num_requested, largest=largest)
        if self.readmits:
            self.history.restore()
        self.history.take(self.epoch, scored, self.recorded(scored, score), mask)

        taken = self._count(label.masked_select(mask))
        pruning = Pruning(
            epoch=self.epoch,
            before=before,
            num_requested=num_requested,
            taken=int(taken.sum()),
            after=before - int(taken.sum()),
            unscored=before - scored.numel(),
            balance_before=balance,
            balance_after=self._balance(counts - taken),
            capped_classes=_capped(score, label, mask, num_requested, largest),
        )
        self.prunings.append(pruning)
        return pruning

    def _count(self, label: Tensor) -> Tensor:
        return label.bincount(minlength=self._classes).cpu()

    def _balance(self, counts: Tensor) -> float:
        return balance_degree(counts[self._present])


def _capped(score: Tensor, label: Tensor, mask: Tensor, wanted: int, largest: bool) -> list[int]:
    """The classes with a sample that was passed over though it ranks before the last one taken.

    Only a full class is passed over; when less was taken than wanted, every class with samples left
    is full.
    """
    if wanted == 0:
        return []
    passed_over = ~mask
    if int(mask.sum()) >= wanted:
        ranked = -score if largest else score
        last = ranked[mask].max()
        position = torch.arange(score.numel(), device=score.device)
        last_position = position[mask & (ranked == last)].max()
        passed_over &= (ranked < last) | ((ranked == last) & (position < last_position))
    return sorted(set(label[passed_over].tolist()))
