"""Battles by chunks give what one chunk gives, whatever interrupts them."""

import itertools
import time
from concurrent.futures import CancelledError
from threading import Event

import numpy as np
import pandas as pd
import pytest

from arena.feature_table import FeatureTable
from common.errors import Code, UserError
from common.parquet import read_notes
from embeddings import inference
from embeddings.backbone.load import load_tokenizer
from embeddings.frozen import answer_reader as reader
from embeddings.frozen import chunks as module
from embeddings.frozen.chunks import in_chunks, packed_ahead
from embeddings.frozen.extract import extract
from embeddings.frozen.language_model import LanguageModel
from embeddings.frozen.scoring import Scorer
from embeddings.frozen.states import HiddenStates
from embeddings.prompts.answers import pack_battles
from tests.helpers.errors import raises
from tests.helpers.extracted import extract_all
from tests.helpers.tiny import tiny_battles

BATTLES = tiny_battles(
    ("Why?", "", "Because."),
    *((f"What is {i}?", f"It is {i} cats.", f"{'dog ' * i}") for i in range(1, 9)),
    # What the first chunk has read already.
    ("Why?", "Because.", "A new answer."),
)
DISTINCT = 19
PARTS = [BATTLES[:3], BATTLES[3:3], BATTLES[3:8], BATTLES[8:]]


@pytest.fixture(scope="module", autouse=True)
def _small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "SHARD_ITEMS", 3)
        yield


@pytest.fixture(scope="module")
def one(tmp_path_factory, configs):
    """The evidence of all battles, made in one chunk."""
    folder = tmp_path_factory.mktemp("one")
    extract_all(BATTLES, configs["llama"], folder, "train")
    return folder


@pytest.fixture
def _fours(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 4)


@pytest.fixture
def calls(monkeypatch):
    """Items read and models loaded; a reading raises KeyboardInterrupt after ``stop`` items."""

    class Calls:
        items, models, stop = 0, 0, 1 << 30

    score, load = Scorer.score, reader.load_backbone

    def scoring(self, items):
        if Calls.items >= Calls.stop:
            raise KeyboardInterrupt
        Calls.items += len(items)
        return score(self, items)

    def loading(config):
        Calls.models += 1
        return load(config)

    monkeypatch.setattr(Scorer, "score", scoring)
    monkeypatch.setattr(reader, "load_backbone", loading)
    return Calls


