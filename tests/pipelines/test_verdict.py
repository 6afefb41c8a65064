"""verdict.py as a user runs it, on a tiny random model and on a server on the loopback."""

import json
import shutil
from math import log
from zlib import crc32

import numpy as np
import pyarrow.parquet as pq
import pytest

from arena.battle_table import read_battles_table
from arena.feature_table import FeatureTable, join
from common.errors import Code
from common.run_dir import RunDir
from embeddings.zero_shot.endpoint import LIMITS
from embeddings.zero_shot.http_client import API_KEY
from embeddings.zero_shot.view import ZeroShotVerdict
from meta.stack.dataset import read_dataset
from pipelines import extract, finetune, train_meta, verdict
from tests.helpers.battle_files import lmsys
from tests.helpers.errors import error_line, raises
from tests.helpers.fake_server import openai, serve
from tests.helpers.planted import save_shallow_model


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_shallow_model(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def run(tmp_path_factory, model_folder):
    """A run that extract.py made, with a test set."""
    folder = tmp_path_factory.mktemp("run")
    train, test = lmsys(folder / "train.csv", 40), lmsys(folder / "test.csv", 5, 1, labelled=False)
    argv = ["--train", str(train), "--test", str(test), "--run", str(folder / "run")]
    assert extract.command([*argv, "--backbone", str(model_folder)]) == 0
    return folder / "run"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.delenv(API_KEY, raising=False)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)


def ids(run, split):
    return pq.read_table(run / "battles" / f"{split}.parquet", columns=["id"])["id"].to_pylist()


def view_of(run, name, split):
    return FeatureTable.read(run / "views" / name / f"{split}.parquet")


def test_the_view_is_of_both_splits_and_says_its_parities(run, capsys):
    assert verdict.command(["--run", str(run)]) == 0
    out = capsys.readouterr().out
    assert "log loss of this verdict alone" in out
    assert "A, B and C hold" in out
    for split in ("train", "test"):
        view = view_of(run, "verdict-toy", split)
        assert view.ids == ids(run, split)
        assert np.isfinite(view.values).all()
        assert (view.columns["side"].parity, view.columns["side"].family) == ("anti", "verdict")
        assert view.columns["tieshift"].family == "position"


def test_the_second_stage_fuses_it_and_knows_its_family(run, capsys):
    assert verdict.command(["--run", str(run)]) == 0
    argv = ["--run", str(run), "--trials", "0", "--bags", "1", "--folds", "3"]
    assert train_meta.command(argv) == 0
    found = json.loads((run / "metrics.json").read_text())
    assert "verdict-toy" in found["log_loss"]
    assert "verdict-toy" in capsys.readouterr().out
    design = join(read_dataset(RunDir(run), "train").tables)
    families = {column.family for n, column in design.columns.items() if n.startswith("verdict")}
    assert families == {"verdict", "position"}
    bundle = json.loads((run / "model" / "bundle.json").read_text())
    assert "verdict-toy.side" in bundle["fusions"]["meta"]["columns"]


def test_another_test_set_is_read_with_the_settings_of_before(run, tmp_path):
    argv = ["--run", str(run), "--view", "verdict-short", "--max-tokens", "300"]
    assert verdict.command(argv) == 0
    before = (run / "views" / "verdict-short" / "train.parquet").read_bytes()
    more = lmsys(tmp_path / "more.csv", 7, 2, labelled=False)
    assert extract.command(["--test", str(more), "--run", str(run)]) == 0
    with raises(Code.VIEW_OUTDATED, match=r"verdict\.py --view verdict-short"):
        read_dataset(RunDir(run), "test", ["verdict-short"])
    assert verdict.command(["--run", str(run), "--view", "verdict-short"]) == 0
    assert view_of(run, "verdict-short", "test").ids == ids(run, "test")
    assert len(ids(run, "test")) == 7
    assert (run / "views" / "verdict-short" / "train.parquet").read_bytes() == before
    record = json.loads((run / "run.json").read_text())["verdict"]["verdict-short"]
    assert record["max_tokens"] == 300
    assert record["endpoint"] is None
    cpu = {"device": "cpu", "dtype": "bfloat16", "cards": []}
    assert RunDir(run).read_record()["machine"]["verdict-short"] == cpu


def hashes_differ(body):
    """A server that likes the first answer, and each answer by a hash of its text."""
    _, rest = body["prompt"].split("\n\nAnswer A:\n")
    answers = rest.split("\n\nWhich answer")[0].split("\n\nAnswer B:\n")
    a, b = (crc32(text.encode()) / 2**32 for text in answers)
    side = 0.5 + 4 * (a - b)
    z = np.array([side / 2, -side / 2, -0.5])
    logs = z - np.log(np.exp(z).sum())
    return openai({" A": logs[0], "B": logs[1], "C": logs[2], "the": -9.0})


