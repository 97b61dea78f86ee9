"""What is trained, to the engine: a student, named losses from a batch, and what to save besides the student."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from vidkd.base.errors import CheckpointError

Batch = Mapping[str, Any]


class Trainable(nn.Module):
    """A student and the loss that it learns from; what else trains (projectors) is saved beside it.

    student: the network that is kept and judged.
    """

    student: nn.Module

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The training step (so that wrappers for several devices see it)."""
        return self.training_step(batch)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Scalar losses by name; "loss" is the one to minimise, the others are its terms before weighting."""
        raise NotImplementedError

    def head_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters of the student that a fine-tuning teaches faster (`optim.head_lr_factor`)."""
        return ()

    def saved_state(self) -> dict[str, Tensor]:
        """What training changes besides the student (projectors); the teacher is left out."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith(("teacher.", "student."))}

    def load_saved_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `saved_state` gave. Raises CheckpointError if the names differ."""
        expected = set(self.saved_state())
        if expected != set(state):
            raise CheckpointError("the checkpoint's task has other parts", expected=sorted(expected), found=sorted(state))
        self.load_state_dict(state, strict=False)
