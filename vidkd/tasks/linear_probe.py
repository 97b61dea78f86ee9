"""A linear probe: multinomial logistic regression on the features of a frozen network, solved to convergence."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from vidkd.base.errors import DataError
from vidkd.base.fields import Bounds, Positive
from vidkd.tasks.task import Rows, SolvedTask

log = logging.getLogger(__name__)

Vectors = NDArray[np.float64]
Labels = NDArray[np.int64]
ABSENT = -30.0
"""The logit of a class without a training clip; those of the others sum to zero, so it is never named."""


@dataclass(frozen=True, kw_only=True)
class LinearProbeConfig:
    """Settings of the linear probe.

    Args:
        strengths: of the regularisation, among which cross-validation over groups of the training clips chooses.
    """

    strengths: Annotated[tuple[Positive, ...], Bounds(min_length=1)] = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


class LinearProbe(SolvedTask):
    """The heads become the solution of `LogisticRegression` on the pooled vectors."""

    Config = LinearProbeConfig

    def solve(self, rows: Rows) -> dict[str, Any]:
        """Solve for every kind of label; returns the strength chosen for each and what the cross-validation found."""
        vectors, folds = rows.vectors.double().numpy(), rows.folds.numpy()
        record = {}
        for kind, (head, classes) in self.heads.items():
            targets = self.targets(rows, kind, classes)
            known = targets.sum(1) > 0
            if not known.any():
                raise DataError(f"no training clip has a label of the kind '{kind or 'label'}'", hint="more labels")
            found = (vectors[known], targets[known])
            strength, tried = choose_strength(*found, folds[known], self.config.strengths)
            weight, bias = LogisticRegression(*found).solve(strength)
            self.student.get_submodule(head).load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
            record[kind or "label"] = {"strength": strength, "cross_validation": tried}
        return record

    def targets(self, rows: Rows, kind: str, classes: int) -> Vectors:
        """What is learned of every row, probabilities (N, classes): its label; zeros where nothing is."""
        return one_hot(rows.labels[kind].numpy(), classes)


def one_hot(labels: Labels, classes: int) -> Vectors:
    """(N, classes) of labels (N,); zeros for -1."""
    return np.where(labels[:, None] >= 0, np.eye(classes)[labels], 0.0)


class LogisticRegression:
    """Multinomial logistic regression of probabilities (N, K), one-hot for labels, on vectors (N, D), for any strength of its penalty."""

    def __init__(self, vectors: Vectors, targets: Vectors) -> None:
        self.classes = targets.shape[1]
        self.seen = np.flatnonzero(targets.any(0))
        self.targets = targets[:, self.seen]
        self.mean, deviation = vectors.mean(0), vectors.std(0)
        self.deviation = np.where(deviation > 1e-9 * np.abs(self.mean), deviation, 1.0)
        # The minimum lies in the span of the rows, which has fewer axes than there are channels where clips are few.
        self.left, self.spread, self.axes = np.linalg.svd((vectors - self.mean) / self.deviation, full_matrices=False)

    def solve(self, strength: float) -> tuple[Vectors, Vectors]:
        """Weight (K, D) and bias (K,) at the minimum of the mean cross-entropy + strength / 2 * |weight|^2.

        The weight that is penalised is that of standardised vectors (mean zero, variance one, each channel), and the bias is not; what is
        returned is for the vectors themselves. By L-BFGS in double precision; logs a warning where that does not converge.
        """
        # Along a principal axis the curvature is about p (1 - p) = 1/4 of its variance; scaled by that, tens of steps do, not thousands.
        scale = (self.spread**2 / (4 * len(self.left)) + strength) ** -0.5
        inputs = np.concatenate([self.left * (self.spread * scale), np.ones((len(self.left), 1))], axis=1)
        penalty = np.append(strength * scale**2, 0.0)

        def objective(flat: Vectors) -> tuple[float, Vectors]:
            weight = flat.reshape(len(self.seen), -1)
            log_p = log_softmax(inputs @ weight.T, axis=1)
            gradient = (np.exp(log_p) - self.targets).T @ inputs / len(inputs) + penalty * weight
            return float(-(self.targets * log_p).sum() / len(inputs) + (penalty * weight**2).sum() / 2), gradient.ravel()

        start = np.zeros(len(self.seen) * inputs.shape[1])
        options = {"maxiter": 10_000, "maxfun": 20_000, "maxcor": 30, "gtol": 1e-8, "ftol": 1e-15}
        found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
        if not (gradient := float(np.abs(found.jac).max())) <= 1e-5:
            log.warning("the logistic regression of strength %g did not converge: a gradient of %.1e is left", strength, gradient)
        solution = found.x.reshape(len(self.seen), -1)
        weight, bias = np.zeros((self.classes, len(self.mean))), np.full(self.classes, ABSENT)
        weight[self.seen] = (solution[:, :-1] * scale) @ self.axes / self.deviation
        bias[self.seen] = solution[:, -1] - weight[self.seen] @ self.mean
        return weight, bias


def choose_strength(vectors: Vectors, targets: Vectors, folds: Labels, strengths: Sequence[float]) -> tuple[float, list[dict[str, float]]]:
    """The strength with the highest top-1 over rows that are left out fold by fold, ties going to the lower negative log-likelihood.

    Right is the most probable class of the targets. Rows of a class that has no mass in the other folds judge nothing. Where no row judges
    (a single group), it is the middle strength. Returns it, and what each reached.
    """
    labels = targets.argmax(1)
    scores: dict[float, list[Vectors]] = {strength: [] for strength in strengths}
    for fold in np.unique(folds):
        rest = folds != fold
        judged = ~rest & targets[rest].any(0)[labels]
        if not judged.any() or len(strengths) == 1:
            continue
        regression = LogisticRegression(vectors[rest], targets[rest])
        for strength, found in scores.items():
            weight, bias = regression.solve(strength)
            log_p = log_softmax(vectors[judged] @ weight.T + bias, axis=1)
            own = np.take_along_axis(log_p, labels[judged, None], axis=1)[:, 0]
            found.append(np.stack([log_p.argmax(1) == labels[judged], -own]))
    means = {strength: np.concatenate(found, axis=1).mean(1).round(6).tolist() for strength, found in scores.items() if found}
    tried = [{"strength": strength, "agreement": agreement, "nll": nll} for strength, (agreement, nll) in means.items()]
    if not tried:
        return strengths[len(strengths) // 2], []
    return min(tried, key=lambda of: (-of["agreement"], of["nll"]))["strength"], tried
