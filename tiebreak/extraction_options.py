"""How an extraction reads battles: its options, resolved against the run, and cheap checks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from arena.view import KINDS
from common.errors import Code, UserError
from common.parquet import read_notes
from common.run_dir import RunDir
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.device import store_suffix
from embeddings.backbone.runtime import TORCH, select_engine
from embeddings.cache.shards import settings_hash
from embeddings.frozen.answer_reader import evidence_settings
from embeddings.frozen.costs import unquantized_lines
from embeddings.frozen.device_readers import DeviceReaders
from embeddings.frozen.extract import Reader
from embeddings.frozen.language_model import LanguageModel
from embeddings.frozen.ray_workers import RayWorkers
from embeddings.replicas import check_devices, devices_for
from embeddings.view_kinds import LIKELIHOOD
from tiebreak.run_record import as_json, chosen_backbone

RAY = "ray"

HIDDEN = "hidden"
"""The folder of the states that a language model has read."""

OVERRIDES = ("state_bits", "unconditional_tokens")
"""Options that a run remembers where they were named."""


@dataclass(frozen=True)
class ExtractionOptions:
    """How battles are read; what is ``None`` is as the run had it before, else the default."""

    backbone: str | None = None
    """A name in ``configs/``, a YAML file or a model folder."""
    quantization: str | None = None
    dtype: str | None = None
    """``float32``, ``bfloat16`` or ``float16``; overrides the backbone's own."""
    state_bits: int | None = None
    """Bits in which a value of a hidden state is stored, 8 or 16; overrides the backbone's own."""
    unconditional_tokens: int | None = None
    """Tokens of an answer that are read without its prompt, 0 for none; overrides the backbone's
    own."""
    engine: str | None = None
    """``torch``, ``openvino``, ``auto``, or ``ray``: torch in the actors of a cluster."""
    ray_address: str = ""
    """A Ray cluster, host:port; "" for this machine."""
    actors: int = 0
    """Models that read; 0 for one a GPU or machine."""
    language_model: bool = True
    """Whether a language model reads the answers; else there are handcrafted signals alone."""

    @property
    def names_model(self) -> bool:
        """Whether something is said of the language model."""
        return self.unconditional_tokens is not None or any(
            (
                *(self.backbone, self.quantization, self.dtype, self.state_bits),
                *(self.engine, self.ray_address, self.actors),
            )
        )


@dataclass(frozen=True)
class Extraction:
    """The options of an extraction, resolved against the run's record."""

    backbone: str
    config: BackboneConfig
    engine: str
    options: ExtractionOptions

    @classmethod
    def of(cls, options: ExtractionOptions, record: Mapping[str, Any]) -> Extraction:
        """Resolve the options.

        Raises:
            UserError: the backbone's configuration is not valid, or OpenVINO cannot run it here.
        """
        own = record.get("backbone", {})
        if options.backbone in (None, own.get("asked")):
            remembered = {n: own.get(n) for n in OVERRIDES if getattr(options, n) is None}
            options = replace(options, **remembered)
        backbone, config = chosen_backbone(
            options.backbone,
            options.quantization,
            record,
            options.dtype,
            options.state_bits,
            options.unconditional_tokens,
        )
        last = own.get("engine", TORCH) if as_json(config) == own.get("config") else TORCH
        # Ray's actors read with torch, to the same bytes.
        named = TORCH if options.engine == RAY else options.engine
        engine, note = select_engine(named or last, config)
        if note:
            print(note)
        return cls(backbone, config, engine, options)

    def check_device(self) -> None:
        """Say what will be slow on this machine's cards.

        Raises:
            UserError: PyTorch cannot use one of them.
        """
        # The actors' machines have cards of their own.
        if self.options.engine != RAY:
            for note in check_devices(self.config):
                print(note, flush=True)

    def entry(self) -> dict[str, Any]:
        """The entry ``backbone`` of run.json."""
        named = {n: getattr(self.options, n) for n in OVERRIDES}
        return {
            "asked": self.backbone,
            "quantization": self.config.quantization,
            "dtype": self.config.dtype,
            # Only what overrides the backbone's own, which may change.
            **{name: value for name, value in named.items() if value is not None},
            "engine": self.engine,
            "config": as_json(self.config),
        }

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """What reads: actors of a cluster, a process a card, or this process.

        Raises:
            UserError: options of a cluster without one, or devices that are not there.
        """
        options = self.options
        if options.engine == RAY:
            with RayWorkers(self.config, options.ray_address, options.actors) as workers:
                yield workers
        elif options.ray_address or options.actors:
            raise UserError(
                Code.OPTIONS_CONFLICT,
                "--ray-address and --actors need --engine ray. Add it, or leave them out.",
            )
        elif devices := devices_for(self.config):
            with DeviceReaders(self.config, self.engine, devices) as readers:
                yield readers
        else:
            yield LanguageModel(self.config, self.engine)


