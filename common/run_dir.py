"""The paths of a run directory, its lock, and its record ``run.json``."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from common.errors import Code, UserError
from common.files import read_object, write_json
from common.lock import exclusive, run_lock
from common.record import RunRecord

SPLITS = ("train", "test")

FOLDERS = ("battles", "views", "finetune", "verdict", "model")
FILES = (
    *("run.json", "metrics.json", "comparison.json", "evaluation.json", "submission.csv"),
    "submission.chosen.csv",
    *("predictions.parquet", "reasons.parquet", "explanations.parquet", "report.html"),
)
"""The folders and files that commands write; a run directory may hold other files, too."""


@dataclass(frozen=True)
class RunDir:
    """The files of one run directory; docs/design/run-directory.md draws the tree."""

    folder: Path

    @property
    def record(self) -> Path:
        """Options, versions, hashes."""
        return self.folder / "run.json"

    def battles(self, split: str) -> Path:
        """The canonical table of a split."""
        return self.folder / "battles" / f"{split}.parquet"

    @property
    def rejected(self) -> Path:
        """The rejected rows of all splits, with their reasons."""
        return self.folder / "battles" / "rejected.csv"

    @property
    def views(self) -> Path:
        """One folder a view."""
        return self.folder / "views"

    @property
    def judges(self) -> Path:
        """Fine-tuned models and their settings."""
        return self.folder / "finetune"

    @property
    def study(self) -> Path:
        """Optuna's SQLite storage."""
        return self.folder / "study.db"

    @property
    def model(self) -> Path:
        """The trained model of the second stage."""
        return self.folder / "model"

    @property
    def metrics(self) -> Path:
        """Metrics of the run, on rows that nothing was trained on."""
        return self.folder / "metrics.json"

    @property
    def comparison(self) -> Path:
        """The results of ``compare.py``."""
        return self.folder / "comparison.json"

    @property
    def predictions(self) -> Path:
        """Probabilities of the scored training rows, by models that saw nothing of their fold."""
        return self.folder / "predictions.parquet"

    @property
    def reasons(self) -> Path:
        """Explanations of some of those predictions, which the report shows and summarises."""
        return self.folder / "reasons.parquet"

    @property
    def evaluation(self) -> Path:
        """Metrics on test battles with known votes."""
        return self.folder / "evaluation.json"

    @property
    def report(self) -> Path:
        """The report, one page."""
        return self.folder / "report.html"

    @property
    def submission(self) -> Path:
        """Probabilities of the test rows."""
        return self.folder / "submission.csv"

    @property
    def explanations(self) -> Path:
        """Explanations of the predictions of the test rows."""
        return self.folder / "explanations.parquet"

    def changing(self, who: str) -> AbstractContextManager[None]:
        """Lock the run for this command alone; ``UserError`` if another one uses it."""
        folders = [self.folder / name for name in FOLDERS]
        files = [self.folder / name for name in FILES]
        return run_lock(self.folder, who, own=[*folders, *files])

    def reading(self, who: str) -> AbstractContextManager[None]:
        """Share the run with other commands that do not change its battles, views and model."""
        return run_lock(self.folder, who, shared=True)

    def read_record(self) -> dict[str, Any]:
        """Read ``run.json``; an empty dict if it does not exist.

        Raises:
            UserError: it is damaged.
        """
        if not self.record.exists():
            return {}
        record = read_object(self.record)
        try:
            if record is None:
                raise ValueError("it holds no JSON object")
            # It must be possible to write it again, which NaN and lone surrogates prevent.
            json.dumps(record, allow_nan=False, ensure_ascii=False).encode()
            RunRecord.model_validate(record)
        except ValueError as error:
            raise UserError(
                Code.RUN_FILE_DAMAGED,
                f"{self.record} is damaged. Delete it and rerun extract.py.",
            ) from error
        return record

    def read_result(self, path: Path, command: str) -> dict[str, Any]:
        """Read the JSON object that a command wrote about this run.

        Args:
            path: path of the file.
            command: the command that wrote it, such as ``train_meta.py``.

        Raises:
            UserError: it is damaged.
        """
        result = read_object(path)
        if result is None:
            raise UserError(
                Code.RUN_FILE_DAMAGED,
                f"{path} is damaged. Delete it and rerun "
                f"`python pipelines/{command} --run {self.folder}`.",
            )
        return result

    def model_hash(self) -> str:
        """Hash of the model's ``bundle.json``, 16 hex digits; "" if there is no model."""
        path = self.model / "bundle.json"
        return sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else ""

    def provenance(self) -> dict[str, Any]:
        """The sources of present metrics: sha256 of each split's file, hash of the model."""
        inputs = self.read_record().get("inputs", {})
        return {
            "inputs": {split: entry.get("sha256", "") for split, entry in inputs.items()},
            "model": {"hash": self.model_hash()},
        }

    def is_sample(self, split: str) -> bool:
        """Whether the split is the sample that ships with the project."""
        return bool(self.read_record().get("inputs", {}).get(split, {}).get("sample"))

    def holds_pairs(self, split: str) -> bool:
        """Whether the split's file holds pairs of a chosen and a rejected answer."""
        inputs = self.read_record().get("inputs", {})
        return bool(inputs.get(split, {}).get("layout") == "pairs")

    def update_record(self, **entries: Any) -> None:
        """Merge ``entries`` into ``run.json``; dicts merge one level deep."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Commands that share the run may update it at the same time.
        with exclusive(self.folder):
            record = self.read_record()
            for key, value in entries.items():
                if isinstance(value, dict) and isinstance(record.get(key), dict):
                    record[key] = {**record[key], **value}
                else:
                    record[key] = value
            write_json(self.record, record)

    def require_battles(self, split: str) -> Path:
        """The path of a split's battles; ``UserError`` if ``extract.py`` has not written it."""
        path = self.battles(split)
        if not path.exists():
            raise UserError(
                Code.SPLIT_NOT_EXTRACTED,
                f"{self.folder} has no {split} battles. Run "
                f"`python pipelines/extract.py --{split} FILE --run {self.folder}` first.",
            )
        return path
