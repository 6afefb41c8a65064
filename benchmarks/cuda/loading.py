"""Points 0 to 2: what the machine has, the models, and how they are loaded."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks.cuda.bench import CARD, LETTERS, Bench, quantized
from benchmarks.cuda.report import Part, Parts
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.device import check_device
from embeddings.backbone.load import Backbone, fingerprint
from embeddings.backbone.shape import shape_of, weight_bytes

LIBRARIES = ("torch", "transformers", "bitsandbytes", "peft", "accelerate", "safetensors", "triton")

LOADED = (*((q, "bfloat16") for q in ("none", "nf4", "int8")), ("nf4", "float16"))


def machine(bench: Bench, parts: Parts) -> None:
    """Point 0."""
    parts.run("versions", _versions)
    parts.run("cards", _cards, CARD)
    parts.run("room", partial(_room, bench))


def _versions(part: Part) -> None:
    part.figures["python"] = platform.python_version()
    for name in LIBRARIES:
        try:
            part.figures[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            part.figures[name] = "missing"
    part.figures["CUDA of PyTorch"] = torch.version.cuda or "none"


def _cards(part: Part) -> None:
    part.figures["kernels for"] = " ".join(torch.cuda.get_arch_list())
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        part.figures[f"cuda:{index}"] = (
            f"{found.name} sm_{found.major}{found.minor}, {found.multi_processor_count} "
            f"multiprocessors, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        )
    driver = Path("/proc/driver/nvidia/version")
    if driver.exists():
        part.figures["driver"] = driver.read_text().splitlines()[0].split(":")[-1].strip()
    every = BackboneConfig(name="a model", source="nowhere", device_map="auto")
    part.figures["notes"] = "; ".join(check_device(every))


def _room(bench: Bench, part: Part) -> None:
    part.figures["folder"] = str(bench.folder)
    part.figures["GiB free there"] = shutil.disk_usage(bench.folder).free / 2**30


def build(bench: Bench, parts: Parts) -> None:
    """Point 1."""
    for letter in LETTERS:
        parts.run(letter, partial(_build, bench, letter))


def _build(bench: Bench, letter: str, part: Part) -> None:
    folder = Path(bench.config(letter).source)
    part.figures["GB"] = sum(file.stat().st_size for file in folder.iterdir()) / 1e9
    start = time.monotonic()
    name = fingerprint(folder)
    part.figures |= {"fingerprint": name, "seconds of it": time.monotonic() - start}
    part.holds("the fingerprint stays the same", fingerprint(folder) == name)


def load(bench: Bench, parts: Parts) -> None:
    """Point 2."""
    for letter in LETTERS:
        for quantization, dtype in LOADED:
            name = f"{letter} {quantization}" + (" in float16" if dtype == "float16" else "")
            body = partial(_load, bench, letter, quantization, dtype)
            parts.run(name, body, *quantized(quantization))


def _load(bench: Bench, letter: str, quantization: str, dtype: str, part: Part) -> None:
    config = bench.config(letter, quantization, dtype)
    bench.make_room()
    before, start = bench.allocated(), time.monotonic()
    # Others read with those in bfloat16, so these stay loaded.
    backbone = bench.scorer(config).backbone if dtype == "bfloat16" else bench.load(config)
    part.figures["seconds of loading"] = time.monotonic() - start
    backbone.check_head()
    taken = bench.allocated() - before
    check_place(part, backbone, {bench.device})
    part.holds(f"it computes in {dtype}", str(backbone.dtype) == f"torch.{dtype}")
    linear = {
        str(module.compute_dtype)
        for module in backbone.model.modules()
        if type(module).__name__ == "Linear4bit"
    }
    expected = {f"torch.{dtype}"} if quantization == "nf4" else set()
    part.holds(f"4-bit weights compute in {dtype}: {sorted(linear)}", linear == expected)
    if bench.device == "cuda":
        part.figures["GiB"] = taken / 2**30
        plan = weight_bytes(config, shape_of(config))
        part.at_most("memory over the plan", taken / plan, 1.1)


def check_place(part: Part, backbone: Backbone, kinds: set[str]) -> None:
    """Check that every weight lies on devices of these kinds, and on all of them."""
    tensors = [*backbone.model.parameters(), *backbone.model.buffers()]
    found = {tensor.device.type for tensor in tensors}
    part.holds(f"all weights are on {sorted(kinds)}: {sorted(found)}", found == kinds)
