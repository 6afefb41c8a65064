"""A linear probe of frozen states: where a judge's head starts.

Trained from a random head, the gradients of the first steps distort states that were good; with a
head that already reads them well they do not ("LP-FT", Kumar et al. 2022, arXiv 2202.10054).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import log_softmax

from arena.folds import fold_of
from common.errors import Code, UserError

PENALTIES = (300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0)
"""Ridge penalties to choose from: of half the squared weights, beside the sum of the losses."""

FOLDS = 3
STEPS = 100
"""Most steps of L-BFGS."""


@dataclass(frozen=True)
class Probe:
    """Multinomial logistic regression of standardised states.

    Attributes:
        mean: float32 (f,).
        scale: standard deviation, 1 where a coordinate never changes; float32 (f,).
        weight: float32 (3, f).
        bias: float32 (3,).
        penalty: what was chosen.
    """

    mean: torch.Tensor
    scale: torch.Tensor
    weight: torch.Tensor
    bias: torch.Tensor
    penalty: float


def fit_probe(states: torch.Tensor, targets: torch.Tensor, groups: Sequence[str]) -> Probe:
    """Fit a probe; its ridge penalty is chosen by cross-validation over prompt groups.

    Args:
        states: float32 (n, f) of float16's range, changed here, since there may be no room for a
            copy. Rows that are not finite are left out.
        targets: probabilities of A, B and tie, float32 (n, 3).
        groups: prompt group of each row, n.

    Raises:
        UserError: no row is finite.
    """
    # Of float16's range, sums do not overflow; a test of each number would take a copy.
    finite = torch.isfinite(states.sum(dim=1))
    if not finite.any():
        raise UserError(
            Code.STATES_NOT_FINITE,
            f"None of the {len(states):,} training sequences has finite states. Set dtype: float32 "
            "in the backbone's YAML, or take another backbone.",
        )
    if not finite.all():
        states, targets = states[finite], targets[finite]
    kept = [group for group, known in zip(groups, finite.tolist(), strict=True) if known]
    folds = fold_of(kept, FOLDS)
    mean, scale = states.mean(dim=0), states.std(dim=0, correction=0)
    scale[scale == 0] = 1
    standardized = states.sub_(mean).div_(scale)
    penalty = _select_penalty(standardized, targets, folds)
    weight, bias = _solve(standardized, targets, penalty)
    return Probe(mean, scale, weight, bias, penalty)


def _select_penalty(states: torch.Tensor, targets: torch.Tensor, folds: np.ndarray) -> float:
    """The penalty of the lowest cross-validated loss."""
    losses = dict.fromkeys(PENALTIES, 0.0)
    for k in range(FOLDS):
        val_mask = torch.from_numpy(folds == k).to(states.device)
        if val_mask.all() or not val_mask.any():
            continue
        train_states, train_targets = states[~val_mask], targets[~val_mask]
        for penalty in PENALTIES:
            weight, bias = _solve(train_states, train_targets, penalty)
            losses[penalty] += float(_loss(states[val_mask] @ weight.T + bias, targets[val_mask]))
    return min(PENALTIES, key=losses.__getitem__)


def _loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return -(targets * log_softmax(logits, dim=1)).sum()


def _solve(
    states: torch.Tensor, targets: torch.Tensor, penalty: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of the lowest penalised loss, by L-BFGS."""
    device = states.device
    weight = torch.zeros(targets.shape[1], states.shape[1], device=device, requires_grad=True)
    bias = torch.zeros(targets.shape[1], device=device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def objective() -> torch.Tensor:
        optimizer.zero_grad()
        loss = _loss(states @ weight.T + bias, targets) + penalty / 2 * weight.square().sum()
        loss = loss / len(states)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(objective)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
