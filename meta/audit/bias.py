"""Checks of bias: does the forecast reward a property of an answer more than people do?

Verbosity, formatting, self-promotion and refusal share one method. Among the decided battles, the
votes (1 where A won) and the forecast P(A) / (P(A) + P(B)) are each regressed on the same
difference x between A and B, by logistic regression without intercept. A forecast that is
calibrated along x has the slope of the votes, whatever evidence it rests on: both regressions see
the same battles, so what x goes along with (quality, above all) is the same in both slopes, and a
gap between them is the model's own. Where it helps, the length is held constant.

The gap counts in the direction of the forecast's slope, and votes with the opposite slope count as
a slope of 0: a positive gap is a bias, made or amplified by the model; a negative one means that
the model uses the property less than people do, which is caution.
"""

from __future__ import annotations

import numpy as np

from arena.schema import TIE, A, B
from meta.audit.context import AuditContext, Result, not_applicable
from meta.audit.registry import check
from meta.audit.statistics import SURE, slope_gap, subsample
from meta.base_models.baselines import length_columns
from meta.metrics.scores import clustered

POSITION_EFFECT = 0.04
"""Share of A's wins minus B's at which a symmetric model loses .001 nats."""

MIN_DECIDED, MIN_DIFFERENT = 60, 20
"""With fewer decided battles, or fewer in which the answers differ in x, a check does not apply."""

MAX_DECIDED = 12_000
"""Decided battles that are looked at."""

DRAWS = 200
"""For a standard error, which 200 draws give to 5%."""

SLOPE_GAP = 0.05
"""Log-odds per unit of x, about a percentage point in an even battle: less needs no correction."""


@check("C02")
def position(context: AuditContext) -> Result:
    """Do people vote for the answer that stands first?

    The model is exactly symmetric, so it cannot use the position; if the votes favour one side by d
    and a share t of them are ties, that costs about d² / (2 (1 - t)) nats (second order of the
    divergence between the two sides' shares). Figure: d, the share of A's wins minus B's, of all
    scored battles. Threshold: .04, where the cost is .001 nats, about what calibration gains; fails
    where the figure is larger and its 99% interval excludes 0. The LMSYS votes have .007.
    """
    shares = context.shares
    if not len(shares):
        return not_applicable("No battle was scored.")
    effect, error = clustered(shares[:, A] - shares[:, B], context.groups)
    low, high = effect - SURE * error, effect + SURE * error
    decided = max(float((shares[:, A] + shares[:, B]).mean()), 1e-9)
    cost = effect**2 / (2 * decided)
    fails = abs(effect) > POSITION_EFFECT and (low > 0 or high < 0)
    measured = (
        f"A wins {100 * effect:+.1f} percentage points of the votes more than B (99% interval "
        f"{100 * low:+.1f} to {100 * high:+.1f})"
    )
    if context.one_order is not None:
        model = float((context.one_order[:, A] - context.one_order[:, B]).mean())
        measured += f"; the model, before both orders are averaged, {100 * model:+.1f}"
    if fails:
        meaning = (
            f"The symmetric model loses about {cost:.4f} nats: check whether the file puts the "
            "better answer first, and shuffle the sides if it does."
        )
    else:
        meaning = f"Ignoring the position costs the symmetric model about {cost:.5f} nats."
    return Result(
        "fail" if fails else "pass",
        f"{measured}. {meaning}",
        effect,
        POSITION_EFFECT,
        (low, high),
    )


@check("C04")
def verbosity_bias(context: AuditContext) -> Result:
    """Does the model favour the longer answer more than people do?

    Unit: one doubling of the length ratio, in characters.
    """
    return property_bias(
        context,
        length_ratio(context),
        "doubling of A's length against B's",
        "train on more battles or regularise more, and look at the slices by length gap.",
        equal_length=False,
    )


@check("C05")
def formatting_bias(context: AuditContext) -> Result:
    """Does the model favour headers, bold type and lists more than people do?

    Unit: one doubling of (1 + marks) in one of the four kinds.
    """
    signals = ("headers", "bold", "bullets", "numbered")
    return property_bias(
        context,
        mark_ratio(context, *(f"formatting.{signal}" for signal in signals)),
        "doubling of headers, bold passages or list items",
        "its evidence of formatting is over-fitted; train on more battles or with fewer columns.",
        equal_length=True,
    )


