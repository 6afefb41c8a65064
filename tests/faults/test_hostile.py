"""Files made in order to harm: nothing in them runs, and no path in them leads out."""

import ast
import json
import pickle
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from arena.battle_table import read_battles_table, texts_hash, write_battles
from arena.feature_table import Column, FeatureTable
from arena.reader import read_battles
from common.errors import Code, UserError
from common.parquet import write_table
from common.run_dir import RunDir
from embeddings.backbone.config import finetune_entries, load_config
from embeddings.cache.shards import ShardStore, ShardWriter
from embeddings.cache.tensor_files import DamagedError, read_tensors
from embeddings.frozen.states import HiddenStates
from meta.stack import model_io as bundle
from meta.stack.dataset import read_dataset
from meta.stack.predictions import Predictions
from tests.helpers.battle_files import as_csv, cells, save
from tests.helpers.errors import raises

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("arena", "features", "embeddings", "meta", "pipelines")
KEY = bytes(range(32))


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def bomb(tmp_path):
    """A pickle that leaves a file, and a check that it did not."""
    path = tmp_path / "ran"
    content = pickle.dumps(Bomb(path))
    pickle.loads(content)
    assert path.exists()
    path.unlink()
    yield content
    assert not path.exists()


READERS = {
    "run.json": lambda path: RunDir(path.parent).read_record(),
    "battles.parquet": read_battles_table,
    "view.parquet": FeatureTable.read,
    "predictions.parquet": Predictions.read,
    "x.safetensors": read_tensors,
    "bundle.json": lambda path: bundle.load(path.parent),
    "backbone.yaml": lambda path: load_config(str(path)),
    "votes.csv": lambda path: read_battles(str(path), labelled=True),
}


@pytest.mark.parametrize("name", READERS)
def test_a_pickle_in_place_of_any_file_does_not_run(tmp_path, bomb, name):
    path = tmp_path / name
    path.write_bytes(bomb)
    with pytest.raises((UserError, DamagedError)):
        READERS[name](path)


def test_a_pickle_in_place_of_a_shard_does_not_run(tmp_path, bomb):
    writer = ShardWriter(tmp_path / "store")
    writer.add([KEY], {"states": np.ones((1, 2), np.float16)})
    (path,) = (tmp_path / "store").glob("*.safetensors")
    path.write_bytes(bomb)
    with raises(Code.RUN_FILE_DAMAGED):
        ShardStore(tmp_path / "store")


def calls(tree):
    """Dotted names of all that is called, and of all that is imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)
            for word in node.keywords:
                if word.arg in ("trust_remote_code", "allow_pickle", "shell"):
                    yield f"{word.arg}={ast.unparse(word.value)}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (f"import {alias.name}" for alias in node.names)
            yield f"import {getattr(node, 'module', '')}"


FORBIDDEN = {
    *("eval", "exec", "compile", "__import__", "torch.load", "np.load", "joblib.load"),
    *("yaml.load", "yaml.full_load", "yaml.unsafe_load", "os.system", "pd.read_pickle"),
    *("import pickle", "import marshal", "import shelve", "import dill", "import cloudpickle"),
    *("trust_remote_code=True", "allow_pickle=True", "shell=True"),
}


def test_no_source_of_ours_can_run_a_file():
    found = {
        f"{path.relative_to(ROOT)}: {call}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for call in calls(ast.parse(path.read_text()))
        if call in FORBIDDEN
    }
    assert not found


def test_the_search_for_such_calls_finds_them():
    source = "import pickle\nyaml.load(f)\nx.from_pretrained(y, trust_remote_code=True)\neval('1')"
    assert set(calls(ast.parse(source))) & FORBIDDEN == {
        "import pickle",
        "yaml.load",
        "trust_remote_code=True",
        "eval",
    }


def test_models_are_loaded_without_their_code():
    """Each from_pretrained says so, but for the package's GGUF, which has no code."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("Auto"):
                    words = {word.arg for word in node.keywords}
                    assert words & {"trust_remote_code", "gguf_file"} or not ast.unparse(
                        node.func
                    ).endswith("from_pretrained"), f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.mkdir [%s]",
        "!!python/object/new:os.mkdir [%s]",
        "!!python/name:os.mkdir",
        "!!python/module:os",
    ],
)
def test_tags_of_yaml_do_not_run(tmp_path, tag):
    made = tmp_path / "made"
    path = tmp_path / "backbone.yaml"
    path.write_text(f"source: {tag % made if '%s' in tag else tag}\n")
    for read in (load_config, finetune_entries):
        with raises(Code.BACKBONE_CONFIG_INVALID, match=r"backbone\.yaml"):
            read(str(path))
    assert not made.exists()