def test_a_budget_reads_one_order_and_says_so_and_keeps_the_address_of_both(run, tmp_path, capsys):
    run = shutil.copytree(run, tmp_path / "run")
    with serve(models=("toy",), answer=hashes_differ) as server:
        there = ["--run", str(run), "--endpoint", server.url, "--model", "toy"]
        assert verdict.command(there) == 0
        both, plain = len(server.prompts), RunDir(run).read_record()["verdict"]["verdict-toy"]
    assert set(plain) == {"backbone", "endpoint", "max_tokens"}
    shutil.rmtree(run / "verdict")
    with (
        pytest.MonkeyPatch.context() as patch,
        serve(models=("toy",), answer=hashes_differ) as server,
    ):
        patch.setattr("embeddings.order_budget.FITTED", 10)
        there = ["--run", str(run), "--endpoint", server.url, "--model", "toy"]
        argv = [*there, "--view", "verdict-thrifty", "--orders", "budget"]
        capsys.readouterr()
        assert verdict.command([*argv, "--second-share", "0.25"]) == 0
        told, once = capsys.readouterr().out, len(server.prompts)
        assert both * 0.5 < once < both * 0.85
        assert "battles count in both orders; the second one changed" in told
        assert "orders=budget second_share=0.25" in told
        # The view's name brings the budget back, and nothing is asked again.
        assert verdict.command(["--run", str(run), "--view", "verdict-thrifty"]) == 0
        assert len(server.prompts) == once
        for split in ("train", "test"):
            view = view_of(run, "verdict-thrifty", split)
            assert view.ids == ids(run, split)
            assert np.isfinite(view.values).all()
        new = ZeroShotVerdict.of_run(RunDir(run), "verdict-thrifty", {})
        table = new.transform(read_battles_table(RunDir(run).battles("test")))
        assert np.array_equal(table.values, view.values)
        assert len(server.prompts) == once


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["--orders", "budget", "--second-share", "1"], Code.OPTION_INVALID),
        (["--second-share", "0.2"], Code.OPTIONS_CONFLICT),
    ],
)
def test_a_share_without_a_budget_or_out_of_range_is_one_line(run, argv, code, capsys):
    assert verdict.command(["--run", str(run), "--view", "verdict-x", *argv]) == 2
    error_line(capsys, code)


def asked(run, *argv):
    """What a command line means on this run."""
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdict, "plan_lines", lambda _, options: found.append(options) or [])
        assert verdict.command(["--run", str(run), "--dry-run", *argv]) == 0
    return found[0]


def test_the_views_last_verdict_speaks_without_its_name(run, model_folder, tmp_path):
    """Plain verdict.py and --view NAME go on alike, here and at an endpoint."""
    run = shutil.copytree(run, tmp_path / "run")
    own = {"asked": str(model_folder), "quantization": "nf4"}
    local = {"backbone": own, "endpoint": None, "max_tokens": 300}
    there = {"url": "http://x/v1", "model": "org/far", **LIMITS, "timeout": 7}
    far = {**local, "backbone": {"asked": str(model_folder), "quantization": ""}, "endpoint": there}
    RunDir(run).update_record(verdict={"verdict-toy": local, "verdict-far": far})
    for argv in ([], ["--view", "verdict-toy"], ["--backbone", str(model_folder)]):
        found = asked(run, *argv)
        assert (found.view, found.config.quantization) == ("verdict-toy", "nf4")
        assert found.max_tokens == 300
    assert asked(run, "--quantization", "none").config.quantization == "none"
    again = ["--endpoint", "http://x", "--model", "org/far"]
    for argv in (["--view", "verdict-far"], again):
        found = asked(run, *argv)
        assert (found.backbone, found.endpoint.timeout) == (str(model_folder), 7)
    # Another model has another tokenizer.
    other = ["--endpoint", "http://x", "--model", "other", "--view", "verdict-far"]
    assert asked(run, *other).backbone == ""


def longer_wins(body):
    """A server that likes the longer answer, and likes the first one, too."""
    _, rest = body["prompt"].split("\n\nAnswer A:\n")
    a, rest = rest.split("\n\nAnswer B:\n")
    b, _ = rest.split("\n\nWhich answer")
    side = 0.5 + 2.0 * np.sign(len(a) - len(b))
    z = np.array([side / 2, -side / 2, -0.5])
    logs = z - np.log(np.exp(z).sum())
    return openai({" A": logs[0], "B": logs[1], "C": logs[2], "the": -9.0})


def test_an_endpoint_that_gets_plain_text(run, capsys):
    with serve(models=("Org/Judge-72B",), answer=longer_wins) as server:
        argv = ["--run", str(run), "--endpoint", server.url, "--model", "Org/Judge-72B"]
        assert verdict.command([*argv, "--concurrency", "3"]) == 0
        asked = len(server.prompts)
        # The view's name brings back where the model was.
        assert verdict.command(["--run", str(run), "--view", "verdict-Judge-72B"]) == 0
        assert len(server.prompts) == asked
    view = view_of(run, "verdict-Judge-72B", "train")
    assert set(np.round(view.frame()["absside"], 4)) <= {0, 2.0}
    assert view.frame()["position"].to_numpy() == pytest.approx(0.5, abs=1e-5)
    record = json.loads((run / "run.json").read_text())["verdict"]["verdict-Judge-72B"]
    assert record["endpoint"]["concurrency"] == 3
    view = "verdict-Judge-72B"
    assert RunDir(run).read_record()["machine"][view] == {"device": "endpoint"}
    assert record["backbone"]["asked"] == ""
    assert "plain text" in capsys.readouterr().out


