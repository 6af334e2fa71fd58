"""The command when its workers or its disk fail: one sentence, status 2, nothing half-written, and it can be run again."""

from __future__ import annotations

import itertools
import resource
import subprocess
import threading

import pytest
from liars import lying
from small_run import (
    IN_EVALUATION,
    IN_SECOND_STEP,
    IN_STEP,
    PATIENT,
    QUESTIONS,
    STEPS,
    SUPERVISOR_S,
    address_of,
    command_of,
    losses_of,
    one_sentence,
    place_of,
    the_checkpoint,
    trained,
)


def hanging_at(number, reached):
    """A worker that never answers question `number`."""
    count = itertools.count(1)

    def lie(_, answer):
        if next(count) == number:
            reached.set()
            threading.Event().wait(2.0)  # until its server has stopped
        return answer

    return lie


def answered_by(running):
    """Questions that were multiplied."""
    value = running.service.metrics.registry.get_sample_value("private_lora_worker_product_seconds_count")
    return int(value)


def test_the_command_ends_with_status_2_and_a_sentence_and_goes_on(small_spec, whole, small_held, local_worker, tmp_path):
    out, checkpoints = tmp_path / "run" / "records.csv", tmp_path / "checkpoints"
    reached = threading.Event()
    with local_worker(lying(small_held, hanging_at(IN_SECOND_STEP, reached))) as running:
        command = command_of(small_spec, out, checkpoints, address_of(running))
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as client:
            assert reached.wait(SUPERVISOR_S)
            running.stop(0)
            _, stderr = client.communicate(timeout=SUPERVISOR_S)
        assert client.returncode == 2
        sentence = stderr.splitlines()[-1]
        one_sentence(sentence, "private-lora finetune: no answer for layer model.layers.", str(address_of(running)))
        assert "Traceback" not in stderr
        assert the_checkpoint(checkpoints)["step"] == 1
    with local_worker(small_held) as running:
        subprocess.run(command_of(small_spec, out, checkpoints, address_of(running)), check=True, capture_output=True)
        assert answered_by(running) == QUESTIONS - IN_EVALUATION - IN_STEP
    assert losses_of(out) == (whole.losses, whole.held_out)


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
    make_spec, whole, small_held, local_worker, small_disk, tmp_path
):
    spec = make_spec(backend="packed", steps=STEPS, eval_every=2, checkpoint_every=1)
    with (
        local_worker(small_held) as running,
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
    with local_worker(small_held) as running, place_of([address_of(running)]) as place:
        _, again = trained(spec, small_disk, place)
        assert place.counters.round_trips == QUESTIONS - IN_EVALUATION - IN_STEP
    assert (again.losses, again.held_out, again.optimizer_steps) == (whole.losses, whole.held_out, {STEPS})


@pytest.mark.slow
def test_results_that_cannot_be_written_are_had_from_the_same_command_later(
    small_spec, whole, small_held, local_worker, small_disk, tmp_path
):
    out, checkpoints = small_disk / "run" / "records.csv", tmp_path / "checkpoints"
    fill(small_disk)
    with local_worker(small_held) as running:
        command = command_of(small_spec, out, checkpoints, address_of(running))
        refused = subprocess.run(command, check=False, capture_output=True, text=True)
        assert refused.returncode == 2, refused.stderr
        one_sentence(refused.stderr.splitlines()[-1], "cannot write the results to", str(out.parent), "No space left")
        assert "Traceback" not in refused.stderr
        assert [path for path in small_disk.rglob("*") if path.is_file()] == [small_disk / "ballast"]
        before = answered_by(running)
        (small_disk / "ballast").unlink()
        subprocess.run(command, check=True, capture_output=True)
        assert answered_by(running) == before  # everything had been computed
    assert losses_of(out) == (whole.losses, whole.held_out)
    assert sorted(path.name for path in out.parent.iterdir()) == ["adapter", "records.csv", "sidecar.json"]


@pytest.mark.slow
def test_without_room_for_any_file_the_run_can_be_had_again_from_the_start(
    small_spec, whole, small_held, local_worker, tmp_path
):
    out, checkpoints = tmp_path / "run" / "records.csv", tmp_path / "checkpoints"

    def no_file_beyond_a_page():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    with local_worker(small_held) as running:
        command = command_of(small_spec, out, checkpoints, address_of(running))
        refused = subprocess.run(command, check=False, capture_output=True, text=True, preexec_fn=no_file_beyond_a_page)
        assert refused.returncode == 2, refused.stderr
        assert "could not be written, the last one stays" in refused.stderr
        one_sentence(refused.stderr.splitlines()[-1], "cannot write the results to", str(out.parent))
        assert not [path for directory in (out.parent, checkpoints) for path in directory.rglob("*") if path.is_file()]
        subprocess.run(command, check=True, capture_output=True)
    assert losses_of(out) == (whole.losses, whole.held_out)
