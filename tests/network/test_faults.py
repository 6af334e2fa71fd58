"""Workers that are killed, hang, vanish or come back changed, and a client without disk: the run ends with the same losses."""

from __future__ import annotations

import csv
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from private_lora.backends import load
from private_lora.errors import Interrupted
from private_lora.finetuning import finetune
from private_lora.network import connection as connection_module
from private_lora.network.connection import Connection
from private_lora.network.held import WorkerSpec, hold
from private_lora.network.remote import Asking, RemotePlace
from private_lora.network.security import Address
from private_lora.network.workers import Patience, Workers
from private_lora.training import prepare, train

STEPS = 4
# Questions of a run: evaluation before the first step, two steps, evaluation, two steps, evaluation.
IN_EVALUATION, IN_STEP = 8, 15
QUESTIONS = 3 * IN_EVALUATION + STEPS * IN_STEP
IN_SECOND_STEP = IN_EVALUATION + IN_STEP + 3
# Longer than any product takes on a busy machine.
PATIENT, HURRIED, SHORT = Patience(60, 240), Patience(4, 240), Patience(4, 1)
SUPERVISOR_S = 120


def pytest_generate_tests(metafunc):
    if "kill" in metafunc.fixturenames:
        metafunc.parametrize("kill", range(metafunc.config.getoption("--kills")))


class Watched(Workers):
    """Counts questions, and calls `act` when question number `moment` is asked; 0 is the handshake."""

    def __init__(self, connections, patience, moment, act):
        super().__init__(connections, patience)
        self.asked, self._moment, self._act = 0, moment, act
        self._counting = threading.Lock()

    def connect(self, *arguments):
        if self._moment == 0:
            self._act()
        super().connect(*arguments)

    def ask(self, *arguments):
        with self._counting:
            self.asked += 1
            if self.asked == self._moment:
                self._act()
        return super().ask(*arguments)


@contextmanager
def place_of(addresses, patience=PATIENT, moment=None, act=None, rows=None):
    workers = Watched([Connection(address, None) for address in addresses], patience, moment, act)
    place = RemotePlace(workers, Asking(rows_per_question=rows))
    try:
        yield place
    finally:
        place.close()


class Supervised:
    """A worker process on one port, whoever kills it."""

    def __init__(self, stack, start, model):
        self._stack, self._start, self._model = stack, start, model
        self.process, self.address = stack.enter_context(start(model))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def restart(self, *flags, model=None):
        self.process, _ = self._stack.enter_context(self._start(model or self._model, *flags, port=self.address.port))

    def replaced(self, *flags, model=None):
        self.kill()
        self.restart(*flags, model=model)

    def send(self, number):
        os.kill(self.process.pid, number)


@contextmanager
def supervision(act):
    """Something that lets `act` begin in a thread; its failure is the test's, and so is its not having begun."""
    begin, failures = threading.Event(), []

    def run():
        try:
            assert begin.wait(SUPERVISOR_S), "the moment never came"
            act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield begin.set
    finally:
        thread.join(SUPERVISOR_S)
    assert not failures, failures


@pytest.fixture(scope="module")
def model(tiny_llama_directory):
    return tiny_llama_directory


@pytest.fixture(scope="module")
def pool(worker_process, model):
    """Two workers that outlive the tests, in which each is killed and restarted."""
    with ExitStack() as stack:
        yield Supervised(stack, worker_process, model), Supervised(stack, worker_process, model)


@pytest.fixture
def workers(pool):
    """Both of them, as they should be: running."""
    for one in pool:
        if one.process.poll() is not None:
            one.restart()
    return pool


@pytest.fixture(scope="module")
def spec(make_spec):
    return make_spec(backend="packed", steps=STEPS, eval_every=2, checkpoint_every=100)


@dataclass
class Result:
    """What a run must come to, whatever happened on the way. counted: remote products."""

    losses: list[str]
    held_out: list[tuple]
    steps: list[int]
    optimizer_steps: set[int]
    counted: int


def trained(spec, directory, place=None):
    run = prepare(spec, directory, place)
    train(run, progress=False)
    return run, result_of(run)


def result_of(run):
    losses, held_out = losses_in(run.recorder.rows)
    steps = [row["step"] for row in run.recorder.rows if (row["phase"], row["metric"]) == ("train", "loss")]
    taken = {int(state["step"]) for state in run.optimizer.state.values()}
    return Result(losses, held_out, steps, taken, run.session.counters.products)


def losses_in(rows):
    losses = [str(row["value"]) for row in rows if (row["phase"], row["metric"]) == ("train", "loss")]
    held_out = [(str(r["step"]), r["metric"], str(r["value"])) for r in rows if r["phase"] == "eval"]
    return losses, held_out