def extract_parts(configs, folder, parts=PARTS):
    extract(iter(parts), len(BATTLES), LanguageModel(configs["llama"]), folder, "train")


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def assert_same_evidence(found, wanted):
    name = "hidden/train.parquet"
    assert (found / name).read_bytes() == (wanted / name).read_bytes()
    notes = [read_notes(folder / "likelihood" / "train.parquet") for folder in (found, wanted)]
    assert notes[0] == notes[1]
    views = [
        FeatureTable.read(folder / "likelihood" / "train.parquet") for folder in (found, wanted)
    ]
    assert views[0].values.tobytes() == views[1].values.tobytes()
    states = [HiddenStates.read(folder, "train") for folder in (found, wanted)]
    assert states[0].ids == states[1].ids == BATTLES["id"].tolist()
    for number in range(len(states[0].slots)):
        for a, b in zip(*(s.slot(number) for s in states), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("_fours")
@pytest.mark.parametrize(
    ("sizes", "found"),
    [([9], [4, 4, 1]), ([3, 0, 5, 1], [4, 4, 1]), ([4], [4]), ([0], [0]), ([], [0])],
)
def test_chunks_by_hand(sizes, found):
    ends = np.cumsum([0, *sizes])
    parts = [BATTLES[start:end] for start, end in itertools.pairwise(ends)]
    cut = list(in_chunks(parts))
    assert [len(chunk) for chunk in cut] == found
    assert [i for chunk in cut for i in chunk["id"]] == BATTLES["id"][: sum(sizes)].tolist()


@pytest.mark.usefixtures("_fours")
def test_one_chunk_is_packed_ahead_and_no_more():
    begun = []

    def pack(_, battles):
        begun.append(battles["id"].iloc[0])
        return begun[-1]

    with packed_ahead(PARTS, pack) as packed:
        for number, name in enumerate(packed):
            time.sleep(0.05)
            assert name == ["0", "4", "8"][number]
            assert len(begun) <= number + 2


@pytest.mark.usefixtures("_fours")
def test_a_chunk_that_is_being_packed_does_not_delay_the_end():
    ended = []

    def pack(stop, battles):
        if battles["id"].iloc[0] != "0":
            ended.append(stop.wait(60))
        return ""

    def interrupted():
        with packed_ahead(PARTS, pack) as packed:
            next(packed)
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert time.monotonic() - start < 30
    assert ended == [True]


def test_packing_ends_where_it_is_stopped(configs):
    stop, tokenizer = Event(), load_tokenizer(configs["llama"])
    stop.set()
    with pytest.raises(CancelledError):
        pack_battles(BATTLES, configs["llama"], tokenizer, "", stop)


@pytest.mark.usefixtures("_fours")
def test_several_chunks_give_what_one_gives(one, configs, tmp_path, calls, capsys):
    extract_parts(configs, tmp_path)
    assert_same_evidence(tmp_path, one)
    assert (calls.items, calls.models) == (DISTINCT, 1)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "train: battles 1-4 of 10: 8 distinct answers",
        "train: battles 5-8 of 10: 8 distinct answers",
        "train: battles 9-10 of 10: 4 distinct answers",
    ]
    # Of the last, one was read with the first chunk.
    assert [line.split(", ")[1] for line in lines] == ["8 to read", "8 to read", "3 to read"]
    again = files(tmp_path)
    extract_parts(configs, tmp_path, [BATTLES])
    assert files(tmp_path) == again
    assert (calls.items, calls.models) == (DISTINCT, 1)


@pytest.mark.usefixtures("_fours")
@pytest.mark.parametrize(("stop", "shards"), [(2, 0), (8, 3), (12, 4), (18, 6)])
def test_interrupted_in_any_chunk_goes_on_to_the_same_bytes(
    one, configs, tmp_path, calls, stop, shards
):
    extract_parts(configs, tmp_path / "calm")
    calls.items, calls.stop = 0, stop
    with pytest.raises(KeyboardInterrupt):
        extract_parts(configs, tmp_path / "run")
    kept = [name for name in files(tmp_path / "run") if not name.endswith("settings.json")]
    assert len(kept) == shards
    assert all(name.endswith(".safetensors") for name in kept)
    calls.stop = 1 << 30
    extract_parts(configs, tmp_path / "run")
    assert files(tmp_path / "run") == files(tmp_path / "calm")
    assert_same_evidence(tmp_path / "run", one)


@pytest.mark.usefixtures("_fours")
def test_what_is_wrong_with_a_later_part_is_told(configs, tmp_path):
    def parts():
        yield BATTLES[:6]
        raise UserError(Code.RUN_FILE_DAMAGED, "battles are damaged")

    with raises(Code.RUN_FILE_DAMAGED, match="battles"):
        extract_parts(configs, tmp_path, parts())
    assert not [name for name in files(tmp_path) if "parquet" in name]


@pytest.mark.usefixtures("_fours")
def test_battles_without_numbers_are_named_once(configs, tmp_path, monkeypatch, capsys):
    score = Scorer.score
    monkeypatch.setattr(Scorer, "score", lambda s, items: [x * np.nan for x in score(s, items)])
    battles = pd.concat([BATTLES, BATTLES[:2].assign(id=["x", "y"])])
    extract_all(battles, configs["llama"], tmp_path, "train")
    told = capsys.readouterr().err
    assert told.count("not finite") == 1
    assert "numbers for 12 battles are not finite" in told
    assert "id '0', '1', '2', '3', '4', '5', '6', '7', '8', '9' and 2 more" in told
