"""The training loop: what it minimises, what it moves, and that nothing stops it for good."""

import json
import math
from dataclasses import replace

import bitsandbytes
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from arena.swap import SWAP
from common.errors import Code
from embeddings.backbone.load import load_backbone
from embeddings.frozen.pair_reader import token_ids
from embeddings.judge import trainer as training
from embeddings.judge.model import Judge
from embeddings.judge.optimizer import make_optimizer
from embeddings.judge.trainer import CHECKPOINT, RECORD, WEIGHTS, Trainer, losses, rate, rows_of
from tests.helpers.errors import raises
from tests.helpers.planted import QUICK, examples, planted

SMALL = replace(QUICK, batch=2, epochs=2, dropout=0.2)
BATTLES = planted(7)


@pytest.fixture
def config(configs):
    return replace(configs["llama"], dtype="float32")


def trainer(config, folder, recipe=SMALL, battles=BATTLES, **changes):
    folder.mkdir(exist_ok=True)
    learned = replace(examples(battles, config), **changes)
    return Trainer(Judge(load_backbone(config), recipe), learned, recipe, folder, token_ids)


def weights(folder):
    return load_file(folder / WEIGHTS)


def same(one, other):
    return set(one) == set(other) and all(torch.equal(one[n], other[n]) for n in one)


def test_the_loss_is_the_cross_entropy_of_soft_labels():
    logits, targets = torch.tensor([[2.0, 0, 0]]), torch.tensor([[0.5, 0.5, 0]])
    total = math.log(math.e**2 + 2)
    assert losses(logits, targets, None, QUICK).tolist() == pytest.approx([total - 1])


def test_a_teacher_adds_its_divergence_and_its_angle():
    logits = torch.tensor([[1.0, 0, 0]])
    own = torch.softmax(logits, dim=1)
    vote = torch.tensor([[1.0, 0, 0]])
    ce = -math.log(own[0, 0])
    assert losses(logits, vote, own, QUICK).tolist() == pytest.approx([ce / 3], abs=1e-6)
    other = torch.tensor([[0.0, 0.0, 1.0]])
    kl, angle = -math.log(own[0, 2]), 1 - float(own[0, 2] / own.norm())
    expected = (2 * ce + 3 * kl + 5 * angle) / 10
    weighted = replace(QUICK, ce=2.0, kl=3.0, cosine=5.0)
    assert losses(logits, vote, other, weighted).tolist() == pytest.approx([expected])


def test_the_rate_rises_then_follows_half_a_cosine():
    found = [rate(step, 12, 0.25) for step in range(12)]
    assert found[:4] == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert found[3:] == sorted(found[3:], reverse=True)
    assert rate(3 + 9, 12, 0.25) == pytest.approx(0)
    assert rate(0, 1, 0.0) == 1


def test_every_epoch_reads_every_row_once_in_an_order_of_its_own():
    recipe = replace(QUICK, batch=3, epochs=2)
    orders = [
        np.concatenate([rows_of(step, 8, recipe) for step in range(begin, begin + 3)]).tolist()
        for begin in (0, 3)
    ]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(8))
    assert orders[0] != orders[1]