def losses_of(path):
    with path.open() as handle:
        return losses_in(list(csv.DictReader(handle)))


@pytest.fixture(scope="module")
def whole(spec, tmp_path_factory):
    """The uninterrupted run in one process."""
    result = trained(spec, tmp_path_factory.mktemp("whole"))[1]
    assert (result.counted, len(result.held_out)) == (QUESTIONS, 6)
    assert result.steps == list(range(1, STEPS + 1))
    assert result.optimizer_steps == {STEPS}
    return result


def counters_of(place):
    counters = place.counters
    assert counters.round_trips == place._workers.asked  # every question was answered, and once
    assert counters.rejected_answers == 0
    return counters


def test_a_worker_that_is_killed_and_restarted_changes_no_bit(kill, spec, whole, workers, tmp_path):
    chance = random.Random(kill)
    moment, delay, pause = chance.randint(0, QUESTIONS - IN_STEP), chance.uniform(0, 0.1), chance.uniform(0, 2)
    killed = []

    def act():
        time.sleep(delay if moment else 0)
        workers[0].kill()
        killed.append(time.monotonic())
        time.sleep(pause)
        workers[0].restart()

    with supervision(act) as begin, place_of([workers[0].address], moment=moment, act=begin) as place:
        run, result = trained(spec, tmp_path, place)
        ended = time.monotonic()
        assert killed[0] < ended
        assert result == whole
        counters = counters_of(place)
        assert counters.retries or moment == 0
        assert counters.round_trips == run.session.counters.products == QUESTIONS


def test_a_replica_carries_on_for_a_worker_that_is_killed(kill, spec, whole, workers, tmp_path):
    chance, rows = random.Random(kill), 64
    cut = spec.batch_size * spec.sequence_length // rows
    moment = chance.randint(1, cut * (QUESTIONS - IN_STEP))

    def act():
        time.sleep(chance.uniform(0, 0.1))
        workers[0].kill()

    both = [one.address for one in workers]
    with supervision(act) as begin, place_of(both, moment=moment, act=begin, rows=rows) as place:
        _, result = trained(spec, tmp_path, place)
        assert workers[0].process.poll() is not None
        assert (result.losses, result.held_out, result.optimizer_steps) == (whole.losses, whole.held_out, {STEPS})
        counters = counters_of(place)
        assert counters.retries
        assert counters.round_trips == result.counted == cut * (STEPS * IN_STEP + 2 * 3 * IN_EVALUATION)
        assert not place.report()["dropped"]


def test_a_replica_carries_on_for_a_worker_that_hangs(spec, whole, workers, tmp_path):
    def hang():
        workers[0].send(signal.SIGSTOP)

    both = [one.address for one in workers]
    try:
        with place_of(both, HURRIED, IN_SECOND_STEP, hang) as place:
            _, result = trained(spec, tmp_path, place)
            assert result == whole
            assert counters_of(place).retries
    finally:
        workers[0].send(signal.SIGCONT)


@pytest.mark.parametrize("deadlines", [2, 10])
def test_a_worker_that_hangs_is_waited_for(deadlines, spec, whole, workers, tmp_path):
    """Longer than it answers one and the same request: what it could not answer does not count."""

    def act():
        workers[0].send(signal.SIGSTOP)
        time.sleep(deadlines * HURRIED.deadline_s)
        workers[0].send(signal.SIGCONT)

    with supervision(act) as begin, place_of([workers[0].address], HURRIED, IN_SECOND_STEP, begin) as place:
        _, result = trained(spec, tmp_path, place)
        assert result == whole
        assert counters_of(place).retries


def one_sentence(error, *parts):
    text = str(error)
    assert "\n" not in text
    assert all(part in text for part in parts), text


def the_checkpoint(directory):
    (path,) = directory.glob("*.pt")
    return torch.load(path, weights_only=True)


def test_when_nobody_is_left_the_last_step_is_saved_and_the_run_goes_on_from_there(spec, whole, workers, tmp_path):
    out, checkpoints, address = tmp_path / "run" / "records.csv", tmp_path / "checkpoints", workers[0].address
    with place_of([address], SHORT, IN_SECOND_STEP, workers[0].kill) as place, pytest.raises(Interrupted) as caught:
        finetune(spec, out, checkpoints, progress=False, place=place)
    one_sentence(caught.value, "no answer for layer model.layers.", str(address), "run again")
    assert not out.exists()
    state = the_checkpoint(checkpoints)
    assert (state["step"], [str(loss) for loss in state["losses"]]) == (1, whole.losses[:1])
    # Nobody at all when it is started: nothing is lost either.
    with place_of([address], SHORT) as place, pytest.raises(Interrupted, match="no worker for layer"):
        finetune(spec, out, checkpoints, progress=False, place=place)
    with place_of([workers[1].address]) as place:
        assert finetune(spec, out, checkpoints, progress=False, place=place)
        assert counters_of(place).round_trips == QUESTIONS - IN_EVALUATION - IN_STEP
    assert losses_of(out) == (whole.losses, whole.held_out)
    assert not list(checkpoints.glob("*.pt"))


