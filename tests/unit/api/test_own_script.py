"""The script of the docs with transformers' Trainer: beside the same without the line, resumed, and through workers."""

import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from slow_tests import slow

from private_lora.specs.worker import WorkerSpec

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = (ROOT / "docs/examples/own_script.py").read_text()
LINE = 'session = private_lora.make_private(model, backend="packed", bits=8)\n'
NANO = ROOT / "resources/nano"


def losses_of(names):
    return [row["loss"] for row in names["trainer"].state.log_history if "loss" in row]


def run(directory, monkeypatch, line=LINE, seed=0, **replaced):
    """The script's names after it ran in a directory, with another line and other words if asked for."""
    directory.mkdir(exist_ok=True)
    (directory / "resources").symlink_to(ROOT / "resources")
    monkeypatch.chdir(directory)
    text = SCRIPT.replace(LINE, line)
    assert LINE in SCRIPT
    for old, new in replaced.values():
        assert old in text
        text = text.replace(old, new)
    torch.manual_seed(seed)  # of the new adapter; Trainer seeds everything else
    names = {}
    exec(compile(text, "own_script.py", "exec"), names)
    return names


def without_the_line(text=SCRIPT):
    return "".join(line for line in text.splitlines(keepends=True) if "session" not in line and "private_lora" not in line)


@pytest.fixture(scope="module")
def integer(tmp_path_factory):
    """The script with `integer`: its directory and names."""
    directory = tmp_path_factory.mktemp("integer")
    with pytest.MonkeyPatch.context() as patch:
        return directory, run(directory, patch, LINE.replace("packed", "integer"))


def adapter_in(directory):
    return load_file(directory / "own-adapter" / "adapter_model.safetensors")


def same(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def test_packed_trains_what_integer_trains_and_all_was_encrypted(integer, tmp_path, monkeypatch, capsys):
    names = run(tmp_path, monkeypatch)
    assert losses_of(names) == losses_of(integer[1])
    assert len(losses_of(names)) == 8
    same(adapter_in(tmp_path), adapter_in(integer[0]))
    # Two blocks of four groups, forward and backward, but for the gradient of the first q, k, v.
    assert "120 remote products, 120 of them encrypted\n" in capsys.readouterr().out
    report = names["session"].report()
    assert (report["claims_encryption"], report["is_encrypted"]) == (True, True)
    assert report["layers"] == {"remote": 14, "local": 1, "local_names": ["lm_head"]}
    assert integer[1]["session"].report()["is_encrypted"] is False


def test_float_is_the_script_without_the_line(tmp_path, monkeypatch):
    names = run(tmp_path / "float", monkeypatch, LINE.replace("packed", "float"))
    monkeypatch.setattr(f"{__name__}.SCRIPT", LINE + without_the_line())
    plain = run(tmp_path / "plain", monkeypatch, "")
    assert "session" not in plain
    # Sums of products in another order: the last digits of float32.
    assert losses_of(names) == pytest.approx(losses_of(plain), rel=1e-6)


def test_a_resumed_run_ends_as_one_without_a_break(integer, tmp_path, monkeypatch):
    shutil.copytree(integer[0] / "own-adapter" / "checkpoint-4", tmp_path / "own-adapter" / "checkpoint-4")
    resume = "trainer.train()", "trainer.train(resume_from_checkpoint=True)"
    names = run(tmp_path, monkeypatch, LINE.replace("packed", "integer"), seed=1, resume=resume)
    assert losses_of(names) == losses_of(integer[1])
    assert names["session"].counters.products == integer[1]["session"].counters.products / 2
    same(adapter_in(tmp_path), adapter_in(integer[0]))


def test_the_adapter_works_on_the_base_model_and_holds_nothing_else(integer):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    directory, names = integer
    tensors = adapter_in(directory)
    assert {re.search(r"lora_[AB]", name)[0] for name in tensors} == {"lora_A", "lora_B"}
    assert all(values.isfinite().all() for values in tensors.values())
    assert all(values.isfinite().all() for values in names["model"].state_dict().values())
    base = AutoModelForCausalLM.from_pretrained(NANO)
    rows = names["rows"][0]
    ids = torch.tensor([rows["input_ids"]])
    before = float(base(input_ids=ids, labels=ids).loss)
    adapted = PeftModel.from_pretrained(base, directory / "own-adapter").eval()
    assert float(adapted(input_ids=ids, labels=ids).loss) < before - 0.5
    adapted.merge_and_unload()


@contextmanager
def served_here(local_worker, block):
    held = WorkerSpec(model=str(NANO), backend="packed", activation_bits=8, weight_bits=8, layers=block)
    with local_worker(held) as running:
        yield f"127.0.0.1:{running.port}"


@contextmanager
def served_apart(worker_process, block):
    hold = ("--backend", "packed", "--activation-bits", "8", "--weight-bits", "8", "--layers", block)
    with worker_process(NANO, *hold) as (_, address):
        yield str(address)


@pytest.mark.parametrize(("served", "start"), [(served_here, "local_worker"), slow(served_apart, "worker_process")])
def test_two_workers_come_to_the_same(served, start, request, integer, tmp_path, monkeypatch):
    start = request.getfixturevalue(start)
    with served(start, "0") as first, served(start, "1") as second:
        line = LINE.replace(")", f', workers=["{first}", "{second}"], plaintext=True)')
        names = run(tmp_path, monkeypatch, line)
    assert losses_of(names) == losses_of(integer[1])
    same(adapter_in(tmp_path), adapter_in(integer[0]))
    counters = names["session"].counters
    assert counters.round_trips == counters.encrypted_products == 120
    assert counters.sent_bytes > counters.upload_ciphertext_bytes > 0
    assert names["session"].report()["place"]["workers"] == [first, second]
    assert "120 round trips, 0 retries" in names["session"].summary()


@pytest.mark.parametrize("page", ["README.md", "docs/own_script.md"])
def test_pages_show_the_script_as_it_is(page):
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    scripts = [block for block in blocks if "trainer.train()" in block]
    assert scripts in ([SCRIPT], [SCRIPT] if page.startswith("docs") else [])
