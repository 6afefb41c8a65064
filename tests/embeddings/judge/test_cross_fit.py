"""Cross-fitted logits: parities, folds, what is never done twice, a signal that comes through."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from safetensors.torch import load_file

from arena.folds import fold_of, held_out
from arena.predictions_file import from_log_odds
from arena.swap import swap_battles
from common.errors import Code
from embeddings.backbone.config import load_config
from embeddings.backbone.load import load_backbone
from embeddings.both_orders import view_values
from embeddings.frozen.pair_reader import token_ids
from embeddings.judge import cross_fit, replicas
from embeddings.judge.config import FOR_TRAINING
from embeddings.judge.cross_fit import Judges, crossfit, unseen
from embeddings.judge.model import Judge
from embeddings.judge.trainer import Trainer
from tests.helpers.errors import raises
from tests.helpers.planted import QUICK, examples, planted, save_shallow_model
from tests.helpers.tiny import ARCHITECTURES
from tests.helpers.tuned_judges import BRIEF, fit

LEARNS = replace(QUICK, epochs=3, dropout=0.0)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = save_shallow_model(tmp_path_factory.mktemp("model"))
    return replace(load_config(str(folder)), dtype="float32")


@pytest.fixture
def trainings(monkeypatch):
    """The battles of every training, one entry each."""
    found, run = [], Trainer.run

    def counted(self, *arguments):
        found.append(self.dataset.pairs.ids)
        run(self, *arguments)

    monkeypatch.setattr(Trainer, "run", counted)
    return found


@pytest.fixture
def reads(monkeypatch):
    """The number of sequences of every batch that a judge read."""
    found, read = [], Judge.read

    def counted(self, batch, inputs):
        found.append(len(batch))
        return read(self, batch, inputs)

    monkeypatch.setattr(Judge, "read", counted)
    return found


@pytest.fixture
def loads(monkeypatch):
    """Layers of every backbone that was loaded, and whether it was to be trained."""
    found = []

    def load(config, **how):
        backbone = load_backbone(config, **how)
        found.append((len(backbone.decoder.layers), how.get("trains", False)))
        return backbone

    for module in (cross_fit, replicas):
        monkeypatch.setattr(module, "load_backbone", load)
    return found


def test_one_base_without_needless_layers_reads_with_all_judges(config, tmp_path, loads):
    judges, folders, _ = fit(planted(8), config, replace(BRIEF, read_layers="0.5"), tmp_path)
    assert loads == [(1, True), (1, True), (1, False)]
    asked = examples(planted(3, seed=1), config).pairs
    unseen(judges, folders, asked)
    assert len(loads) == 3
    # A mean of judges has another rank.
    unseen(judges, [judges.average(folders)], asked)
    assert loads[3:] == [(1, False)]


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
def test_swapped_adapters_say_what_freshly_loaded_judges_say(configs, tmp_path, quantization):
    config = replace(configs["llama"], quantization=quantization)
    judges, folders, _ = fit(planted(6), config, replace(BRIEF, head="mlp"), tmp_path)
    asked = examples(planted(4, seed=1), config).pairs
    found = [judges.logits(folder, asked, "") for folder in folders]
    assert not np.array_equal(*found)
    for folder, said in zip(folders, found, strict=True):
        judge = Judge(load_backbone(judges.config), judges.training).load(
            load_file(folder / "weights.safetensors")
        )
        alone = [
            np.concatenate([judge.read([s], token_ids)[0].numpy() for s in order])
            for order in (asked.forward, asked.swapped)
        ]
        assert np.array_equal(alone, said)


def probabilities(view):
    side, tie = view.values[:, 0], view.values[:, 1]
    return from_log_odds(side, tie)


def loss(view, labels):
    return -np.log(probabilities(view)[np.arange(len(labels)), labels]).mean()


def test_folds_are_those_of_everything_else():
    groups = [f"{i:016x}" for i in range(20)]
    assert [out.tolist() for out in held_out(groups, 3)] == [
        (fold_of(groups, 3) == k).tolist() for k in range(3)
    ]
    (out,) = held_out(groups, 1)
    assert out.tolist() == (fold_of(groups, 5) == 0).tolist()


def test_each_battle_gets_the_judge_that_left_it_out(config, tmp_path, trainings):
    battles = planted(9)
    _, folders, view = fit(battles, config, BRIEF, tmp_path, folds=3)
    folds = fold_of(battles["group"], 3)
    assert trainings == [battles["id"][folds != k].tolist() for k in range(3)]
    assert len(set(folders)) == 3
    assert view.ids == battles["id"].tolist()
    assert np.isfinite(view.values).all()


def test_swapped_battles_give_the_swapped_view_to_the_bit(config, tmp_path):
    judges, folders, _ = fit(planted(6), config, BRIEF, tmp_path)
    asked = planted(5, seed=1)
    there = unseen(judges, folders, examples(asked, config).pairs)
    back = unseen(judges, folders, examples(swap_battles(asked), config).pairs)
    assert np.array_equal(there.swap().values, back.values)


def test_one_fold_trains_on_four_fifths_and_knows_the_rest_only(config, tmp_path, trainings):
    battles = planted(20, seed=3)
    _, folders, view = fit(battles, config, BRIEF, tmp_path, folds=1)
    out = fold_of(battles["group"], 5) == 0
    assert 0 < out.sum() < 20
    assert trainings == [battles["id"][~out].tolist()]
    assert np.isfinite(view.values[out]).all()
    assert np.isnan(view.values[~out]).all()
    # Who goes on to five folds keeps this judge.
    _, five, _ = fit(battles, config, BRIEF, tmp_path, folds=5)
    assert five[0] == folders[0]
    assert len(trainings) == 5


def test_a_finished_judge_is_never_trained_or_asked_again(config, tmp_path, trainings, reads):
    battles = planted(6)
    judges, folders, view = fit(battles, config, BRIEF, tmp_path)
    trainings.clear()
    reads.clear()
    again = fit(battles, config, replace(BRIEF, batch_tokens=9999), tmp_path)
    assert np.array_equal(again[2].values, view.values)
    assert trainings == reads == []
    # New test battles are read, old ones are not.
    few, more = planted(3, seed=1), planted(4, seed=1)
    unseen(judges, folders, examples(few, config).pairs)
    reads.clear()
    unseen(judges, folders, examples(more, config).pairs)
    assert trainings == []
    fresh = {s.key for s in examples(more, config).pairs.forward} - {
        s.key for s in examples(few, config).pairs.forward
    }
    # Both orders, by two judges.
    assert sum(reads) == 2 * 2 * len(fresh)


@pytest.mark.parametrize(
    "change",
    [{"lr": 2e-3}, {"rank": 4}, {"head": "mlp"}, {"epochs": 2}, {"top_layers": 1}],
    ids=lambda change: next(iter(change)),
)
def test_changed_settings_begin_anew(config, tmp_path, change):
    learned = examples(planted(6), config)
    before = Judges(config, BRIEF, tmp_path, 100).address(learned)
    assert Judges(config, BRIEF, tmp_path, 7).address(learned) == before
    assert Judges(config, replace(BRIEF, **change), tmp_path, 100).address(learned) != before


def test_another_model_or_quantization_begins_anew(configs, config, tmp_path):
    learned = examples(planted(6), config)
    others = [config, configs["llama"], replace(config, quantization="nf4")]
    assert len({Judges(c, BRIEF, tmp_path, 100).address(learned) for c in others}) == 3


def test_changed_votes_begin_anew(config, tmp_path):
    judges, learned = Judges(config, BRIEF, tmp_path, 100), examples(planted(6), config)
    others = [
        learned,
        replace(learned, targets=learned.targets[:, ::-1].copy()),
        replace(learned, teacher=learned.targets),
        learned.take(np.arange(5)),
    ]
    assert len({judges.address(other) for other in others}) == 4
    student = Judges(config, replace(BRIEF, kl=2.0), tmp_path, 100)
    assert student.address(learned) == judges.address(learned)
    assert student.address(others[2]) != judges.address(others[2])


def test_a_fold_that_holds_everything_is_one_line(config, tmp_path):
    battles = planted(3)
    battles["group"] = "0" * 16
    with raises(Code.NO_TRAINING_BATTLES):
        fit(battles, config, BRIEF, tmp_path)


def test_the_lower_layers_are_read_once_for_all_judges(configs, tmp_path):
    config = replace(configs["gemma2"], dtype="bfloat16", quantization="nf4")
    judges, folders, view = fit(planted(6), config, replace(BRIEF, top_layers=2), tmp_path)
    assert np.isfinite(view.values).all()
    (lower,) = tmp_path.glob("lower-*")
    assert len(list(lower.glob("*.safetensors"))) == 1
    asked = examples(planted(2, seed=1), config).pairs
    judges.prepare(asked)
    assert np.isfinite(unseen(judges, folders, asked).values).all()
    assert len(list(lower.glob("*.safetensors"))) == 2


def test_a_planted_signal_is_learned_out_of_fold_and_survives_averaging(configs, tmp_path):
    config = replace(configs["llama"], dtype="float32")
    battles, asked = planted(60), planted(30, seed=1)
    judges, folders, view = fit(battles, config, LEARNS, tmp_path)
    assert (probabilities(view).argmax(axis=1) == battles["label"]).mean() > 0.7
    pairs, labels = examples(asked, config).pairs, asked["label"].to_numpy()
    ensemble = loss(unseen(judges, folders, pairs), labels)
    averaged = loss(unseen(judges, [judges.average(folders)], pairs), labels)
    print(f"log loss of the ensemble {ensemble:.4f}, of the averaged adapters {averaged:.4f}")
    assert ensemble < 0.8
    assert averaged < 0.95


QUANTIZED = ("none", "nf4", "int8")
OFTEN = {("qwen2", "none"), ("llama", "nf4"), ("gemma2", "nf4"), ("llama", "int8")}
"""Each architecture and each quantization; of a float32 Llama the test above says the same."""


@pytest.mark.parametrize(
    ("architecture", "quantization"),
    [
        pytest.param(*pair, marks=pytest.mark.slow if pair in OFTEN else pytest.mark.exhaustive)
        for pair in product(ARCHITECTURES, QUANTIZED)
    ],
)
def test_every_backbone_learns_a_planted_signal_out_of_fold(architecture, quantization, tmp_path):
    folder = save_shallow_model(tmp_path / "model", architecture)
    config = replace(load_config(str(folder)), quantization=quantization)
    battles = planted(60)
    judges, learned = Judges(config, LEARNS, tmp_path, 100), examples(battles, config)
    judges.prepare(learned.pairs)
    out = held_out(battles["group"], 2)[:1]
    _, view = crossfit(judges, learned, out, learned.pairs)
    known = view.take(out[0])
    assert (probabilities(known).argmax(axis=1) == battles["label"][out[0]]).mean() > 0.7


def heard(values, labels):
    """Correlations of ``side`` with A against B, and of ``tie`` with ties."""
    return [
        np.corrcoef(values[:, 0], (labels == 0) * 1.0 - (labels == 1))[0, 1],
        np.corrcoef(values[:, 1], labels == 2)[0, 1],
    ]


@pytest.mark.parametrize("epochs", [0, 1])
def test_logits_say_nothing_of_shuffled_votes_that_their_judge_never_saw(config, tmp_path, epochs):
    battles = planted(80)
    battles["label"] = np.random.default_rng(7).permutation(battles["label"])
    labels = battles["label"].to_numpy()
    recipe = replace(LEARNS, epochs=epochs, lr=1e-3, head_lr=1e-3)
    judges, folders, view = fit(battles, config, recipe, tmp_path)
    # A correlation of what is independent has a standard deviation of 1 / sqrt(n): here four.
    bound = 4 / np.sqrt(80)
    assert np.abs(heard(view.values, labels)).max() < bound
    # Of the votes that it did see a judge says more than that: the bound would notice.
    asked = examples(battles, config, recipe).pairs
    values = view_values(*judges.logits(folders[0], asked, ""))
    seen = ~held_out(battles["group"], 2)[0]
    assert np.min(heard(values[seen], labels[seen])) > bound


@pytest.mark.slow
def test_shuffled_votes_land_on_the_prior(config, tmp_path):
    battles = planted(120)
    battles["label"] = np.random.default_rng(7).permutation(battles["label"])
    gentle = replace(LEARNS, epochs=1, lr=1e-3, head_lr=1e-3)
    _, _, view = fit(battles, config, gentle, tmp_path)
    assert loss(view, battles["label"].to_numpy()) == pytest.approx(np.log(3), abs=0.1)


def test_a_judge_of_no_epoch_is_a_probe_that_never_saw_the_votes_it_answers(
    config, tmp_path, reads
):
    battles = planted(60)
    frozen = replace(LEARNS, epochs=0)
    judges, folders, view = fit(battles, config, frozen, tmp_path / "a")
    # Its logits need no second reading, and are those that it would say.
    assert not reads
    asked = examples(battles, config, frozen).pairs
    said = judges.logits(folders[0], asked, "x")[0][5]
    judge = Judge(load_backbone(judges.config), frozen)
    judge.load(load_file(folders[0] / "weights.safetensors"))
    assert np.allclose(judge.read([asked.forward[5]], token_ids)[0].numpy(), said, atol=0.02)
    again = battles.copy()
    half = fold_of(battles["group"], 2) == 0
    # Other votes of the left-out half: the judge that answers it learned from the other half.
    again.loc[half, "label"] = (again.loc[half, "label"] + 1) % 3
    _, _, other = fit(again, config, frozen, tmp_path / "b")
    assert np.array_equal(view.values[half], other.values[half])
    assert not np.allclose(view.values[~half], other.values[~half], atol=1e-3)


def test_without_an_epoch_the_options_of_training_change_nothing(config, tmp_path):
    battles = planted(20)
    changed = {"head": "mlp", "gradient_checkpointing": True, "top_layers": 1, "dropout": 0.2}
    changed = {n: changed.get(n) or getattr(BRIEF, n) * 2 for n in FOR_TRAINING}
    frozen = replace(BRIEF, epochs=0)
    (_, _, view), (_, _, same), (_, _, other) = (
        fit(battles, config, recipe, tmp_path / str(i))
        for i, recipe in enumerate(
            (frozen, replace(frozen, **changed), replace(frozen, pool="last"))
        )
    )
    assert view.values == pytest.approx(same.values, abs=1e-5)
    assert view.values != pytest.approx(other.values, abs=1e-3)
