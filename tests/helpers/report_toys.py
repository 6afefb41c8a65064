"""A toy run for the report: random forecasts, and battles whose texts try everything."""

import numpy as np
import pandas as pd

from arena.schema import COLUMNS
from meta.metrics.slices import score_families
from meta.report.figures import figures
from meta.stack.predictions import Predictions

HOSTILE = [
    "<script>document.title = 'ran'</script>",
    "<img src=x onerror=\"document.title = 'ran'\">",
    "<a href=\"javascript:document.title = 'ran'\">click</a>",
    "</style><style>main { display: none }</style>",
    "</svg></title></div></main><script>document.title = 'ran'</script>",
    '"><script>document.title = "ran"</script><!--',
    "{{ 7 * 7 }} {% raw %}",
    "\x00\x07\x1b[31m red \x7f \ud800 \udfff \u202e reversed \ufffe",
    "x" * 100_000,
    "",
]


def toy_predictions(n=120, seed=0):
    """Forecasts of battles, three of each prompt; the votes are drawn from ``meta``."""
    rng = np.random.default_rng(seed)
    meta = rng.dirichlet([2, 2, 1], n)
    labels = (np.log(meta) + rng.gumbel(size=(n, 3))).argmax(axis=1)
    blurred = meta**0.5 / (meta**0.5).sum(axis=1, keepdims=True)
    flat = np.full((n, 3), 1 / 3)
    forecasts = {"uniform": flat, "prior": flat, "length": flat, "style": blurred}
    forecasts |= {"meta_uncalibrated": meta, "meta": meta}
    ids = [f"b{i}" for i in range(n)]
    return Predictions(ids, np.array([f"g{i // 3}" for i in range(n)]), labels, forecasts)


def toy_battles(predictions, texts=HOSTILE):
    """The battles of the predictions; every text is used as prompt, as answer and as name."""
    rows = []
    for i, battle in enumerate(predictions.ids):
        one, two = texts[i % len(texts)], texts[(i + 1) % len(texts)]
        turns = {"prompt": [one, two], "response_a": [two, None], "response_b": [one]}
        names = [text[:200].encode("utf-8", "replace").decode() for text in (one, two)]
        rows.append({"id": battle, **turns, "model_a": names[0], "model_b": names[1]})
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def toy_reasons(predictions, family="verbosity"):
    """Length speaks for A by 1, the prompt against a tie by a half."""
    n = len(predictions.ids)
    columns = {f"side.{family}": np.ones(n), "side.prompt_type": np.zeros(n)}
    columns |= {f"tie.{family}": np.zeros(n), "tie.prompt_type": np.full(n, -0.5)}
    return pd.DataFrame({"id": predictions.ids, **columns, "tie.base": 0.0, "words": "w"})


def toy_figures(predictions, names=("<b>bold</b>", "plain")):
    """What train_meta.py would write of them."""
    meta = predictions.probabilities["meta"]
    metrics = figures(predictions.probabilities, predictions.labels, predictions.groups)
    slices = np.array([names[i % len(names)] for i in range(len(meta))])
    check = {"code": "C01", "name": "toy <i>check</i>", "verdict": "fail", "figure": 0.5}
    check |= {"threshold": 0.1, "interval": (0.4, 0.6), "sentence": "It <b>fails</b>."}
    return {
        **metrics,
        "slices": score_families(meta, predictions.labels, predictions.groups, {"<u>f": slices}),
        "audit": [check, {**check, "verdict": "not applicable", "interval": (None, None)}],
        "importance": {"verbosity": {"side": 1.0, "tie": 0.0}, "<i>own": {"side": 0.0, "tie": 0.5}},
        "ablation": {"style": {"log_loss": 0.9, "lower_by": 0.01, "interval": [0.001, 0.02]}},
        "swap_gap": 1e-16,
        "model": {"calibrator": "none", "folds": 5, "trials": 1, "bags": 1, "hash": "0"},
    }