def test_a_key_goes_to_no_endpoint_that_only_the_run_names(run, monkeypatch, capsys):
    with serve(models=("keyed",)) as server:
        argv = ["--run", str(run), "--endpoint", server.url, "--model", "keyed"]
        assert verdict.command(argv) == 0
        monkeypatch.setenv(API_KEY, "secret")
        server.keys.clear()
        capsys.readouterr()
        assert verdict.command(["--run", str(run), "--view", "verdict-keyed"]) == 2
        line = error_line(capsys, Code.API_KEY_WITHHELD)
        assert server.keys == set()
        assert verdict.command([*argv, "--view", "verdict-keyed"]) == 0
        assert server.keys == {"Bearer secret"}
    assert f"--endpoint {server.url} --model keyed" in line


def test_an_endpoint_whose_tokenizer_is_known_gets_tokens(run, model_folder, capsys):
    with serve(answer=lambda _: openai({"A": log(0.6), "B": log(0.2), "C": log(0.1)})) as server:
        argv = ["--run", str(run), "--endpoint", server.url, "--model", "toy"]
        argv += ["--backbone", str(model_folder), "--view", "verdict-tokens"]
        assert verdict.command(argv) == 0
        assert all(isinstance(prompt[0], int) for prompt in server.prompts)
        server.prompts.clear()
        assert verdict.command(["--run", str(run), "--view", "verdict-tokens"]) == 0
        assert server.prompts == []
        server.tokenize = lambda text: [1, 2, 3]
        capsys.readouterr()
        assert verdict.command(argv) == 2
        error_line(capsys, Code.ENDPOINT_TOKENIZER_DIFFERS)
    assert verdict.command(argv) == 2
    error_line(capsys, Code.ENDPOINT_UNREACHABLE)


def test_odd_names_make_sound_views(run, model_folder, tmp_path, capsys):
    shutil.copytree(model_folder, tmp_path / "my model (2)")
    argv = ["--run", str(run), "--dry-run", "--max-tokens", "20000"]
    assert verdict.command([*argv, "--backbone", str(tmp_path / "my model (2)")]) == 0
    there = ["--endpoint", "http://127.0.0.1:1", "--model", "org/../ü b"]
    assert verdict.command([*argv, *there]) == 0
    out = capsys.readouterr().out
    assert "view verdict-my-model-2:" in out
    assert "view verdict-ü-b:" in out


def test_the_verdict_teaches_a_judge(run):
    assert verdict.command(["--run", str(run)]) == 0
    teacher = run / "views" / "verdict-toy" / "train.parquet"
    argv = ["--run", str(run), "--view", "logits-taught", "--folds", "1", "--rank", "2"]
    argv += ["--max-tokens", "256", "--batch", "8", "--teacher", str(teacher)]
    assert finetune.command(argv) == 0
    assert view_of(run, "logits-taught", "train").ids == ids(run, "train")


@pytest.mark.parametrize("where", ["here", "there"])
def test_dry_run_prints_the_plan_asks_nothing_and_writes_nothing(run, where, capsys):
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    with serve() as server:
        there = ["--endpoint", server.url, "--model", "toy"] if where == "there" else []
        assert verdict.command(["--run", str(run), "--dry-run", *there]) == 0
        assert server.keys == set()
    out = capsys.readouterr().out
    assert before == {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    words = ("memory", "tokens") if where == "here" else ("requests", "characters", "4 at a time")
    for word in ("distinct questions", "truncated", *words):
        assert word in out


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["--view", "mine"], Code.OPTION_INVALID),
        (["--view", "verdict-../x"], Code.OPTION_INVALID),
        (["--model", "toy"], Code.OPTIONS_CONFLICT),
        (["--endpoint", "http://127.0.0.1:1"], Code.OPTIONS_CONFLICT),
        (["--endpoint", "box:1", "--model", "toy"], Code.ENDPOINT_INVALID),
        (["--endpoint", "http://127.0.0.1:1", "--model", "toy"], Code.ENDPOINT_UNREACHABLE),
        (
            ["--endpoint", "http://x", "--model", "t", "--quantization", "nf4"],
            Code.OPTIONS_CONFLICT,
        ),
        (["--endpoint", "http://x", "--model", "t", "--backbone", "gpt-9"], Code.BACKBONE_UNKNOWN),
        (["--backbone", "gpt-9"], Code.BACKBONE_UNKNOWN),
        (["--max-tokens", "50"], Code.MAX_TOKENS_TOO_SMALL),
    ],
)
def test_a_mistake_is_one_line(run, argv, code, capsys):
    assert verdict.command(["--run", str(run), *argv]) == 2
    error_line(capsys, code)


def test_a_run_that_is_not_there_is_one_line(tmp_path, capsys):
    assert verdict.command(["--run", str(tmp_path / "none")]) == 2
    error_line(capsys, Code.SPLIT_NOT_EXTRACTED)
