"""What ``fuzz.py`` feeds: each target takes bytes and may raise ``UserError``, nothing else."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import lightgbm as lgb
import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa

from arena import battle_table as tables
from arena.feature_table import Column, FeatureTable
from arena.files import open_source
from arena.formats import COLUMNS
from arena.predictions_file import read_forecasts
from arena.reader import read_battles
from arena.schema import CLASSES
from arena.source_column import read_sources
from arena.sources import expand
from arena.votes_file import read_votes
from common.run_dir import RunDir
from embeddings.backbone.config import finetune_entries, load_config
from embeddings.cache.shards import ShardStore, ShardWriter
from embeddings.cache.tensor_files import write_tensors
from embeddings.judge.config import JudgeConfig
from embeddings.prompts.chat_template import Encoder, conversation_template
from embeddings.prompts.truncation import Packer
from meta.base_models.baselines import Baselines
from meta.base_models.symmetric_logistic import SymmetricLogistic
from meta.calibrators import Identity
from meta.stack import model_io as bundle
from meta.stack.forest import Forest
from meta.stack.pool import Pool
from meta.stack.stacker import Stacker
from meta.stack.trained_model import TrainedModel
from tiebreak.run_record import chosen_backbone

Target = Callable[[bytes], None]

BATTLES = {
    "lmsys": {
        "id": "7",
        "prompt": '["Why?", null]',
        "response_a": '["So \\ud83d", "b"]',
        "response_b": '["", "=cmd()"]',
        "winner_model_a": 1,
        "winner_model_b": 0,
        "winner_tie": 0,
    },
    "arena": {
        "question_id": "x",
        "conversation_a": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "a"},
        ],
        "conversation_b": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None},
        ],
        "winner": "tie (bothbad)",
    },
    "pairs": {
        "prompt": "p",
        "chosen": "\n\nHuman: a\n\nAssistant: b",
        "rejected": "\n\nHuman: a\n\nAssistant: c",
    },
}
"""A row of each layout."""


def files_of(row: dict[str, Any]) -> Iterator[bytes]:
    """A file of two such rows, whose ids differ, as CSV, JSONL and parquet."""
    other = {name: "2" if name in ("id", "question_id") else cell for name, cell in row.items()}
    rows = [row, other]
    texts = [
        {k: v if isinstance(v, str) else json.dumps(v) for k, v in each.items()} for each in rows
    ]
    yield pd.DataFrame(texts).to_csv(index=False).encode()
    yield b"".join(json.dumps(each).encode() + b"\n" for each in rows)
    table = io.BytesIO()
    pd.DataFrame(rows).to_parquet(table)
    yield table.getvalue()


def put(data: bytes) -> str:
    """A file in memory."""
    with fsspec.open("memory://fuzz/file", "wb") as file:
        file.write(data)
    return "memory://fuzz/file"


def battles(folder: Path) -> tuple[Target, list[bytes]]:
    """Votes in every layout, as training and as test file."""

    def target(data: bytes) -> None:
        battles = read_battles(put(data[1:]), labelled=bool(data[:1] > b"m"))
        path = folder / "battles.parquet"
        tables.write_battles(path, battles)
        assert tables.read_battles_table(path)["id"].tolist() == battles["id"].tolist()

    rows = [content for row in BATTLES.values() for content in files_of(row)]
    return target, [mark + content for content in rows for mark in (b"a", b"z")]


def workbook(sheet: bytes) -> bytes:
    """An Excel workbook with this XML as its only sheet."""
    book, source = openpyxl.Workbook(), io.BytesIO()
    book.save(source)
    out = io.BytesIO()
    with zipfile.ZipFile(source) as parts, zipfile.ZipFile(out, "w") as changed:
        for name in parts.namelist():
            changed.writestr(name, sheet if "worksheets/" in name else parts.read(name))
    return out.getvalue()


SHEET = (
    b'<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><dimension '
    b'ref="A1:B2"/><sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>id</t></is></c><c r="B1" '
    b't="str"><v>prompt</v></c></row><row r="2"><c r="A2" t="n"><v>7</v></c><c r="B2" t="b" s="0">'
    b"<v>1</v></c></row></sheetData></worksheet>"
)


def formats(folder: Path) -> tuple[Target, list[bytes]]:
    """Files of every format and packing, down to their cells; the order of a saved data set."""
    saved = folder / "saved"
    saved.mkdir()
    (saved / "data-0.arrow").write_bytes(b"")

    def target(data: bytes) -> None:
        mark, content = data[:1], data[1:]
        if mark == b"s":
            (saved / "state.json").write_bytes(content)
            expand([str(saved)])
            return
        with open_source(put(workbook(content) if mark == b"x" else content), COLUMNS) as stream:
            first, again = (sum(1 for _ in stream.rows) for _ in range(2))
        assert first == again

    rows = [{"id": str(i), "prompt": f"p{i}", "response_a": "a", "response_b": "b"} for i in "12"]
    frame = pd.DataFrame(rows)
    text = frame.to_csv(index=False)
    seeds = [
        *(frame.to_csv(index=False, sep=separator).encode() for separator in "\t;|"),
        *(text.encode(encoding) for encoding in ("utf-16", "utf-32", "utf-16-le")),
        *(json.dumps(rows, indent=indent).encode() for indent in (None, 1)),
        *(json.dumps(value).encode() for value in ({"data": rows}, frame.to_dict())),
        b"\n".join(json.dumps(row, indent=1).encode() for row in rows),
        *packed(text.encode()),
    ]
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for writer in (pa.ipc.new_file, pa.ipc.new_stream):
        for compression in (None, "lz4", "zstd"):
            out = io.BytesIO()
            options = pa.ipc.IpcWriteOptions(compression=compression)
            with writer(out, table.schema, options=options) as file:
                file.write_table(table)
            seeds.append(out.getvalue())
    state = json.dumps({"_data_files": [{"filename": "data-0.arrow"}]}).encode()
    return target, [*(b"z" + seed for seed in seeds), b"x" + SHEET, b"s" + state]


def packed(content: bytes) -> Iterator[bytes]:
    """A file in every packing."""
    yield from (gzip.compress(content), bz2.compress(content), lzma.compress(content))
    for codec in ("zstd", "lz4"):
        out = pa.BufferOutputStream()
        with pa.CompressedOutputStream(out, codec) as file:
            file.write(content)
        yield out.getvalue().to_pybytes()
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        folder = io.BytesIO()
        with zipfile.ZipFile(folder, "w", method) as archive:
            archive.writestr("x.csv", content)
        yield folder.getvalue()


def cells(_: Path) -> tuple[Target, list[bytes]]:
    """One row as JSON: what may stand in a cell, without the file around it."""

    def target(data: bytes) -> None:
        read_battles(put(b"".join(data.split(b"\n", 1)[:1]) + b"\n"), labelled=False)

    parts = json.dumps(BATTLES["arena"]).replace('"a"', '[{"type": "text", "text": "a"}]')
    return target, [*(json.dumps(row).encode() for row in BATTLES.values()), parts.encode()]


def probabilities(_: Path) -> tuple[Target, list[bytes]]:
    """Files for calibrate.py."""

    def target(data: bytes) -> None:
        read_forecasts(put(data))

    row = {"id": "1", "p_a": 0.2, "p_b": 0.3, "p_tie": 0.5, "label": 0, "prompt": "x"}
    votes = {
        **dict.fromkeys(CLASSES, 0),
        "winner_tie": 1,
        "prob_a": 0.1,
        "prob_b": 0,
        "prob_tie": 0.9,
    }
    return target, [*files_of(row), *files_of({"id": "a", **votes, "group": "g"})]


def labels(folder: Path) -> tuple[Target, list[bytes]]:
    """Votes of a hold-out."""
    path = folder / "labels.csv"

    def target(data: bytes) -> None:
        path.write_bytes(data)
        read_votes(str(path), ["7", "8"])

    return target, [
        b"id,winner_model_a,winner_model_b,winner_tie\n7,1,0,0\n8,0,0,1\n",
        b"id,label\n7,0\n8,2\n",
    ]


def sources(folder: Path) -> tuple[Target, list[bytes]]:
    """The source of each battle of a hold-out."""
    path = folder / "sources.csv"

    def target(data: bytes) -> None:
        path.write_bytes(data)
        read_sources(str(path), pd.Series(["7", "8"]))

    return target, [b"id,source\n7,web\n8,app\n"]


def configs(folder: Path) -> tuple[Target, list[bytes]]:
    """YAML of a backbone and of its fine-tuning."""
    path = folder / "backbone.yaml"

    def target(data: bytes) -> None:
        path.write_bytes(data)
        load_config(str(path))
        JudgeConfig.of(finetune_entries(str(path)))

    return target, [p.read_bytes() for p in sorted(Path("configs").glob("*.yaml"))]


def record(folder: Path) -> tuple[Target, list[bytes]]:
    """run.json, and what the commands take from it."""
    run = RunDir(folder / "record")
    run.folder.mkdir()

    def target(data: bytes) -> None:
        run.record.write_bytes(data)
        chosen_backbone(None, None, run.read_record())
        run.is_sample("train")
        run.update_record(seconds={"a": 1.0})

    whole = {
        "inputs": {"train": {"file": "x", "rows": 3, "sample": True}},
        "backbone": {"asked": "smollm2-135m", "quantization": "nf4", "config": {"name": "x"}},
        "seconds": {"style_train": 1.5},
        "style": {"train": "x"},
    }
    return target, [json.dumps(whole).encode()]


def store(folder: Path) -> tuple[Target, list[bytes]]:
    """A shard of the store under the name of its keys, read by both kinds of reader."""
    place = folder / "store"
    keys = [hashlib.sha256(bytes([i])).digest() for i in range(2)]
    writer = ShardWriter(place)
    writer.add(keys, {"states": np.ones((2, 3, 4), np.float16)})
    (path,) = place.glob("*.safetensors")
    valid = path.read_bytes()
    wanted = np.frombuffer(b"".join(keys), np.uint8).reshape(2, 32)

    def target(data: bytes) -> None:
        path.write_bytes(data)
        store = ShardStore(place)
        store.rows(store.require(wanted), "states")

    return target, [valid]


def views(folder: Path) -> tuple[Target, list[bytes]]:
    """A view's parquet, and the battles' own table."""
    path = folder / "view.parquet"
    columns = {
        "a": Column("anti", "x"),
        "b": Column("paired", "x", "c"),
        "c": Column("paired", "x", "b"),
    }
    FeatureTable(["1", "2"], np.ones((2, 3)), columns).write(path)
    valid = path.read_bytes()
    tables.write_battles(path, read_battles(put(next(files_of(BATTLES["lmsys"]))), labelled=False))

    def target(data: bytes) -> None:
        path.write_bytes(data[1:])
        (FeatureTable.read if data[:1] > b"m" else tables.read_battles_table)(path)

    return target, [b"z" + valid, b"a" + path.read_bytes()]


def model(folder: Path) -> tuple[Target, list[bytes]]:
    """bundle.json of a model, its booster's text or its forest, with checksums that fit."""
    place = folder / "model"
    rows = np.arange(60.0)
    data = lgb.Dataset(rows.reshape(-1, 1), rows % 3)
    how = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_leaves": 5}
    booster = lgb.train(how, data, 1)
    root, feature, left, right = (
        np.array(nodes, np.int32) for nodes in ([0], [0, -1, -1], [1, 1, 2], [2, 1, 2])
    )
    shares, fill = np.full((3, 3), 1 / 3, np.float32), np.zeros(1, np.float32)
    forest = Forest(root, feature, np.array([30.0, 0.0, 0.0]), left, right, shares, fill)
    stages = {"none": 1.0}, 60
    fusion = Stacker(("style",), ("style.a",), [booster], [], forest, Pool(), Identity(), *stages)
    length = SymmetricLogistic(np.ones(1), np.ones(1), -1.0)
    nulls = Baselines(np.array([0.4, 0.4, 0.2]), length)
    probes = {"layer1.mean/center": np.zeros(2, np.float32)}
    bundle.save(TrainedModel({"meta": fusion}, {"hidden": probes}, nulls, {}), place)
    whole = json.loads((place / "bundle.json").read_text())
    del whole["checksum"]
    file, forest_file = "meta/booster-00.txt", f"meta/{bundle.FOREST}"
    text = (place / file).read_bytes()

    def write(entries: Any) -> None:
        signed = bundle.signed(entries) if isinstance(entries, dict) else entries
        (place / "bundle.json").write_text(json.dumps(signed))

    def write_forest(changes: bytes) -> None:
        arrays = {}
        for name, array in forest.arrays().items():
            before, part = array.tobytes(), changes[: array.nbytes].ljust(array.nbytes, b"\0")
            changed = bytes(a ^ b for a, b in zip(before, part, strict=True))
            arrays[name] = np.frombuffer(changed, array.dtype).reshape(array.shape).copy()
            changes = changes[array.nbytes :]
        write_tensors(place / forest_file, arrays)

    def hashes() -> dict[str, str]:
        return {
            name: hashlib.sha256((place / name).read_bytes()).hexdigest()
            for name in whole["sha256"]
        }

    def target(data: bytes) -> None:
        write_forest(data[1:] if data[:1] == b"f" else b"")
        (place / file).write_bytes(data[1:] if data[:1] == b"t" else text)
        if data[:1] in (b"f", b"t"):
            write({**whole, "sha256": hashes()})
        else:
            try:
                write(json.loads(data))
            except (ValueError, RecursionError):
                (place / "bundle.json").write_bytes(data)
        stacker = bundle.load(place).stackers.get("meta")
        if stacker is None:
            return
        for loaded in stacker.boosters:
            for how in ({}, {"pred_contrib": True}):
                loaded.predict(np.zeros((2, 1)), num_threads=1, **how)
        if stacker.forest is not None:
            view = FeatureTable(["1", "2"], np.zeros((2, 1)), {"style.a": Column("anti", "style")})
            stacker.forest.contributions(view, np.ones((1, 1)))

    (trees,) = re.findall(rb"(?s).*end of trees\n", text)
    return target, [json.dumps(whole).encode(), b"t" + text, b"t" + trees, b"f"]


