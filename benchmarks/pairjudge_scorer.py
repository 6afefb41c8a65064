"""Scores battles with a trained pairjudge; run by pairjudge_rival.py in pairjudge's environment.

rival/bin/python benchmarks/pairjudge_scorer.py JUDGE OUT     reads OUT/test.jsonl
"""

import json
import sys
from pathlib import Path

import pandas as pd
from pairjudge import PairwiseJudge
from pairjudge.judge import swap_average


def main(bundle: str, out: Path) -> None:
    """Write the probabilities of A, B, tie of each row to scores.json, null where it cannot."""
    judge = PairwiseJudge.from_pretrained(bundle, device="cpu", local_files_only=True)
    battles = pd.read_json(out / "test.jsonl", lines=True, dtype={"id": str})
    swapped = battles.rename(columns={"response_a": "response_b", "response_b": "response_a"})
    usable = [
        judge.packer.pack(prompt, a, b).usable and judge.packer.pack(prompt, b, a).usable
        for prompt, a, b in zip(
            battles["prompt"], battles["response_a"], battles["response_b"], strict=True
        )
    ]
    one, other = (judge.predict_proba(x[usable], batch_size=1) for x in (battles, swapped))
    scores = {}
    for name, values in (("one order", one), ("both orders", swap_average(one, other))):
        rows = iter(values.tolist())
        scores[name] = [next(rows) if known else None for known in usable]
    (out / "scores.json").write_text(json.dumps(scores))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
