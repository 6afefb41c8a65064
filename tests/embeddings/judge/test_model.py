"""The judge: what is trained, which token is read, and the trap of nf4 on a CPU."""

from dataclasses import replace

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, has_avx512bf16
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from safetensors.torch import load_file

from common.errors import Code
from embeddings.backbone.load import load_backbone
from embeddings.frozen.pair_reader import token_ids
from embeddings.judge.head import unscaled
from embeddings.judge.model import Judge, average
from embeddings.judge.probe import fit_probe
from embeddings.prompts.pairs import distinct
from tests.helpers.cards import T4, pretend
from tests.helpers.errors import raises
from tests.helpers.planted import QUICK, examples, planted
from tests.helpers.tiny import ARCHITECTURES

BATTLES = planted(4)
LAYERS = {"none": torch.nn.Linear, "nf4": Linear4bit, "int8": Linear8bitLt}
PROJECTIONS = 7


def exact(config, **changes):
    return replace(config, dtype="float32", **changes)


def judge_of(config, recipe=QUICK):
    return Judge(load_backbone(config), recipe)


def disturb(judge, seed=1):
    """LoRA starts as a zero: move it, so that it has a say and a gradient everywhere."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in judge.trained.values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return judge


def sequences(config):
    return distinct(examples(BATTLES, config).pairs)


def gradients(judge, read, inputs=token_ids):
    judge.zero_grad()
    judge(read, inputs).square().sum().backward()
    return {n: p.grad for n, p in judge.trained.items() if p.grad is not None}


def cosine(mine, other):
    """Cosine of all gradients of two judges, as one vector each."""
    names = sorted(mine)
    a, b = (torch.cat([g[n].flatten() for n in names]) for g in (mine, other))
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_lora_on_every_projection_and_the_head_are_trained_in_float32(
    configs, architecture, quantization
):
    judge = judge_of(replace(configs[architecture], quantization=quantization))
    names = list(judge.trained)
    layers = judge.model.config.num_hidden_layers
    assert sum("lora_A" in n for n in names) == sum("lora_B" in n for n in names)
    assert len(names) == 2 * PROJECTIONS * layers + 2
    assert not [n for n in names if "lm_head" in n or "embed" in n]
    assert all(p.dtype == torch.float32 for p in judge.trained.values())
    base = judge.model.get_decoder().layers[0].self_attn.q_proj.base_layer
    assert isinstance(base, LAYERS[quantization])


def test_the_last_token_is_read_and_padding_is_not(configs, architecture):
    config = exact(configs[architecture])
    judge, read = disturb(judge_of(config)).eval(), sequences(config)
    together = torch.cat(judge.read(read, token_ids))
    assert len({len(s.ids) for s in read}) > 1
    backbone = load_backbone(config)
    for s, found in zip(read, together, strict=True):
        alone = judge.read([s], token_ids)[0][0]
        assert torch.allclose(found, alone, atol=1e-5)
    # Without LoRA the state is the backbone's own, at the last token.
    for pool in ("last", "answers"):
        fresh = judge_of(config, replace(QUICK, pool=pool)).eval()
        with torch.inference_mode():
            states = backbone.decoder(input_ids=token_ids(read[0])[None]).last_hidden_state[0]
        means = [states[read[0].owner == answer].mean(dim=0) for answer in (1, 2)]
        means.append((means[0] - means[1]).abs())
        expected = torch.cat([states[-1], *(means if pool == "answers" else [])])
        assert torch.allclose(
            fresh.reader.read(read, token_ids)[0].flatten(), expected.half(), atol=1e-2
        )


def test_heads(configs):
    linear = judge_of(configs["llama"]).head
    mlp = judge_of(configs["llama"], replace(QUICK, head="mlp")).head
    last = judge_of(configs["llama"], replace(QUICK, pool="last")).head
    assert sum(p.numel() for p in last.parameters()) == 64 * 3 + 3
    assert sum(p.numel() for p in linear.parameters()) == 4 * 64 * 3 + 3
    layers = 4 * 64 * 32 + 32 + 32 * 3 + 3
    assert sum(p.numel() for p in mlp.parameters()) == 4 * 64 * 3 + 3 + layers


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_head_starts_as_its_probe_and_needs_no_scale(configs, kind):
    torch.manual_seed(0)
    states = torch.randn(60, 256) * torch.linspace(0.1, 100, 256) + 5
    targets = torch.eye(3)[states[:, 7].sign().long() + 1]
    probe = fit_probe(states.clone(), targets, [str(i) for i in range(60)])
    judge = judge_of(configs["llama"], replace(QUICK, head=kind)).eval()
    judge.start(probe)
    expected = (states - probe.mean) / probe.scale @ probe.weight.T + probe.bias
    assert torch.allclose(judge.head(states), expected, atol=1e-5)
    disturb(judge)
    moved = judge.head(states)
    assert not torch.allclose(moved, expected, atol=1e-2)
    found = unscaled({n: w.detach() for n, w in judge.weights.items()})
    assert torch.allclose(judge.load(found).head(states), moved, atol=1e-3)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_a_judge_of_an_a100_reads_on_a_t4(
    configs, architecture, quantization, tmp_path, monkeypatch
):
    config = replace(configs[architecture], dtype="bfloat16", quantization=quantization)
    judge, read = disturb(judge_of(config)).eval(), sequences(config)
    judge.save(tmp_path / "w.safetensors")
    exactly = disturb(judge_of(replace(config, dtype="float32"))).eval()
    wanted = torch.cat(exactly.read(read, token_ids))
    pretend(monkeypatch, T4)
    half = judge_of(config).load(load_file(tmp_path / "w.safetensors"))
    assert half.dtype == torch.float16
    assert half.reader.depths == judge.reader.depths
    found = torch.cat(half.read(read, token_ids))
    assert found.isfinite().all()
    assert torch.cosine_similarity(found.flatten(), wanted.flatten(), dim=0) > 0.98
    # Lower layers that the A100 stored are read in float16, too.
    states = half.reader.read(read, lambda s: torch.zeros(len(s.ids), 64, dtype=torch.bfloat16))
    assert torch.stack(states).isfinite().all()


def test_saved_weights_come_back_and_others_are_refused(configs, tmp_path):
    config = exact(configs["llama"])
    judge, read = disturb(judge_of(config)).eval(), sequences(config)
    judge.save(tmp_path / "w.safetensors")
    weights = load_file(tmp_path / "w.safetensors")
    again = judge_of(config).load(weights)
    assert not again.training
    assert torch.equal(
        torch.cat(judge.read(read, token_ids)), torch.cat(again.read(read, token_ids))
    )
    with raises(Code.CHECKPOINT_DIFFERS):
        judge_of(config, replace(QUICK, rank=4)).load(weights)


def test_judges_start_from_one_point(configs):
    first, second = judge_of(configs["llama"]), judge_of(configs["llama"])
    assert all(torch.equal(p, second.trained[n]) for n, p in first.trained.items())


def test_the_average_adds_the_mean_of_what_the_judges_add(configs, tmp_path):
    config = exact(configs["llama"])
    judges = [disturb(judge_of(config), seed) for seed in (1, 2, 3)]
    for k, judge in enumerate(judges):
        judge.head.mean += k
        judge.head.scale *= 1 + k
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for judge, path in zip(judges, paths, strict=True):
        judge.save(path)
    recipe = replace(QUICK, rank=3 * QUICK.rank, alpha=3 * QUICK.alpha)
    mean = judge_of(config, recipe).load(average(paths))

    def added(judge):
        projection = judge.model.get_decoder().layers[1].mlp.down_proj
        return projection.get_delta_weight("default")

    expected = torch.stack([added(judge) for judge in judges]).mean(dim=0)
    assert torch.allclose(added(mean), expected, atol=1e-5)
    states = torch.randn(5, 256)
    said = torch.stack([judge.head(states) for judge in judges]).mean(dim=0)
    assert torch.allclose(mean.head(states), said, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradient_checkpointing_changes_nothing(configs, architecture):
    config = exact(configs[architecture])
    recipe = replace(QUICK, dropout=0.0)
    read = sequences(config)[:2]
    plain = gradients(disturb(judge_of(config, recipe)).train(), read)
    saved = replace(recipe, gradient_checkpointing=True)
    again = gradients(disturb(judge_of(config, saved)).train(), read)
    assert set(plain) == set(again)
    assert cosine(plain, again) > 1 - 1e-5


def dequantized(config, recipe):
    """An unquantized judge with the weights that the nf4 one computes with."""
    judge, quantized = judge_of(exact(config), recipe), judge_of(nf4(config), recipe)
    theirs = dict(quantized.named_modules())
    for name, module in judge.named_modules():
        weight = getattr(theirs[name], "weight", None)
        if hasattr(weight, "quant_state"):
            with torch.no_grad():
                module.weight.copy_(dequantize_4bit(weight.data, weight.quant_state))
    return judge


def nf4(config):
    return replace(config, quantization="nf4")


def test_every_parameter_of_an_nf4_judge_has_its_gradient(configs, architecture):
    """A falling loss does not show that LoRA in the lower layers learns nothing: this does."""
    config, recipe = configs[architecture], replace(QUICK, dropout=0.0)
    read = sequences(config)[:2]
    judge = disturb(judge_of(nf4(config), recipe)).train()
    found = gradients(judge, read)
    assert set(found) == set(judge.trained)
    assert cosine(found, gradients(disturb(dequantized(config, recipe)).train(), read)) > 0.95
    # A second pass of the trained instance is as the first.
    assert cosine(gradients(judge, read), found) > 1 - 1e-4


def test_every_parameter_of_an_int8_judge_has_its_gradient(configs, architecture):
    config, recipe = configs[architecture], replace(QUICK, dropout=0.0)
    read = sequences(config)[:2]
    judge = disturb(judge_of(replace(config, quantization="int8"), recipe)).train()
    found = gradients(judge, read)
    assert set(found) == set(judge.trained)
    assert cosine(found, gradients(disturb(judge_of(exact(config), recipe)).train(), read)) > 0.9


@pytest.mark.skipif(not has_avx512bf16(), reason="weights are rearranged for AVX512-BF16 only")
def test_an_nf4_judge_that_has_predicted_must_not_be_trained(configs, architecture):
    """Why every prediction loads its own model; should this fail one day, the rule may go."""
    config, recipe = nf4(configs[architecture]), replace(QUICK, dropout=0.0)
    read = sequences(config)[:2]
    right = gradients(disturb(judge_of(config, recipe)).train(), read)
    judge = disturb(judge_of(config, recipe)).eval()
    judge.read(read, token_ids)
    if architecture == "qwen2":
        with pytest.raises(RuntimeError, match="a view of a leaf"):
            gradients(judge.train(), read)
    else:
        assert cosine(gradients(judge.train(), read), right) < 0.9