def packing(_: Path) -> tuple[Target, list[bytes]]:
    """Texts full of template marks: the structure stays the template's, and the budget holds."""
    from tests.helpers.tiny import ARCHITECTURES, SPECIAL, tiny_tokenizer

    tokenizers = [tiny_tokenizer(a) for a in ARCHITECTURES]
    marks = [mark for names in SPECIAL.values() for mark in names] + ["<|im_start|>", "<tool_call>"]
    packers = []
    for tokenizer in tokenizers:
        encoder = Encoder(tokenizer)
        # An added token that no template writes has no meaning to it.
        written = [
            i for t, i in tokenizer.get_added_vocab().items() if t in tokenizer.chat_template
        ]
        special = {*tokenizer.all_special_ids, *written}
        packers.append((Packer(encoder, conversation_template(encoder)), special))

    def target(data: bytes) -> None:
        pieces = data.decode(errors="replace").split("\x00")
        prompt, answer = pieces[0::2] or [""], pieces[1::2] or [""]
        for packer, special in packers:
            budget = packer.smallest_budget() + len(data) % 300
            packed = packer.pack(prompt, [answer], budget)
            assert len(packed.ids) <= budget
            texts = packed.ids[packed.owner >= 0]
            assert not special & set(texts.tolist()), "a text became a special token"

    return target, [f"{mark}a\x00b{mark}\x00{mark}\x00".encode() for mark in marks]


TARGETS = {
    f.__name__: f
    for f in (
        battles,
        formats,
        cells,
        probabilities,
        labels,
        sources,
        configs,
        record,
        store,
        views,
        model,
        packing,
    )
}
