"""An exported classifier where a network is asked for: judged on the same batches as the one that it comes from."""

from torch import Tensor, nn
from torch import from_numpy as tensor

from vidkd.models.classifier import ClassifierOutput
from vidkd.runtime.clip_classifier import ExportedClassifier
from vidkd.runtime.metadata import ATTENTION, LOGITS, View, target_output


class ExportedModule(nn.Module):
    """Runs an `ExportedClassifier` on tensors; it has no weights here, no features, and cannot be trained."""

    def __init__(self, classifier: ExportedClassifier) -> None:
        super().__init__()
        self._classifier = classifier
        self.view: View = classifier.view
        self.targets = {name: len(names) for name, names in classifier.metadata.targets.items()}

    def forward(self, clip: Tensor, observed: Tensor | None = None) -> ClassifierOutput:
        """As of `VideoClassifier`; `features` and `pooled` are empty."""
        found = self._classifier.raw(clip.cpu().numpy(), None if observed is None else observed.cpu().numpy())
        attention = {"motion": tensor(found[ATTENTION])} if ATTENTION in found else {}
        targets = {name: tensor(found[target_output(name)]) for name in self.targets}
        return ClassifierOutput(tensor(found[LOGITS]), attention, {}, clip.new_empty(0), targets)
