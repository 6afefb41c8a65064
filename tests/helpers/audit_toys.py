"""A toy case for the audit: the forecast is the true probability that the votes are drawn from."""

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import softmax

from arena.battle_texts import BattleTexts
from arena.feature_table import Column, FeatureTable
from arena.folds import assign_groups
from arena.schema import digest
from meta.audit import CHECKS, AuditContext
from meta.audit.bias import length_ratio

SIGNALS = (
    "formatting.headers",
    "formatting.bold",
    "formatting.bullets",
    "formatting.numbered",
    "self_promotion.names_itself",
    "self_promotion.identity",
    "self_promotion.self_praise",
    "refusal.refusal",
)
COLUMNS = {
    **{f"style.{name}.diff": Column("anti", name.partition(".")[0]) for name in SIGNALS},
    "style.anti": Column("anti"),
    "style.sym": Column("sym"),
    "style.left": Column("paired", "", "style.right"),
    "style.right": Column("paired", "", "style.left"),
}


def battles_of(rng, n, start=0):
    """Battles of random lengths, two of each prompt."""
    texts = [[f"{start + i} " + "a" * size] for i, size in enumerate(rng.integers(5, 400, 2 * n))]
    table = pd.DataFrame(
        {
            "id": [str(start + i) for i in range(n)],
            "prompt": [[f"Question number {start + i // 2}?"] for i in range(n)],
            "response_a": texts[:n],
            "response_b": texts[n:],
        }
    )
    return with_names(table)


def with_names(table):
    """Fill in key and group, which follow from the texts."""
    rows = zip(table["prompt"], table["response_a"], table["response_b"], strict=True)
    return table.assign(key=[digest(row) for row in rows], group=assign_groups(table))


def values_of(rng, n):
    """Counts for the handcrafted signals, normal values for the others."""
    marks = np.log1p(rng.poisson(0.7, (n, len(SIGNALS))))
    signals = marks - np.log1p(rng.poisson(0.7, (n, len(SIGNALS))))
    return np.concatenate([signals, rng.normal(size=(n, 4))], axis=1).astype(np.float32)


def forecast(side, tie):
    """Probabilities from log-odds of A against B and a score of the tie."""
    return softmax(np.stack([side / 2, -side / 2, tie], axis=1), axis=1)


def side_of(case, length=0.3, **extra):
    """Log-odds of A against B: length, the column anti, and ``extra`` weights of signals."""
    x = dict(zip(case.design.names, case.design.values.T.astype(float), strict=True))
    side = length * length_ratio(case) + 0.8 * x["style.anti"]
    for family, weight in extra.items():
        names = [name for name in SIGNALS if name.startswith(family)]
        side = side + weight * sum(x[f"style.{name}.diff"] for name in names)
    return side


def tie_of(case):
    return 0.7 * case.design.values[:, COLUMN["style.sym"]].astype(float) - 0.4


COLUMN = {name: i for i, name in enumerate(COLUMNS)}


def toy_case(n=1200, seed=0, test=300):
    """A case that every check passes."""
    rng = np.random.default_rng(seed)
    battles = battles_of(rng, n)
    design = FeatureTable(battles["id"].tolist(), values_of(rng, n), COLUMNS)
    uniform = np.full((n, 3), 1 / 3)
    labels, texts = np.zeros(n, dtype=np.int64), BattleTexts(battles)
    case = AuditContext(
        battles, texts, labels, np.arange(n), {"meta": uniform}, design, swap_gap=0.0
    )
    truth = forecast(side_of(case), tie_of(case))
    labels = (np.log(truth) + rng.gumbel(size=truth.shape)).argmax(axis=1)
    shares = np.bincount(labels, minlength=3) / n
    probabilities = {
        "uniform": uniform,
        "prior": np.tile(shares, (n, 1)),
        "length": forecast(0.3 * length_ratio(case), np.full(n, -0.4)),
        "style": forecast(0.7 * side_of(case), tie_of(case)),
        "meta_uncalibrated": truth,
        "meta": truth,
    }
    case = replace(case, labels=labels, probabilities=probabilities, folds=np.arange(n) % 5)
    if not test:
        return case
    fresh = battles_of(rng, test, start=1_000_000)
    view = FeatureTable(fresh["id"].tolist(), values_of(rng, test), COLUMNS)
    return replace(case, test_battles=fresh, test_texts=BattleTexts(fresh), test_design=view)


def with_meta(case, probabilities):
    return replace(case, probabilities={**case.probabilities, "meta": probabilities})


def with_column(case, name, values):
    """The case with other values in one column."""
    changed = case.design.values.copy()
    changed[:, COLUMN[name]] = values
    return replace(case, design=FeatureTable(case.design.ids, changed, COLUMNS))


def check(code, case):
    """The result of one check."""
    return CHECKS[code](case)