def test_a_row_and_its_twin_are_in_one_step_with_exchanged_targets(config, tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(Trainer, "_step", lambda self, samples: steps.append(samples) or 0.0)
    taught = np.random.default_rng(0).dirichlet([1, 1, 1], 7).astype(np.float32)
    t = trainer(config, tmp_path, targets=taught, teacher=taught[:, ::-1].copy())
    t.run(100, "x")
    assert [len(s) for s in steps] == [4, 4, 4, 2] * 2
    pairs = t.dataset.pairs
    row = {s.key: i for i, s in enumerate(pairs.forward)}
    twin = {s.key: i for i, s in enumerate(pairs.swapped)}
    for samples in steps:
        there = {row[s.sequence.key]: s for s in samples if s.sequence.key in row}
        back = {twin[s.sequence.key]: s for s in samples if s.sequence.key in twin}
        assert set(there) == set(back)
        for i, s in there.items():
            assert s.target.tolist() == taught[i].tolist() == back[i].target[SWAP].tolist()
            assert s.teacher.tolist() == back[i].teacher[SWAP].tolist()


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_the_loss_falls(configs, architecture, quantization, tmp_path):
    config = replace(configs[architecture], quantization=quantization)
    recipe = replace(QUICK, batch=2, epochs=8, dropout=0.0)
    t = trainer(config, tmp_path, recipe, planted(2))
    t.run(100, "x")
    assert np.mean(t.losses[-2:]) < 0.6 * t.losses[0]
    assert set(weights(tmp_path)) == set(t.judge.weights)


@pytest.mark.parametrize(("lr", "head_lr"), [(0.0, 1e-2), (1e-2, 0.0)])
def test_each_learning_rate_moves_its_own_parameters(config, tmp_path, lr, head_lr):
    t = trainer(config, tmp_path, replace(SMALL, lr=lr, head_lr=head_lr, weight_decay=0.0))
    torch.manual_seed(1)
    with torch.no_grad():
        t.judge.head.linear.weight.normal_()
    before = {n: p.detach().clone() for n, p in t.judge.trained.items()}
    t.run(100, "x")
    after = weights(tmp_path)
    moved = {n: not torch.equal(p, after[n]) for n, p in before.items()}
    assert all(m == (head_lr > 0) for n, m in moved.items() if n.startswith("head."))
    # LoRA's A stands still while its B is 0, that is in the first step only.
    assert all(m == (lr > 0) for n, m in moved.items() if "lora_" in n)


def eight_bits(self):
    """What a GPU would take."""
    groups = torch.optim.AdamW(list(self.judge.trained.values())).param_groups
    for group in groups:
        group["peak"] = 1e-2
    return bitsandbytes.optim.AdamW8bit([{k: groups[0][k] for k in ("params", "lr", "peak")}])


def dies_in_step(number):
    """A training that is interrupted there."""
    real = Trainer._step

    def step(self, samples):
        if self.step == number:
            raise KeyboardInterrupt
        return real(self, samples)

    return step


def check_resumed(config, folder, recipe, monkeypatch):
    """A training that is interrupted in its sixth step ends with the same bits as a calm one."""
    trainer(config, folder / "calm", recipe).run(3, "x")
    killed = folder / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", dies_in_step(5))
        with pytest.raises(KeyboardInterrupt):
            trainer(config, killed, recipe).run(3, "x")
    assert sorted(p.name for p in killed.iterdir()) == [CHECKPOINT]
    again = trainer(config, killed, recipe)
    assert again.step == 3
    again.run(3, "x")
    assert same(weights(folder / "calm"), weights(killed))
    assert sorted(p.name for p in killed.iterdir()) == [RECORD, WEIGHTS]


@pytest.mark.parametrize("optimizer", ["AdamW", "AdamW8bit"])
def test_stopped_and_resumed_gives_the_same_bits(config, tmp_path, monkeypatch, optimizer):
    if optimizer == "AdamW8bit":
        monkeypatch.setattr(Trainer, "_optimizer", eight_bits)
    # LoRA matrices of 4,096 numbers and more: bitsandbytes keeps smaller ones in 32 bits.
    check_resumed(config, tmp_path, replace(SMALL, rank=64), monkeypatch)


@pytest.mark.parametrize("began_on", ["cpu", "gpu"])
def test_a_checkpoint_of_another_device_keeps_weights_and_step(
    config, tmp_path, monkeypatch, capsys, began_on
):
    cpu = Trainer._optimizer
    there, here = (cpu, eight_bits) if began_on == "cpu" else (eight_bits, cpu)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_optimizer", there)
        patch.setattr(Trainer, "_step", dies_in_step(3))
        begun = trainer(config, tmp_path)
        with pytest.raises(KeyboardInterrupt):
            begun.run(1, "x")
    monkeypatch.setattr(Trainer, "_optimizer", here)
    again = trainer(config, tmp_path)
    assert again.step == 3
    assert again.losses == begun.losses
    assert same(begun.judge.trained, again.judge.trained)
    assert "weights and step are kept" in capsys.readouterr().err
    again.run(100, "x")
    assert len(again.losses) == again.steps


def test_the_head_has_moments_of_32_bits_and_lora_of_8(config):
    judge = Judge(load_backbone(config), replace(SMALL, rank=64, head="mlp")).train()
    optimizer = make_optimizer(judge.trained, SMALL, on_cpu=False)
    for parameter in judge.trained.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    # bitsandbytes keeps moments of fewer than 4,096 numbers in 32 bits by itself.
    bits = {
        n: optimizer.state[p]["state1"].dtype for n, p in judge.trained.items() if p.numel() >= 4096
    }
    assert {bits[n] for n in bits if n.startswith("head.")} == {torch.float32}
    assert {bits[n] for n in bits if "lora_" in n} == {torch.uint8}


def test_what_computes_in_float16_is_not_trained(config, tmp_path):
    with raises(Code.FLOAT16_UNTRAINABLE):
        trainer(replace(config, dtype="float16"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "quantization"), [("gemma2", "nf4"), ("qwen2", "int8")])
def test_a_quantized_one_is_resumed_to_the_same_bits(
    configs, architecture, quantization, tmp_path, monkeypatch
):
    config = replace(configs[architecture], quantization=quantization)
    check_resumed(config, tmp_path, replace(SMALL, dropout=0.0), monkeypatch)


def test_both_groups_follow_the_schedule_at_their_own_rates(config, tmp_path):
    # Ten steps, two of them rising.
    recipe = replace(QUICK, batch=2, epochs=5, warmup=0.2, lr=4e-3, head_lr=1e-3, dropout=0.0)
    t = trainer(config, tmp_path, recipe, planted(4))
    step, found = t.optimizer.step, []

    def seen():
        found.append([group["lr"] for group in t.optimizer.param_groups])
        step()

    t.optimizer.step = seen
    t.run(100, "x")
    shares = [0.5, 1.0, *(0.5 * (1 + math.cos(math.pi * k / 8)) for k in range(8))]
    assert np.array(found) == pytest.approx(np.outer(shares, [4e-3, 1e-3]))
    loras, heads = (sum(p.numel() for p in g["params"]) for g in t.optimizer.param_groups)
    trained = t.judge.trained
    assert heads == sum(p.numel() for n, p in trained.items() if n.startswith("head."))
    assert loras == sum(p.numel() for n, p in trained.items() if "lora_" in n) > 0


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_the_number_of_cores_changes_no_bit(config, tmp_path, dropout):
    recipe = replace(SMALL, dropout=dropout)
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            trainer(config, tmp_path / str(threads), recipe).run(100, "x")
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(1)
    assert same(weights(tmp_path / "1"), weights(tmp_path / "3"))


def crowded(most):
    """A loss that runs out of memory with more than ``most`` sequences at once."""
    real = Trainer._loss

    def loss(self, samples):
        if len(samples) > most:
            raise torch.OutOfMemoryError("no memory")
        return real(self, samples)

    return loss


def test_out_of_memory_halves_the_micro_batch_and_goes_on(config, tmp_path, monkeypatch, capsys):
    recipe = replace(SMALL, batch=4, dropout=0.0)
    roomy = trainer(config, tmp_path / "roomy", recipe)
    roomy.budget = 10**4
    roomy.run(100, "x")
    monkeypatch.setattr(Trainer, "_loss", crowded(3))
    tight = trainer(config, tmp_path / "tight", recipe)
    tight.budget = 10**4
    tight.run(100, "x")
    assert "out of GPU memory: going on with --batch-tokens" in capsys.readouterr().out
    assert tight.budget < 10**4
    for name, weight in weights(tmp_path / "tight").items():
        assert torch.allclose(weight, weights(tmp_path / "roomy")[name], atol=1e-4)


def test_no_memory_for_one_sequence_is_one_line(config, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "_loss", crowded(0))
    t = trainer(config, tmp_path)
    t.budget = 10**4
    with raises(Code.OUT_OF_MEMORY, match="--max-tokens"):
        t.run(100, "x")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_one_line_and_leaves_the_weights(
    config, tmp_path, monkeypatch, value
):
    real = training.losses
    monkeypatch.setattr(training, "losses", lambda *a: real(*a) * value)
    t = trainer(config, tmp_path)
    before = {n: p.detach().clone() for n, p in t.judge.trained.items()}
    with raises(Code.TRAINING_DIVERGED, match="The last 5 steps.*at step 5"):
        t.run(100, "x")
    assert same(before, t.judge.trained)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def infinite_in(monkeypatch):
    """Makes the gradient of these steps infinite."""
    real = Trainer._part

    def install(*steps):
        def part(self, samples):
            loss, gradients = real(self, samples)
            if self.step in steps:
                gradients[0][0] = torch.inf
            return loss, gradients

        monkeypatch.setattr(Trainer, "_part", part)

    return install


def test_a_step_without_a_finite_gradient_is_skipped_and_counted(
    config, tmp_path, infinite_in, capsys
):
    infinite_in(1, 2, 5)
    t = trainer(config, tmp_path, replace(SMALL, dropout=0.0))
    t.run(100, "x")
    assert [math.isfinite(loss) for loss in t.losses] == [i not in (1, 2, 5) for i in range(8)]
    record = json.loads((tmp_path / RECORD).read_text())
    assert record["skipped_steps"] == 3
    assert np.isfinite(record["mean_loss_of_epoch"]).all()
    assert all(torch.isfinite(weight).all() for weight in weights(tmp_path).values())
    assert capsys.readouterr().err.count("the step is skipped") == 3


def test_skipped_steps_are_counted_across_a_restart(config, tmp_path, infinite_in, monkeypatch):
    infinite_in(0, 1, 2, 3, 4)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", dies_in_step(3))
        with pytest.raises(KeyboardInterrupt):
            trainer(config, tmp_path).run(1, "x")
    again = trainer(config, tmp_path)
    assert again.step == again.skipped_steps == 3
    with raises(Code.TRAINING_DIVERGED, match="The last 5 steps"):
        again.run(100, "x")
