"""What finetune.py is asked to do: what is given, else as the last time, else the default."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from common.errors import Code, UserError
from embeddings.backbone.config import BackboneConfig, finetune_entries
from embeddings.judge.config import FOR_TRAINING, JudgeConfig
from tiebreak.run_record import DEFAULT_BACKBONE, as_json, chosen_backbone

NONE = "none"
"""Takes back a file or option that the run's last fine-tuning had."""


@dataclass(frozen=True)
class FinetuneOptions:
    """What is to be done, resolved: given, else as the last time, else the default."""

    view: str
    backbone: str
    config: BackboneConfig
    recipe: JudgeConfig
    folds: int
    average_adapters: bool
    soft_labels: str
    teacher: str

    def record(self) -> dict[str, Any]:
        """The entry in run.json from which the next call starts."""
        return {
            "backbone": {
                "asked": self.backbone,
                "quantization": self.config.quantization,
                "config": as_json(self.config),
            },
            "recipe": asdict(self.recipe),
            **{
                name: getattr(self, name)
                for name in ("folds", "average_adapters", "soft_labels", "teacher")
            },
        }


def resolve(arguments: argparse.Namespace, record: dict[str, Any]) -> FinetuneOptions:
    """Find out what is asked.

    Raises:
        UserError: the view's name lacks "logits", an option is not sound or changes nothing, or a
            file is to be given again.
    """
    views = record.get("finetune", {})
    view = (
        arguments.view
        or f"logits-{chosen_backbone(arguments.backbone, arguments.quantization, record)[1].name}"
    )
    if "logits" not in view or "/" in view:
        raise UserError(
            Code.OPTION_INVALID, f'--view {view}: the name must contain "logits", such as logits-a.'
        )
    before = views.get(view, {})
    known = before or record
    _, config = chosen_backbone(arguments.backbone, arguments.quantization, known)
    name = arguments.backbone or known.get("backbone", {}).get("asked", DEFAULT_BACKBONE)
    given = vars(arguments)
    chosen = {f.name: given[f.name] for f in fields(JudgeConfig) if f.name in given}

    def option(key: str, default: Any) -> Any:
        return given.get(key, before.get(key, default))

    def file(key: str) -> str:
        kept = str(before.get(key, NONE))
        return given[key] if key in given else _of_the_run(arguments.run, key, kept)

    # Another backbone has a recipe of its own.
    last = before.get("recipe") if name == known.get("backbone", {}).get("asked") else None
    recipe = JudgeConfig.of({**(last or finetune_entries(name)), **chosen})
    idle = [n for n in FOR_TRAINING if n in chosen]
    if given.get("teacher", NONE) != NONE:
        idle.append("teacher")
    if idle and recipe.epochs == 0:
        options = ", ".join("--" + n.replace("_", "-") for n in idle)
        raise UserError(
            Code.OPTION_WITHOUT_EFFECT,
            f"With epochs=0 for {config.name} nothing is trained, so {options} "
            f"{'has' if len(idle) == 1 else 'have'} no effect. Add --epochs 1, or leave it out.",
        )
    return FinetuneOptions(
        view=view,
        backbone=name,
        config=config,
        recipe=recipe,
        folds=option("folds", 5),
        average_adapters=option("average_adapters", False),
        soft_labels=file("soft_labels"),
        teacher=file("teacher"),
    )


def _of_the_run(run: str, key: str, kept: str) -> str:
    """A file that the last fine-tuning had; a run made elsewhere may name any file or URL.

    Raises:
        UserError: it does not lie in the run.
    """
    path, folder = Path(kept).resolve(), Path(run).resolve()
    if kept != NONE and not (path.is_relative_to(folder) and path.is_file()):
        option = f"--{key.replace('_', '-')}"
        raise UserError(
            Code.OPTION_OUTDATED,
            f"The last fine-tuning had {option} {kept}, which is no file of the run. Give it "
            f"again, or {option} {NONE}.",
        )
    return kept if kept == NONE else str(path)