DEEP = "[" * 100_000


def test_deep_nesting_is_one_line(tmp_path):
    refused = {
        "run.json": Code.RUN_FILE_DAMAGED,
        "bundle.json": Code.MODEL_DAMAGED,
        "backbone.yaml": Code.BACKBONE_CONFIG_INVALID,
    }
    for name, code in refused.items():
        path = tmp_path / name
        path.write_text(DEEP if name != "backbone.yaml" else "source: " + DEEP)
        with raises(code):
            READERS[name](path)
    field = pa.field("a", pa.float32(), metadata={"tiebreak": DEEP})
    path = tmp_path / "view.parquet"
    ids = pa.array(["1"])
    write_table(
        path,
        pa.table([ids, pa.array([1.0], pa.float32())], pa.schema([("id", pa.string()), field])),
    )
    with raises(Code.RUN_FILE_DAMAGED):
        FeatureTable.read(path)


@pytest.mark.parametrize(
    "changes", [{"fusions": []}, {"length": [1]}, {"learned": {"hidden": "x"}}]
)
def test_a_bundle_of_other_kinds_is_damaged(tmp_path, changes):
    sound = {"format": bundle.FORMAT, "class_order": list(bundle.CLASSES), "prior": [1, 1, 1]}
    entries = {**sound, "length": {}, "fusions": {}, "learned": {}, "sha256": {}, **changes}
    (tmp_path / "bundle.json").write_text(json.dumps(bundle.signed(entries)))
    with raises(Code.MODEL_DAMAGED):
        bundle.load(tmp_path)


TUNED = {"backbone": {"asked": "toy", "quantization": "none"}, "recipe": {}, "folds": 5}
SAID = {"backbone": {"asked": "", "quantization": None}, "endpoint": None}


@pytest.mark.parametrize(
    "entries",
    [
        {"backbone": {"asked": "smollm2-135m"}},
        {"backbone": ["smollm2-135m"]},
        {"backbone": {"asked": 3, "quantization": "none"}},
        {"inputs": {"train": "votes.csv"}},
        {"seconds": {"style_train": "long"}},
        {"style": 3},
        {"seconds": {"style_train": float("nan")}},
        {"peak_mib": {"style_train": "much"}},
        {"backbone": {"asked": "toy", "quantization": "none", "config": "toy"}},
        {"backbone": {"asked": "\ud800", "quantization": "none"}},
        {"finetune": ["logits-a"]},
        {"finetune": {"logits-a": "rank 8"}},
        {"finetune": {"logits-a": {**TUNED, "recipe": [8]}}},
        {"finetune": {"logits-a": {**TUNED, "folds": "5"}}},
        {"finetune": {"logits-a": {"folds": 5}}},
        {"verdict": {"verdict-a": []}},
        {"verdict": {"verdict-a": {**SAID, "endpoint": {"url": 3, "model": "m"}}}},
        {"verdict": {"verdict-a": {"backbone": SAID["backbone"]}}},
    ],
)
def test_a_record_of_other_kinds_is_damaged(tmp_path, entries):
    run = RunDir(tmp_path)
    run.record.write_text(json.dumps(entries))
    with raises(Code.RUN_FILE_DAMAGED, match=r"run\.json"):
        run.read_record()


def test_a_record_as_it_is_written_is_read(tmp_path):
    endpoint = {"url": "http://box/v1", "model": "m", "top_logprobs": 20, "more": None}
    entries = {
        "backbone": {"asked": "toy", "quantization": "none"},
        "seconds": {"style_train": 1, "style_test": 0.5},
        "finetune": {"logits-a": TUNED},
        "verdict": {"verdict-a": SAID, "verdict-b": {**SAID, "endpoint": endpoint}},
        "more": [1],
    }
    run = RunDir(tmp_path)
    run.update_record(**entries)
    assert run.read_record() == entries


@pytest.mark.parametrize("damage", ["no metadata", "no key_b", "null", "text", "short"])
def test_a_damaged_table_of_keys_is_one_line(tmp_path, damage):
    keys = pa.array([KEY], pa.binary(32))
    columns = {"id": pa.array(["1"]), "key_a": keys, "key_b": keys}
    columns["key_b"] = {
        "null": pa.array([None], pa.binary(32)),
        "text": pa.array(["x" * 32]),
        "short": pa.array([b"x"]),
    }.get(damage, keys)
    if damage == "no key_b":
        del columns["key_b"]
    notes = {"source": "0" * 16, "slots": "layer1.mean"}
    table = pa.table(columns).replace_schema_metadata(None if damage == "no metadata" else notes)
    write_table(tmp_path / "hidden" / "train.parquet", table)
    with raises(Code.RUN_FILE_DAMAGED, match=r"train\.parquet"):
        HiddenStates.read(tmp_path, "train")


