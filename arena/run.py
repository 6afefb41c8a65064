"""Where everything of a run lies."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from arena.errors import UserError
from arena.files import read_json, write_json
from arena.lock import alone, hold

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Run:
    """The files of one run directory; docs/DECISIONS.md draws the tree."""

    folder: Path

    @property
    def record(self) -> Path:
        """What was asked, versions, hashes."""
        return self.folder / "run.json"

    def battles(self, split: str) -> Path:
        """The canonical table of a split."""
        return self.folder / "battles" / f"{split}.parquet"

    @property
    def rejected(self) -> Path:
        """Rows set aside, of all splits, with their reasons."""
        return self.folder / "battles" / "rejected.csv"

    @property
    def views(self) -> Path:
        """One folder a view."""
        return self.folder / "views"

    @property
    def judges(self) -> Path:
        """Fine-tuned models and what they were made with."""
        return self.folder / "finetune"

    @property
    def study(self) -> Path:
        """Optuna's SQLite storage."""
        return self.folder / "study.db"

    @property
    def model(self) -> Path:
        """The model bundle."""
        return self.folder / "model"

    @property
    def metrics(self) -> Path:
        """The honest figures of the run."""
        return self.folder / "metrics.json"

    @property
    def comparison(self) -> Path:
        """What ``compare.py`` found."""
        return self.folder / "comparison.json"

    @property
    def predictions(self) -> Path:
        """Probabilities of the scored training rows, by models that saw nothing of their fold."""
        return self.folder / "predictions.parquet"

    @property
    def reasons(self) -> Path:
        """Reasons for some of those predictions: what the report shows and sums up."""
        return self.folder / "reasons.parquet"

    @property
    def evaluation(self) -> Path:
        """Figures on test battles whose votes are known."""
        return self.folder / "evaluation.json"

    @property
    def report(self) -> Path:
        """All of it as one page."""
        return self.folder / "report.html"

    @property
    def submission(self) -> Path:
        """Probabilities of the test rows."""
        return self.folder / "submission.csv"

    @property
    def explanations(self) -> Path:
        """Reasons for the predictions of the test rows."""
        return self.folder / "explanations.parquet"

    def changing(self, who: str) -> AbstractContextManager[None]:
        """Be the only command on this run; ``UserError`` where another is. See ``arena.lock``."""
        return hold(self.folder, who)

    def reading(self, who: str) -> AbstractContextManager[None]:
        """Share the run with commands that leave its battles, views and model as they are."""
        return hold(self.folder, who, shared=True)

    def read_record(self) -> dict[str, Any]:
        """``run.json`` as a dict, empty where there is none.

        Raises:
            UserError: it is damaged.
        """
        if not self.record.exists():
            return {}
        try:
            record = read_json(self.record)
        except (ValueError, RecursionError):
            record = None
        if not _is_record(record):
            raise UserError(f"{self.record} is damaged: delete it and run extract.py again")
        found: dict[str, Any] = record
        return found

    def model_hash(self) -> str:
        """Sixteen hex digits of the model's ``bundle.json``; "" where there is no model."""
        path = self.model / "bundle.json"
        return sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""

    def is_sample(self, split: str) -> bool:
        """Whether the split is the sample that ships with the project."""
        return bool(self.read_record().get("inputs", {}).get(split, {}).get("sample"))

    def update_record(self, **entries: Any) -> None:
        """Merge ``entries`` into ``run.json``; dicts merge one level deep."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Commands that share the run may do so at the same time.
        with alone(self.folder):
            record = self.read_record()
            for key, value in entries.items():
                if isinstance(value, dict) and isinstance(record.get(key), dict):
                    record[key] = {**record[key], **value}
                else:
                    record[key] = value
            write_json(self.record, record)

    def require_battles(self, split: str) -> Path:
        """The path of a split's battles; ``UserError`` where ``extract.py`` has not made it."""
        path = self.battles(split)
        if not path.exists():
            raise UserError(
                f"{self.folder} has no {split} battles: run "
                f"`python pipelines/extract.py --{split} FILE --run {self.folder}` first"
            )
        return path


def _is_record(record: Any) -> bool:
    """Whether the entries that commands build on have their kinds."""
    if not isinstance(record, dict):
        return False
    entries = [record.get(n, {}) for n in ("inputs", "seconds", "style", "versions", "backbone")]
    if not all(isinstance(entry, dict) for entry in entries):
        return False
    inputs, seconds, style, _, backbone = entries
    return (
        all(isinstance(of_split, dict) for of_split in inputs.values())
        and all(isinstance(value, int | float) for value in seconds.values())
        and all(isinstance(value, str) for value in style.values())
        and (
            not backbone
            or all(isinstance(backbone.get(name), str) for name in ("asked", "quantization"))
        )
    )