@pytest.fixture(scope="module")
def other_model(model, tmp_path_factory):
    """The same but for one weight."""
    from safetensors.torch import load_file, save_file

    directory = tmp_path_factory.mktemp("other") / "tiny-llama"
    shutil.copytree(model, directory)
    tensors = load_file(directory / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] += 1
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


BITS = ("has weight bits 4 where this run has 8",)
CHANGES = {"bits": BITS, "model": ("has model 'sha256:", "where this run has 'sha256:")}


@pytest.mark.parametrize("change", CHANGES)
def test_a_worker_that_comes_back_changed_is_dropped(change, spec, whole, workers, other_model, caplog, tmp_path, monkeypatch):
    monkeypatch.setattr(connection_module, "REST_S", 0.01)  # it is to be asked again before the run is over
    flags = ("--backend", "packed", "--activation-bits", "8", "--weight-bits", "4") if change == "bits" else ()

    def changed():
        workers[0].replaced(*flags, model=other_model if change == "model" else None)

    both = [one.address for one in workers]
    with place_of(both, PATIENT, IN_SECOND_STEP, changed) as place:
        _, result = trained(spec, tmp_path / "with", place)
        assert result == whole
        assert counters_of(place).round_trips == QUESTIONS
        assert list(place.report()["dropped"]) == [str(workers[0].address)]
    assert any(all(part in message for part in CHANGES[change]) for message in caplog.messages)
    workers[0].replaced()
    # Without the other one, the run stops; and goes on with it.
    with place_of(both[:1], PATIENT, IN_SECOND_STEP, changed) as place, pytest.raises(Interrupted) as caught:
        trained(spec, tmp_path / "without", place)
    one_sentence(caught.value, "no worker is left for layer model.layers.", str(workers[0].address), *CHANGES[change])
    assert the_checkpoint(tmp_path / "without")["step"] == 1
    with place_of(both[1:]) as place:
        _, result = trained(spec, tmp_path / "without", place)
    assert (result.losses, result.held_out, result.optimizer_steps) == (whole.losses, whole.held_out, {STEPS})
    workers[0].kill()


def command_of(spec, out, checkpoints, address):
    command = [sys.executable, "-m", "private_lora", "finetune", "--spec", json.dumps(spec.to_dict()), "--quiet"]
    command += ["--out", str(out), "--checkpoints", str(checkpoints)]
    return [*command, "--workers", str(address), "--plaintext", "--deadline-s", "60", "--patience-s", "1"]


def said(done):
    """Its one sentence: log and warnings apart, which have other beginnings."""
    return [line for line in done.stderr.splitlines() if line.startswith("private-lora ")]


def worker_spec(spec):
    return WorkerSpec(spec.model, spec.backend, activation_bits=spec.activation_bits, weight_bits=spec.weight_bits)


@pytest.fixture(scope="module")
def held(spec):
    return hold(worker_spec(spec))


def address_of(running):
    return Address("127.0.0.1", running.port)


def test_the_command_ends_with_status_2_and_a_sentence_and_goes_on(spec, whole, held, local_worker, tmp_path):
    out, checkpoints = tmp_path / "run" / "records.csv", tmp_path / "checkpoints"
    with local_worker(held) as running:
        before = received_by(running)
        with subprocess.Popen(
            command_of(spec, out, checkpoints, address_of(running)), stdout=-1, stderr=subprocess.PIPE, text=True
        ) as client:
            while client.poll() is None and received_by(running) < before + IN_SECOND_STEP:
                time.sleep(0.001)
            running.stop(0)
            _, stderr = client.communicate(timeout=SUPERVISOR_S)
        assert client.returncode == 2
        sentence = stderr.splitlines()[-1]
        one_sentence(sentence, "private-lora finetune: no answer for layer model.layers.", str(address_of(running)))
        assert "Traceback" not in stderr
        assert the_checkpoint(checkpoints)["step"] == 1
    with local_worker(held) as running:
        subprocess.run(command_of(spec, out, checkpoints, address_of(running)), check=True, capture_output=True)
        assert received_by(running) == before + QUESTIONS - IN_EVALUATION - IN_STEP
    assert losses_of(out) == (whole.losses, whole.held_out)


def received_by(running):
    """Questions that were multiplied."""
    value = running.service.metrics.registry.get_sample_value("private_lora_worker_product_seconds_count")
    return int(value)