def test_tables_of_other_columns_are_damaged(tmp_path):
    path = tmp_path / "x.parquet"
    write_table(path, pa.table({"id": ["1"], "a": [1.0]}))
    for read in (FeatureTable.read, read_battles_table):
        with raises(Code.RUN_FILE_DAMAGED):
            read(path)


@pytest.mark.parametrize("settings", ["../outside", "/etc", "..", "0123456789ABCDEF", ""])
def test_the_name_of_a_store_leads_nowhere_else(tmp_path, settings):
    keys = pa.array([KEY], pa.binary(32))
    table = pa.table({"id": ["1"], "key_a": keys, "key_b": keys})
    metadata = {"source": settings, "slots": "layer1.mean"}
    ShardWriter(tmp_path / "outside").add([KEY], {"states": np.ones((1, 1, 2), np.float16)})
    write_table(tmp_path / "hidden" / "train.parquet", table.replace_schema_metadata(metadata))
    with raises(Code.RUN_FILE_DAMAGED, match=r"train\.parquet"):
        HiddenStates.read(tmp_path, "train")


@pytest.mark.parametrize("file", ["../secret.txt", "/etc/hostname", "meta/../../secret.txt"])
def test_a_booster_leads_nowhere_else(tmp_path, monkeypatch, file):
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "model"
    (folder / "meta").mkdir(parents=True)
    fusion = {"views": [], "columns": [], "boosters": [file], "params": {}}
    entries = {
        "format": bundle.FORMAT,
        "class_order": list(bundle.CLASSES),
        "prior": [1, 1, 1],
        "length": {},
        "fusions": {"meta": fusion},
        "learned": {},
        "sha256": {file: sha256(b"secret").hexdigest()},
    }
    (folder / "bundle.json").write_text(json.dumps(bundle.signed(entries)))
    opened = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: opened.append(path.name) or read(path))
    with raises(Code.MODEL_DAMAGED):
        bundle.load(folder)
    assert not {"secret.txt", "hostname"} & set(opened)


@pytest.mark.parametrize(
    "id_",
    [
        "=cmd|' /C calc'!A0",
        '=HYPERLINK("http://x","y")',
        "+SUM(1)",
        "-2+3+cmd|' /C calc'!A0",
        "@SUM(1)",
        "\t=SUM(1)",
        "\r=SUM(1)",
        " =SUM(1)",
        "='file:///etc/passwd'#$Sheet1.A1",
        "=[Book1.xlsx]Sheet1",
        "\uff1dSUM(1)",
        "a;=cmd|' /C calc'!A0",
        'a; "=cmd|1',
        "a,@SUM(1)",
        "x\r=cmd|' /C calc'!A0",
        "x\ny",
        "x\x00y",
        "x\u2028y",
    ],
)
def test_an_id_that_a_spreadsheet_would_call_becomes_the_row_number(tmp_path, id_):
    rows = [[id_, *cells(0)[1:4]], cells(1)[:4]]
    path = save(tmp_path, as_csv(rows, ("id", "prompt", "response_a", "response_b")))
    found = read_battles(path, labelled=False)
    assert found["id"].tolist() == ["0", "1"]
    assert found["reason"].tolist() == ["id is too long, a formula or not one line", ""]


@pytest.mark.parametrize(
    "id_", ["-5", "-Xf3_", "+49", "@me", "a=b(c)", "=", "e-(1)", "a;b", "a#1[x]", "é 1"]
)
def test_other_ids_stay_as_they_are(tmp_path, id_):
    rows = [[id_, *cells(0)[1:4]]]
    path = save(tmp_path, as_csv(rows, ("id", "prompt", "response_a", "response_b")))
    assert read_battles(path, labelled=False)["id"].tolist() == [id_]


def test_a_view_outside_of_the_run_is_not_there(tmp_path):
    run = RunDir(tmp_path / "run")
    table = read_battles(save(tmp_path, as_csv([cells(0)])), labelled=True)
    write_battles(run.battles("train"), table)
    for place in (run.views / "style", tmp_path / "outside"):
        FeatureTable(["0"], np.ones((1, 1)), {"a": Column("sym", "x")}).write(
            place / "train.parquet", texts_hash(table)
        )
    assert read_dataset(run, "train", ["style"]).names == ["style"]
    with raises(Code.VIEW_MISSING):
        read_dataset(run, "train", ["../../outside"])
