"""Which command comes next on a run, told by the run's own files."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pyarrow.parquet as pq

from arena.view import STYLE
from common.files import read_object
from common.parquet import read_notes
from common.run_dir import RunDir
from embeddings.view_kinds import LOGITS, VERDICT
from meta.base_models.pair_probe import PairProbe


def next_step(run: RunDir, *, submitted: bool = False) -> str:
    """The next command with its arguments, such as ``train_meta.py --run runs/mine``; "" for none.

    Args:
        run: the run.
        submitted: whether its test battles have just been predicted.

    Raises:
        UserError: a file of the run is damaged.
    """
    of_run = f"--run {run.folder}"
    bundle = read_object(run.model / "bundle.json") if run.model_hash() else None
    has_train, has_test = (run.battles(split).exists() for split in ("train", "test"))
    if bundle is None or (has_train and is_outdated(run)):
        return f"train_meta.py {of_run}" if has_train else f"extract.py --train FILE {of_run}"
    if not has_test:
        return f"extract.py --test FILE {of_run}"
    if command := _missing_view(run, bundle):
        return f"{command} {of_run}"
    if submitted:
        return f"evaluate.py {of_run}" if votes_are_known(run) else ""
    return f"submit.py {of_run}"


def evidence_hash(run: RunDir) -> str:
    """Hash of the training battles and of their views, by which a model is known to be of them."""
    record = run.read_record()
    views = {path.parent.name: read_notes(path) for path in run.views.glob("*/train.parquet")}
    parts = (
        record.get("inputs", {}).get("train", {}).get("sha256"),
        record.get("style", {}).get("train"),
        {view: [notes.get(key) for key in ("battles", "source")] for view, notes in views.items()},
    )
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def is_outdated(run: RunDir) -> bool:
    """Whether the training battles, or their views, have changed since the model was trained."""
    trained = run.read_record().get("trained", "")
    return bool(trained) and trained != evidence_hash(run)


def votes_are_known(run: RunDir) -> bool:
    """Whether ``evaluate.py`` finds votes of the test battles without being given a file."""
    if run.is_sample("test"):
        return True
    labels = pq.read_table(run.battles("test"), columns=["label"]).column("label")
    return any(label >= 0 for label in labels.to_pylist())


def _missing_view(run: RunDir, bundle: dict[str, Any]) -> str:
    """The command that makes a view of the test battles that the model needs and that is not there.

    Those of ``extract.py`` are there: it has made the battles.
    """
    battles = _texts(run, STYLE.name)
    kinds = bundle.get("kinds")
    for view, name in kinds.items() if isinstance(kinds, dict) else ():
        if name in (LOGITS.name, VERDICT.name):
            kind = LOGITS if name == LOGITS.name else VERDICT
            command = f"{kind.command} --view {view}"
        elif name == PairProbe.kind.name:
            command = PairProbe.kind.command
        else:
            continue
        if _texts(run, view) != battles:
            return command
    return ""


def _texts(run: RunDir, view: str) -> str | None:
    """Hash of the texts that a view of the test battles is of; ``None`` where there is no view."""
    path = run.views / view / "test.parquet"
    return read_notes(path).get("battles") if path.exists() else None
