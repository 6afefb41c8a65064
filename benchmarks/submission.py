"""Seconds and memory of submit.py on many test battles, evidence at hand.

    python benchmarks/submission.py --run runs/votes
    python benchmarks/submission.py --run runs/sample --rows 2000

The run's own test battles are repeated under other ids until there are ``--rows``; texts are
counted, states looked up and probes asked for each of them anew. Each copy of a battle must get the
probabilities that the battle itself gets, to the last bit.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    import _script  # noqa: F401

import numpy as np
import pandas as pd
import pyarrow as pa

from arena.battle_table import read_without_texts, texts_hash
from arena.feature_table import FeatureTable
from arena.schema import CLASSES
from common.parallel import peak_mib
from common.parquet import read_notes, read_table, write_table
from common.run_dir import RunDir
from pipelines import cli

ROWS = 25_000
SUBMIT = Path(__file__).resolve().parents[1] / "pipelines" / "submit.py"


def repeat(table: pa.Table, rows: int) -> pa.Table:
    """The rows of a table again and again, each time under other ids."""
    repeated = table.take(pa.array(np.arange(rows) % len(table)))
    ids = [f"{name}-{i}" for i, name in enumerate(repeated.column("id").to_pylist())]
    return repeated.set_column(
        repeated.schema.get_field_index("id"), "id", pa.array(ids, pa.string())
    )


def enlarge(run: RunDir, folder: Path, rows: int) -> None:
    """A run directory with the same model, and the test battles repeated."""
    folder.mkdir()
    shutil.copy(run.record, folder)
    shutil.copytree(run.model, folder / "model")
    battles = RunDir(folder).battles("test")
    write_table(battles, repeat(read_table(run.battles("test")), rows))
    texts = texts_hash(read_without_texts(battles))
    for path in run.views.rglob("test.parquet"):
        large, notes = repeat(read_table(path), rows), read_notes(path)
        target = folder / path.relative_to(run.folder)
        if "sha256" in notes:
            view = FeatureTable.read(path)
            values = view.values[np.arange(rows) % len(view.ids)]
            repeated = FeatureTable(large.column("id").to_pylist(), values, view.columns)
            repeated.write(target, texts, notes["source"])
        else:
            metadata = {**large.schema.metadata, b"battles": texts.encode()}
            write_table(target, large.replace_schema_metadata(metadata))
    # Stores are read by content, wherever they lie.
    if run.judges.exists():
        (folder / "finetune").symlink_to(run.judges.resolve())
    for store in (run.views / "hidden").glob("*/"):
        (folder / "views" / "hidden" / store.name).symlink_to(store.resolve())


def submit(folder: Path, out: Path) -> tuple[float, pd.DataFrame]:
    """Seconds, and the submission of a run."""
    start = time.perf_counter()
    command = [sys.executable, str(SUBMIT), "--run", str(folder), "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, pd.read_csv(out)


def main(arguments: argparse.Namespace) -> None:
    """Repeat, predict, compare, print."""
    run = RunDir(Path(arguments.run))
    run.require_battles("test")
    with tempfile.TemporaryDirectory() as scratch:
        few_seconds, few = submit(run.folder, Path(scratch) / "few.csv")
        large = Path(scratch) / "large"
        enlarge(run, large, arguments.rows)
        seconds, many = submit(large, Path(scratch) / "many.csv")
    own = few[list(CLASSES)].to_numpy()[np.arange(arguments.rows) % len(few)]
    np.testing.assert_array_equal(many[list(CLASSES)].to_numpy(), own)
    print(f"{len(few):,} rows: {few_seconds:.1f} s; {len(many):,} rows: {seconds:.1f} s")
    print(f"largest memory of a process {peak_mib():,.0f} MiB; the copies' probabilities are equal")


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--run", metavar="DIR", default="runs/sample", help="run with a model and tests")
    p.add_argument("--rows", type=cli.positive, default=ROWS, metavar="N", help="test battles")
    sys.exit(cli.run(main, p.parse_args()))
