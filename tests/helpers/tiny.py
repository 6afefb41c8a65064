"""Tiny random language models with real architectures, tokenizers and chat templates."""

import hashlib
from pathlib import Path

import pandas as pd
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from arena.schema import digest

transformers.logging.disable_progress_bar()

ARCHITECTURES = ("llama", "qwen2", "gemma2")

SENTENCES = [
    "The cat runs because the dog is green, however the list is long.",
    "What is the capital of France? The capital of France is Paris.",
    "Write a short list of 12 things that a person can check by hand.\n\nHere is the list:\n- one",
    "user assistant system model You are a helpful assistant. Cutting Knowledge Date: 26 Jul 2024",
    "I'm sorry, I can't help with that; naïve café, 你好, Привет!",
]

LLAMA3 = (
    "{{ bos_token }}"
    "{% for m in messages %}"
    "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
CHATML = (
    "{% if messages[0]['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "{% for m in messages %}"
    "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}"
    "{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}"
    "{% endif %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)

SPECIAL = {
    "llama": ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
    "qwen2": ["<|endoftext|>", "<|im_end|>"],
    "gemma2": ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"],
}
ROLES = {
    # Nothing tells padding and the end of a turn apart.
    "llama": {
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "pad_token": "<|eot_id|>",
        "chat_template": LLAMA3,
    },
    "qwen2": {
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "chat_template": CHATML,
    },
    "gemma2": {
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "chat_template": GEMMA,
    },
}
SIZES = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    # Wide enough for logits that differ, as those of a trained model do.
    "initializer_range": 0.2,
}
EXTRA = {
    "llama": {},
    "qwen2": {"tie_word_embeddings": True},
    "gemma2": {
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "sliding_window": 32,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 3.0,
    },
}


def tiny_tokenizer(architecture="llama", **changes):
    """A byte-level BPE tokenizer with the architecture's special tokens and chat template.

    Of an architecture that is not in ``ARCHITECTURES`` those of Llama.

    ``<|im_start|>`` is an added token that nobody declared special, as in Yi 1.5, and so is
    ``<tool_call>``, which no template writes.
    """
    architecture = architecture if architecture in ARCHITECTURES else "llama"
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        special_tokens=SPECIAL[architecture],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES, trainer)
    backend.add_tokens(
        [AddedToken(t, special=False, normalized=False) for t in ("<|im_start|>", "<tool_call>")]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, **{**ROLES[architecture], **changes})


def save_tiny_model(folder, architecture="llama", **changes) -> Path:
    """Save a random float32 model and its tokenizer; ``changes`` go to the configuration."""
    folder = Path(folder)
    tokenizer = tiny_tokenizer(architecture)
    config = AutoConfig.for_model(
        architecture,
        **{**SIZES, **EXTRA.get(architecture, {}), **changes},
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_battles(*rows):
    """A table of battles from triples of prompt, answer A, answer B: a text, or a list of turns."""
    turns = [[list(x) if isinstance(x, list) else [x] for x in row] for row in rows]
    return pd.DataFrame(
        {
            "id": [str(i) for i in range(len(rows))],
            "prompt": [prompt for prompt, _, _ in turns],
            "response_a": [a for _, a, _ in turns],
            "response_b": [b for _, _, b in turns],
            "label": 0,
            "soft_label": None,
            "weight": 1.0,
            "model_a": "x",
            "model_b": "y",
            "file_id": "",
            "reason": "",
            "key": [digest(row) for row in turns],
            "group": [hashlib.sha256(repr(p).encode()).hexdigest()[:16] for p, _, _ in turns],
        }
    )
