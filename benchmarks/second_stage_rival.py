"""AutoGluon on a design matrix, run by benchmarks/second_stage.py in an environment of its own.

python second_stage_rival.py DESIGN.npz FOUND.npy SECONDS THREADS PRESET
"""

import json
import sys
import tempfile
import time
from importlib.metadata import version

import numpy as np
import pandas as pd
from autogluon.tabular import TabularPredictor


def main(design: str, out: str, limit: int, threads: int, preset: str) -> None:
    """Train within ``limit`` seconds, write the held-out probabilities, print seconds as JSON."""
    with np.load(design) as arrays:
        train, labels, held = (arrays[name] for name in ("train", "labels", "held"))
    names = [f"c{i}" for i in range(train.shape[1])]
    table = pd.DataFrame(train, columns=names).assign(label=labels)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        predictor = TabularPredictor("label", eval_metric="log_loss", path=folder, verbosity=0)
        predictor.fit(table, presets=preset, time_limit=limit, num_cpus=threads, num_gpus=0)
        probabilities = predictor.predict_proba(pd.DataFrame(held, columns=names))
        seconds = time.perf_counter() - start
        best = predictor.model_best
    np.save(out, probabilities[[0, 1, 2]].to_numpy())
    print(json.dumps({"seconds": seconds, "best": best, "version": version("autogluon.tabular")}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