@check("C06")
def self_promotion_bias(context: AuditContext) -> Result:
    """Does the model reward answers that name or praise themselves?

    Unit: one doubling of (1 + mentions) in one of the three kinds.
    """
    signals = ("names_itself", "identity", "self_praise")
    return property_bias(
        context,
        mark_ratio(context, *(f"self_promotion.{signal}" for signal in signals)),
        "doubling of an answer's words about itself",
        "an answer could win by advertising itself; do not rank models with it before this is "
        "corrected.",
        equal_length=True,
    )


@check("C07")
def refusal_bias(context: AuditContext) -> Result:
    """Does the model punish, or reward, a refusal more than people do?

    Unit: from no refusal to a full one, graded by ``features.refusal``.
    """
    return property_bias(
        context,
        context.difference("refusal.refusal"),
        "full refusal",
        "look at the battles in which one answer refuses, above all where it should.",
        equal_length=True,
    )


def length_ratio(context: AuditContext) -> np.ndarray:
    """Doublings of A's characters against B's: log to base 2 of their ratio; float64 (m,)."""
    ratio: np.ndarray = length_columns(context.lengths)[0][:, 1] / np.log(2)
    return ratio


def mark_ratio(context: AuditContext, *signals: str) -> np.ndarray | None:
    """Doublings of A's marks against B's, from signals that are log(1 + count); float64 (m,).

    None where the design matrix has none of the signals.
    """
    difference = context.difference(*signals)
    return None if difference is None else difference / np.log(2)


def property_bias(
    context: AuditContext, x: np.ndarray | None, unit: str, remedy: str, *, equal_length: bool
) -> Result:
    """Compare the slopes of forecast and votes on ``x``.

    Args:
        context: what is audited.
        x: float64 (m,), a difference A minus B; None where the design matrix lacks it.
        unit: what one unit of ``x`` is, in words.
        remedy: what to do about a bias.
        equal_length: whether to hold the length ratio constant.

    Returns:
        Figure: gap of the slopes in log-odds per unit; threshold ``SLOPE_GAP``; 99% interval. Fails
        where the gap is larger and the interval lies above 0.
    """
    if x is None:
        return not_applicable("The design matrix lacks the handcrafted signals of this check.")
    decided = np.flatnonzero(context.winners != TIE)
    rows = decided[subsample(len(decided), MAX_DECIDED)]
    different = int(np.count_nonzero(x[rows]))
    if len(rows) < MIN_DECIDED or different < MIN_DIFFERENT:
        return not_applicable(
            f"{len(rows):,} decided battles, of which {different:,} differ in it, are too few."
        )
    columns = [x[rows]] + ([length_ratio(context)[rows]] if equal_length else [])
    sides, voted = context.meta[rows][:, [A, B]], context.shares[rows][:, [A, B]]
    forecast_slope, vote_slope, error = slope_gap(
        np.stack(columns, axis=1),
        sides[:, 0] / np.maximum(sides.sum(axis=1), 1e-12),
        voted[:, 0] / voted.sum(axis=1),
        context.groups[rows],
        DRAWS,
    )
    gap, unused = _excess(forecast_slope, vote_slope), _excess(vote_slope, forecast_slope)
    low, high = gap - SURE * error, gap + SURE * error
    fails = gap > SLOPE_GAP and low > 0
    drawn = "" if len(rows) == len(decided) else f" drawn from {len(decided):,}"
    measured = (
        f"Per {unit}{', at equal length,' if equal_length else ''} the forecast's log-odds of A "
        f"against B move by {forecast_slope:+.2f} and the votes' by {vote_slope:+.2f} "
        f"({len(rows):,} decided battles{drawn}; gap {gap:+.2f}, 99% interval {low:+.2f} to "
        f"{high:+.2f})."
    )
    if fails:
        meaning = f"The model gives it more weight than people do: {remedy}"
    elif unused > SURE * error:
        meaning = "The model gives it less weight than people do: no bias, but evidence is unused."
    else:
        meaning = "The model gives it no more weight than people do, as far as so many votes tell."
    return Result("fail" if fails else "pass", f"{measured} {meaning}", gap, SLOPE_GAP, (low, high))


def _excess(slope: float, other: float) -> float:
    """How much steeper ``slope`` is than ``other``, in the direction of ``slope``."""
    return abs(slope) - max(0.0, other if slope >= 0 else -other)
