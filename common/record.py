"""The shape of ``run.json``; what is not named here may be anything."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(gt=0)]


class Entry(BaseModel):
    """A JSON object with some known entries, of exactly these types."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class BackboneEntry(Entry):
    """The backbone that a command was given, and its whole configuration."""

    asked: str
    quantization: str
    dtype: str | None = None
    engine: str = ""
    config: dict[str, Any] = {}


class ModelEntry(Entry):
    """A backbone of which a zero-shot verdict may need the tokenizer only, or nothing."""

    asked: str
    quantization: str | None
    config: dict[str, Any] = {}


class FinetuneEntry(Entry):
    """A fine-tuning that ended; the next call starts from its settings."""

    backbone: BackboneEntry
    recipe: dict[str, Any] = {}
    folds: Count = 1
    average_adapters: bool = False
    soft_labels: str = ""
    teacher: str = ""
    judges: list[str] = []


class JointEntry(Entry):
    """How the view ``joint`` was read."""

    backbone: BackboneEntry
    read_layers: str
    top_layers: Annotated[int, Field(ge=0)]
    max_tokens: Count


class EndpointEntry(Entry):
    """An endpoint and how it was queried."""

    url: str
    model: str
    top_logprobs: Count = 1
    concurrency: Count = 1
    timeout: Count = 1
    attempts: Count = 1


class SecondOrderEntry(Entry):
    """What is known of the order in which most battles are not read."""

    weights: Annotated[
        list[Annotated[list[float], Field(min_length=3, max_length=3)]],
        Field(min_length=2, max_length=2),
    ]
    margin: float


class VerdictEntry(Entry):
    """A zero-shot verdict that ended; the next call starts from its settings."""

    backbone: ModelEntry
    endpoint: EndpointEntry | None
    max_tokens: Count = 1
    orders: Literal["both", "budget"] = "both"
    second_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    second_order: SecondOrderEntry | None = None


class RunRecord(Entry):
    """``run.json``; commands read it as a plain dict, after it was checked."""

    inputs: dict[str, dict[str, Any]] = {}
    backbone: BackboneEntry | None = None
    machine: dict[str, dict[str, Any]] = {}
    style: dict[str, str] = {}
    seconds: dict[str, float] = {}
    peak_mib: dict[str, float] = {}
    versions: dict[str, Any] = {}
    finetune: dict[str, FinetuneEntry] = {}
    joint: JointEntry | None = None
    verdict: dict[str, VerdictEntry] = {}
    trained: str = ""