@pytest.fixture
def small_disk(tmp_path):
    """A directory on a file system of one megabyte, if this user may mount one."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", directory], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def fill(directory):
    """Leave not a byte."""
    with (directory / "ballast").open("wb", buffering=0) as handle:
        for size in (2**16, 2**10, 1):
            try:
                while True:
                    handle.write(b"x" * size)
            except OSError:
                continue


def test_a_checkpoint_that_cannot_be_written_warns_and_the_last_one_stays(
    make_spec, whole, held, local_worker, small_disk, tmp_path
):
    spec = make_spec(backend="packed", steps=STEPS, eval_every=2, checkpoint_every=1)
    with (
        local_worker(held) as running,
        place_of([address_of(running)], PATIENT, IN_SECOND_STEP, lambda: fill(small_disk)) as place,
        pytest.warns(UserWarning, match="could not be written, the last one stays") as warned,
    ):
        _, result = trained(spec, small_disk, place)
    assert result == whole
    assert len([w for w in warned if "could not be written" in str(w.message)]) == STEPS - 1
    assert the_checkpoint(small_disk)["step"] == 1
    assert sorted(path.suffix for path in small_disk.iterdir()) == ["", ".pt"]
    # From that checkpoint, the run can be had again.
    (small_disk / "ballast").unlink()
    with local_worker(held) as running, place_of([address_of(running)]) as place:
        _, again = trained(spec, small_disk, place)
        assert place.counters.round_trips == QUESTIONS - IN_EVALUATION - IN_STEP
    assert (again.losses, again.held_out, again.optimizer_steps) == (whole.losses, whole.held_out, {STEPS})


def test_results_that_cannot_be_written_are_had_from_the_same_command_later(
    spec, whole, held, local_worker, small_disk, tmp_path
):
    out, checkpoints = small_disk / "run" / "records.csv", tmp_path / "checkpoints"
    fill(small_disk)
    with local_worker(held) as running:
        command = command_of(spec, out, checkpoints, address_of(running))
        refused = subprocess.run(command, check=False, capture_output=True, text=True)
        assert refused.returncode == 2, refused.stderr
        one_sentence(refused.stderr.splitlines()[-1], "cannot write the results to", str(out.parent), "No space left")
        assert "Traceback" not in refused.stderr
        assert [path for path in small_disk.rglob("*") if path.is_file()] == [small_disk / "ballast"]
        before = received_by(running)
        (small_disk / "ballast").unlink()
        subprocess.run(command, check=True, capture_output=True)
        assert received_by(running) == before  # everything had been computed
    assert losses_of(out) == (whole.losses, whole.held_out)
    assert sorted(path.name for path in out.parent.iterdir()) == ["adapter", "records.csv", "sidecar.json"]


def test_without_room_for_any_file_the_run_can_be_had_again_from_the_start(spec, whole, held, local_worker, tmp_path):
    out, checkpoints = tmp_path / "run" / "records.csv", tmp_path / "checkpoints"

    def no_file_beyond_a_page():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    with local_worker(held) as running:
        command = command_of(spec, out, checkpoints, address_of(running))
        refused = subprocess.run(command, check=False, capture_output=True, text=True, preexec_fn=no_file_beyond_a_page)
        assert refused.returncode == 2, refused.stderr
        assert "could not be written, the last one stays" in refused.stderr
        one_sentence(refused.stderr.splitlines()[-1], "cannot write the results to", str(out.parent))
        assert not [path for directory in (out.parent, checkpoints) for path in directory.rglob("*") if path.is_file()]
        subprocess.run(command, check=True, capture_output=True)
    assert losses_of(out) == (whole.losses, whole.held_out)


@pytest.mark.parametrize("name", ["packed", "glwe"])
def test_the_same_question_has_the_same_answer_whenever_and_whoever_is_asked(name, model, local_worker):
    spec = WorkerSpec(str(model), name, "0", activation_bits=7, weight_bits=7)
    with local_worker(spec) as one, local_worker(spec) as other:
        product = one.service.held.products["model.layers.0.mlp.down_proj forward"]
        client = load(name).client(product.server.plan)
        message = client.encrypt(np.random.default_rng(0).integers(-64, 64, (2, product.server.plan.inputs)))
        question, request_id, answers = message.to_bytes(), Connection.new_request_id(), []
        for running in (one, one, other):
            connection = Connection(address_of(running), None)
            connection.open()
            connection.send_material(client.public_material, 60)
            largest = client.largest_answer(2)
            answers += [connection.multiply(product.name, request_id, question, 60, largest)[0] for _ in range(2)]
            assert connection.multiply(product.name, Connection.new_request_id(), question, 60, largest)[0] == answers[0]
            connection.close()
        assert len({bytes(answer) for answer in answers}) == 1
        y = client.decrypt(load(name).ciphertext_from_bytes(bytes(answers[0])))
        assert y.shape == (2, product.server.plan.outputs)
