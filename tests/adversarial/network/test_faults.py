"""Workers that are killed, hang, vanish or come back changed: same losses, or a stop from where the run can go on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
from slow_tests import slow, slow_but
from small_run import (
    HURRIED,
    IN_EVALUATION,
    IN_SECOND_STEP,
    IN_STEP,
    PATIENT,
    QUESTIONS,
    SHORT,
    STEPS,
    SUPERVISOR_S,
    counters_of,
    losses_of,
    one_sentence,
    place_of,
    the_checkpoint,
    trained,
)

from private_lora.core.errors import Interrupted
from private_lora.network.client import connection as connection_module
from private_lora.training.run import finetune


def pytest_generate_tests(metafunc):
    if "kill" in metafunc.fixturenames:
        metafunc.parametrize("kill", range(metafunc.config.getoption("--kills")))


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
def pool(worker_process, tiny_llama_directory):
    """Two workers that outlive the tests, in which each is killed and restarted."""
    with ExitStack() as stack:
        yield Supervised(stack, worker_process, tiny_llama_directory), Supervised(stack, worker_process, tiny_llama_directory)


@pytest.fixture
def workers(pool):
    """Both of them, as they should be: running."""
    for one in pool:
        if one.process.poll() is not None:
            one.restart()
    return pool


def test_a_worker_that_is_killed_and_restarted_changes_no_bit(kill, small_spec, whole, workers, tmp_path):
    chance = random.Random(kill)
    moment = chance.randint(1, QUESTIONS - IN_STEP) if kill % 5 != 1 else 0  # the latter is the handshake
    delay, pause = chance.uniform(0, 0.1 if moment else 0.01), chance.uniform(0, 2)
    killed = []

    def act():
        time.sleep(delay)
        workers[0].kill()
        killed.append(time.monotonic())
        time.sleep(pause)
        workers[0].restart()

    with supervision(act) as begin, place_of([workers[0].address], moment=moment, act=begin) as place:
        run, result = trained(small_spec, tmp_path, place)
        ended = time.monotonic()
        assert killed[0] < ended
        assert result == whole
        counters = counters_of(place)
        assert counters.retries or moment == 0  # waiting for a handshake is no question asked again
        assert counters.round_trips == run.session.counters.products == QUESTIONS


def test_a_replica_carries_on_for_a_worker_that_is_killed(kill, small_spec, whole, workers, tmp_path):
    chance, rows = random.Random(kill), 64
    cut = small_spec.batch_size * small_spec.sequence_length // rows
    moment = chance.randint(1, cut * (QUESTIONS - IN_STEP))

    def act():
        time.sleep(chance.uniform(0, 0.1))
        workers[0].kill()

    both = [one.address for one in workers]
    with supervision(act) as begin, place_of(both, moment=moment, act=begin, rows=rows) as place:
        _, result = trained(small_spec, tmp_path, place)
        assert workers[0].process.poll() is not None
        assert (result.losses, result.held_out) == (whole.losses, whole.held_out)
        assert result.optimizer_steps == {STEPS}
        counters = counters_of(place)
        assert counters.retries
        assert counters.round_trips == result.counted == cut * (STEPS * IN_STEP + 2 * 3 * IN_EVALUATION)
        assert not place.report()["dropped"]


@pytest.mark.slow
def test_a_replica_carries_on_for_a_worker_that_hangs(small_spec, whole, workers, tmp_path):
    def hang():
        workers[0].send(signal.SIGSTOP)

    both = [one.address for one in workers]
    try:
        with place_of(both, HURRIED, IN_SECOND_STEP, hang) as place:
            _, result = trained(small_spec, tmp_path, place)
            assert result == whole
            assert counters_of(place).retries
    finally:
        workers[0].send(signal.SIGCONT)


@pytest.mark.parametrize("deadlines", [2, slow(10)])
def test_a_worker_that_hangs_is_waited_for(deadlines, small_spec, whole, workers, tmp_path):
    """Even longer than the number of times that it answers one and the same request: what it did not answer does not count."""

    def act():
        workers[0].send(signal.SIGSTOP)
        time.sleep(deadlines * HURRIED.deadline_s)
        workers[0].send(signal.SIGCONT)

    with supervision(act) as begin, place_of([workers[0].address], HURRIED, IN_SECOND_STEP, begin) as place:
        _, result = trained(small_spec, tmp_path, place)
        assert result == whole
        assert counters_of(place).retries


def test_when_nobody_is_left_the_last_step_is_saved_and_the_run_goes_on_from_there(small_spec, whole, workers, tmp_path):
    out, checkpoints, address = tmp_path / "run" / "records.csv", tmp_path / "checkpoints", workers[0].address
    with place_of([address], SHORT, IN_SECOND_STEP, workers[0].kill) as place, pytest.raises(Interrupted) as caught:
        finetune(small_spec, out, checkpoints, place=place)
    one_sentence(caught.value, "no answer for layer model.layers.", str(address), "run again")
    assert not out.exists()
    state = the_checkpoint(checkpoints)
    assert (state["step"], [str(loss) for loss in state["losses"]]) == (1, whole.losses[:1])
    # Nobody at all when it is started: nothing is lost either.
    with place_of([address], SHORT) as place, pytest.raises(Interrupted, match="no worker for layer"):
        finetune(small_spec, out, checkpoints, place=place)
    with place_of([workers[1].address]) as place:
        assert finetune(small_spec, out, checkpoints, place=place)
        assert counters_of(place).round_trips == QUESTIONS - IN_EVALUATION - IN_STEP
    assert losses_of(out) == (whole.losses, whole.held_out)
    assert not list(checkpoints.glob("*.pt"))


@pytest.fixture(scope="module")
def other_model(tiny_llama_directory, tmp_path_factory):
    """The same but for one weight."""
    from safetensors.torch import load_file, save_file

    directory = tmp_path_factory.mktemp("other") / "tiny-llama"
    shutil.copytree(tiny_llama_directory, directory)
    tensors = load_file(directory / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] += 1
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


CHANGES = {
    "bits": ("has weight bits 4 where this run has 8",),
    "model": ("has model 'sha256:", "where this run has 'sha256:"),
}


def come_back_changed(worker, change, other_model):
    flags = ("--backend", "packed", "--activation-bits", "8", "--weight-bits", "4") if change == "bits" else ()
    worker.replaced(*flags, model=other_model if change == "model" else None)


@pytest.mark.parametrize("change", slow_but(["bits"], CHANGES))
def test_a_worker_that_comes_back_changed_is_dropped(
    change, small_spec, whole, workers, other_model, caplog, tmp_path, monkeypatch
):
    monkeypatch.setattr(connection_module, "REST_S", 0.01)  # it is to be asked again before the run is over
    both = [one.address for one in workers]
    with place_of(both, PATIENT, IN_SECOND_STEP, lambda: come_back_changed(workers[0], change, other_model)) as place:
        _, result = trained(small_spec, tmp_path, place)
        assert result == whole
        assert counters_of(place).round_trips == QUESTIONS
        assert list(place.report()["dropped"]) == [str(workers[0].address)]
    assert any(all(part in message for part in CHANGES[change]) for message in caplog.messages)
    workers[0].kill()


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_run_stops_without_another_worker_and_goes_on_with_it(change, small_spec, whole, workers, other_model, tmp_path):
    def act():
        come_back_changed(workers[0], change, other_model)

    with place_of([workers[0].address], PATIENT, IN_SECOND_STEP, act) as place, pytest.raises(Interrupted) as caught:
        trained(small_spec, tmp_path, place)
    one_sentence(caught.value, "no worker is left for layer model.layers.", str(workers[0].address), *CHANGES[change])
    assert the_checkpoint(tmp_path)["step"] == 1
    with place_of([workers[1].address]) as place:
        _, result = trained(small_spec, tmp_path, place)
    assert (result.losses, result.held_out, result.optimizer_steps) == (whole.losses, whole.held_out, {STEPS})
    workers[0].kill()
