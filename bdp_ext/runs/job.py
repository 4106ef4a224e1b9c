"""What a run with a folder asks of the work it does: a search, a retraining."""

from typing import Any, Protocol

from bdp_ext.runs.settings import Settings


class Job(Protocol):
    """Epochs of steps, with state that can be saved between any two of them."""

    @property
    def kind(self) -> str:
        """A word for it, in sentences and in its checkpoints."""

    @property
    def config(self) -> Settings:
        """Plain values."""

    @property
    def history(self) -> list[dict[str, Any]]:
        """The records of the epochs that are over."""

    @property
    def epochs(self) -> int:
        """Epochs in all."""

    @property
    def epoch(self) -> int:
        """Epochs that are over."""

    @property
    def done(self) -> bool:
        """Whether it was the last one."""

    @property
    def steps(self) -> int:
        """Steps so far."""

    @property
    def epoch_steps(self) -> int:
        """Steps of the epoch under way."""

    @property
    def epoch_done(self) -> bool:
        """Whether the epoch's steps are done."""

    def step(self) -> None:
        """Do one step."""

    def end_epoch(self) -> dict[str, Any]:
        """Close the epoch; its record, of plain values."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed job needs, in mid-epoch too; loads with `weights_only=True`."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            UserError: it is of other images.
        """