def takes_language_model(view: str) -> bool:
    """Whether a view may come from a language model; of a name that no kind has it may."""
    kind = KINDS.get(view)
    return kind is None or kind.architecture in ("frozen", "fine-tuned")


def resolve(run: RunDir, splits: Collection[str], options: ExtractionOptions) -> Extraction | None:
    """How a language model will read, ``None`` where none does; checked before anything is read.

    Test battles are read as the run's training battles were.

    Args:
        run: the run.
        splits: those that will be read.
        options: how.

    Raises:
        UserError: options do not go together, the backbone cannot be had or run here, or the test
            battles would lack what the training battles have.
    """
    record = run.read_record()
    test_only = "train" not in splits
    if not options.language_model:
        if options.names_model:
            raise UserError(
                Code.OPTIONS_CONFLICT,
                "--no-language-model goes with no option of a language model. Leave out "
                "--backbone, --quantization, --dtype, --state-bits, --unconditional-tokens, "
                "--engine, --ray-address and --actors.",
            )
        if test_only and (run.views / HIDDEN / "train.parquet").exists():
            _check_model_does_without(run)
        return None
    if test_only and run.battles("train").exists() and "backbone" not in record:
        if options.names_model:
            raise UserError(
                Code.OPTIONS_CONFLICT,
                f"No language model has read the training battles of {run.folder}. Extract --train "
                "with one, or leave these options out.",
            )
        print("no language model has read the training battles, so none reads the test battles")
        return None
    extraction = Extraction.of(options, record)
    extraction.check_device()
    if test_only:
        _check_training(run, extraction)
    # Who chose a quantization, or has begun with one, keeps it.
    elif options.engine != RAY and options.quantization is None and "backbone" not in record:
        print("".join(f"{line}\n" for line in unquantized_lines(extraction.config)), end="")
    return extraction


def _check_model_does_without(run: RunDir) -> None:
    """Refuse to read test battles without a language model where the run's model takes one.

    Raises:
        UserError: it does, or there is no model yet, and the training battles have such views.
    """
    # The second stage's libraries take a second to load, and no other extraction needs them.
    from meta.stack import model_io

    views = model_io.load(run.model).views if run.model_hash() else (LIKELIHOOD.name,)
    if any(map(takes_language_model, views)):
        raise UserError(
            Code.OPTIONS_CONFLICT,
            f"A language model has read the training battles of {run.folder}, and must read its "
            "test battles, too. Leave out --no-language-model, or name another --run.",
        )


def _check_training(run: RunDir, extraction: Extraction) -> None:
    """Refuse to read test battles otherwise than the run's training battles were.

    A model folder that was moved or renamed is still the same.

    Raises:
        UserError: another backbone, quantization or engine read these.
    """
    path = run.views / HIDDEN / "train.parquet"
    if not path.exists():
        return
    source = settings_hash(evidence_settings(extraction.config, extraction.engine))
    notes = read_notes(path)
    if notes.get("source") != source:
        raise UserError(
            Code.BACKBONE_DIFFERS,
            f"The training battles of {run.folder} were read by another backbone, quantization, "
            "dtype or engine, stored in other bits, or read to another length without their "
            "prompts. Leave out --backbone, --quantization, --dtype, --state-bits, "
            "--unconditional-tokens and --engine, or extract --train again.",
        )
    if notes.get("store", source) != source + store_suffix(extraction.config):
        print(
            "the training battles were read on another kind of device: the last digits of what the "
            "model says differ there",
            flush=True,
        )
