"""Evidence: made once, whole after any interruption, and exact under a swap."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from arena.feature_table import FeatureTable
from arena.swap import swap_battles
from common.errors import Code
from common.parquet import read_notes
from common.run_dir import SPLITS
from embeddings.backbone import device
from embeddings.backbone.config import load_config
from embeddings.backbone.load import load_backbone
from embeddings.frozen.log_likelihood import QUANTITIES
from embeddings.frozen.pooling import POOLINGS, slot_names
from embeddings.frozen.scoring import Scorer
from embeddings.frozen.states import HiddenStates
from embeddings.prompts.answers import pack_battles
from tests.helpers.errors import raises
from tests.helpers.extracted import BATTLES, FEW, SHARD, extract_all, files
from tests.helpers.tiny import tiny_battles

pytestmark = pytest.mark.usefixtures("small_shards")


def states(folder, split="train"):
    """All states of a split; (2, n, slots, d)."""
    found = HiddenStates.read(folder, split)
    return np.stack([np.stack(found.slot(i), axis=0) for i in range(len(found.slots))], axis=2)


def stores(folder):
    return sorted(path.name for path in (folder / "hidden").iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def config(configs):
    return configs["llama"]


def test_what_is_written(calm):
    (store,) = stores(calm)
    names = set(files(calm))
    shards = [name for name in names if name.endswith(".safetensors")]
    assert len(shards) == 3
    assert all(name.startswith(f"hidden/{store}/") for name in shards)
    assert names - set(shards) == {
        "hidden/train.parquet",
        "likelihood/train.parquet",
        f"hidden/{store}/settings.json",
    }


def test_rows_are_those_of_the_scorer(calm, config):
    backbone = load_backbone(config)
    found = HiddenStates.read(calm, "train")
    view = FeatureTable.read(calm / "likelihood" / "train.parquet")
    assert found.ids == view.ids == BATTLES["id"].tolist()
    stored = states(calm)
    assert stored.shape == (2, 10, 4 * len(POOLINGS), 64)
    assert stored.dtype == np.float16
    assert found.slots == slot_names([1, 2, 3, 4])
    packed = pack_battles(BATTLES, config, backbone.tokenizer, "")
    by_key = {item.key: item for item in packed.answers}
    scorer = Scorer(backbone, packed.end_token, packed.shared_prefix)
    for row in (0, 1, 9):
        for side, keys in zip(stored, (packed.key_a, packed.key_b), strict=True):
            scored, _ = scorer.score([by_key[keys[row]]])
            np.testing.assert_array_equal(side[row], scored[0])
        _, (a,) = scorer.score([by_key[packed.key_a[row]]])
        _, (b,) = scorer.score([by_key[packed.key_b[row]]])
        frame = view.frame().iloc[row]
        for i, quantity in enumerate(QUANTITIES):
            np.testing.assert_array_equal(frame[f"{quantity}.diff"], a[i] - b[i])
            np.testing.assert_array_equal(frame[f"{quantity}.sum"], a[i] + b[i])


def test_the_second_time_nothing_is_read(calm, config, tmp_path, counted, capsys):
    folder = shutil.copytree(calm, tmp_path / "run")
    extract_all(BATTLES, config, folder, "train")
    assert "train: 20 distinct answers, 0 to read, 0 tokens" in capsys.readouterr().out
    assert counted.items == 0
    assert files(folder) == files(calm)


@pytest.mark.parametrize("stop", [0, 7, 8, 12, 19])
def test_interrupted_and_resumed_gives_the_same_bytes(calm, config, tmp_path, counted, stop):
    counted.stop = stop
    with pytest.raises(KeyboardInterrupt):
        extract_all(BATTLES, config, tmp_path, "train")
    shards = list(tmp_path.rglob("*.safetensors"))
    assert len(shards) == stop // SHARD
    assert not list(tmp_path.rglob("*.parquet"))
    counted.stop, counted.items = 1 << 30, 0
    extract_all(BATTLES, config, tmp_path, "train")
    # At most one shard's work is done twice.
    assert counted.items == 20 - SHARD * len(shards)
    assert files(tmp_path) == files(calm)


def test_a_corrupt_shard_is_made_again(calm, config, tmp_path, counted, capsys):
    folder = shutil.copytree(calm, tmp_path / "run")
    path = min(folder.rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    with raises(Code.RUN_FILE_DAMAGED):
        HiddenStates.read(folder, "train")
    extract_all(BATTLES, config, folder, "train")
    assert "is damaged" in capsys.readouterr().err
    assert 0 < counted.items <= SHARD
    assert files(folder) == files(calm)


def test_only_what_is_new_is_read(config, tmp_path, counted):
    extract_all(FEW, config, tmp_path, "train")
    before = files(tmp_path)
    other = tmp_path / "hidden" / "test.parquet"
    changed = FEW.copy()
    changed.at[1, "response_b"] = ["another answer"]
    counted.items = 0
    extract_all(changed, config, tmp_path, "test")
    assert counted.items == 1
    assert other.exists()
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": (0.5,)},
        {"quantization": "int8"},
        {"dtype": "float32"},
        {"unconditional_tokens": 0},
        {"unconditional_tokens": 5},
    ],
)
def test_another_setting_has_a_store_of_its_own(config, tmp_path, counted, changes):
    extract_all(FEW, config, tmp_path, "train")
    (first,) = stores(tmp_path)
    shards = files(tmp_path / "hidden" / first)
    counted.items = 0
    extract_all(FEW, replace(config, **changes), tmp_path, "train")
    assert counted.items >= 6
    assert len(stores(tmp_path)) == 2
    assert files(tmp_path / "hidden" / first) == shards
    layers = 1 if "layers" in changes else 4
    assert states(tmp_path).shape[2] == layers * len(POOLINGS)


def test_a_gpu_fills_a_store_of_its_own_and_its_evidence_goes_with_a_cpus(
    config, tmp_path, counted, monkeypatch
):
    extract_all(FEW, config, tmp_path, "train")
    (cpu,) = (path for path in (tmp_path / "hidden").iterdir() if path.is_dir())
    before, read = files(cpu), counted.items
    # What names the store finds a GPU, what loads the model does not.
    monkeypatch.setattr(device, "default_device", lambda: torch.device("cuda"))
    extract_all(FEW, config, tmp_path, "test")
    assert counted.items == 2 * read
    assert files(cpu) == before
    gpu = cpu.with_name(f"{cpu.name}-cuda")
    assert sorted(path.name for path in gpu.glob("*.safetensors")) == sorted(
        path.name for path in cpu.glob("*.safetensors")
    )
    notes = [read_notes(tmp_path / "hidden" / f"{split}.parquet") for split in SPLITS]
    assert [n["source"] for n in notes] == [cpu.name, cpu.name]
    assert [n.get("store") for n in notes] == [None, gpu.name]
    shutil.rmtree(cpu)
    found = HiddenStates.read(tmp_path, "test")
    assert found.source == cpu.name
    assert len(found.slot(0)[0]) == len(FEW)


def test_another_model_has_a_store_of_its_own(config, configs, tmp_path):
    extract_all(FEW, config, tmp_path, "train")
    extract_all(FEW, configs["qwen2"], tmp_path, "train")
    assert len(stores(tmp_path)) == 2


def test_names_and_batches_change_nothing(config, tmp_path, counted):
    extract_all(FEW, config, tmp_path, "train")
    counted.items = 0
    extract_all(FEW, replace(config, name="other", batch_tokens=1 << 20), tmp_path, "train")
    assert counted.items == 0


def test_a_swap_swaps_to_the_last_bit(calm, config, tmp_path):
    extract_all(swap_battles(BATTLES), config, tmp_path, "train")
    view = FeatureTable.read(calm / "likelihood" / "train.parquet")
    swapped = FeatureTable.read(tmp_path / "likelihood" / "train.parquet")
    np.testing.assert_array_equal(swapped.values, view.swapped_values())
    a, b = states(calm)
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(states(tmp_path), np.stack([b, a]))
    # The distinct answers are the same, and so is all that was read.
    store = stores(calm)[0]
    assert files(tmp_path / "hidden" / store) == files(calm / "hidden" / store)


def test_order_and_mates_of_the_battles_do_not_matter(calm, config, tmp_path):
    rows = [9, 3, 3, 0]
    extract_all(BATTLES.iloc[rows], config, tmp_path, "test")
    assert HiddenStates.read(tmp_path, "test").ids == ["9", "3", "3", "0"]
    np.testing.assert_array_equal(states(tmp_path, "test"), states(calm)[:, rows])
    likelihood = FeatureTable.read(tmp_path / "likelihood" / "test.parquet")
    everything = FeatureTable.read(calm / "likelihood" / "train.parquet")
    np.testing.assert_array_equal(likelihood.values, everything.values[rows])


def test_a_table_without_battles(config, tmp_path):
    extract_all(BATTLES[:0], config, tmp_path, "test")
    assert FeatureTable.read(tmp_path / "likelihood" / "test.parquet").ids == []
    assert [len(side) for side in HiddenStates.read(tmp_path, "test").slot(0)] == [0, 0]


def test_states_that_were_never_made(tmp_path, calm):
    with raises(Code.SPLIT_NOT_EXTRACTED, match=r"test\.parquet"):
        HiddenStates.read(calm, "test")
    folder = shutil.copytree(calm, tmp_path / "run")
    min(folder.rglob("*.safetensors")).unlink()
    with raises(Code.STATES_INCOMPLETE):
        HiddenStates.read(folder, "train")


@pytest.mark.slow
def test_the_embedded_model_prefers_sense_to_its_words_shuffled(tmp_path):
    sense = "The capital of France is Paris, a large city on the river Seine."
    shuffled = "river of Paris, the Seine. large The a France on is capital city"
    assert sorted(sense.split()) == sorted(shuffled.split())
    battles = tiny_battles(
        ("What is the capital of France?", sense, shuffled),
        ("Name three colours.", "Red, green and blue.", "green blue. and Red,"),
    )
    config = load_config("smollm2-135m")
    for name in ("first", "second"):
        extract_all(battles, config, tmp_path / name, "train")
    frame = FeatureTable.read(tmp_path / "first" / "likelihood" / "train.parquet").frame()
    for quantity in ("mean", "bare", "sum", "greedy"):
        assert (frame[f"{quantity}.diff"] > 0).all(), quantity
    assert HiddenStates.read(tmp_path / "first", "train").slots[1] == "layer10.last"
    assert states(tmp_path / "first").shape == (2, 2, 4 * len(POOLINGS), 576)
    assert files(tmp_path / "first") == files(tmp_path / "second")
