"""Workers that tests talk to: processes of their own, and servers in this process."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager

import pytest

READY = "listening on "
EIGHT_BITS = ("--activation-bits", "8", "--weight-bits", "8")
PACKED = ("--backend", "packed", *EIGHT_BITS)


@pytest.fixture(scope="session")
def worker_process(tmp_path_factory):
    """A context manager that starts a real worker process and yields it with its address.

    model: a path or name; flags: more of the command, 8-bit `packed` by default; port: to listen on, 0 for a free one.
    """
    from private_lora.network.wire.security import Address

    log = tmp_path_factory.mktemp("workers") / "worker.log"

    @contextmanager
    def start(model, *flags, port=0):
        command = [sys.executable, "-m", "private_lora", "worker", "--model", str(model), *(flags or PACKED)]
        command += ["--listen", f"127.0.0.1:{port}"] + ([] if "--tls-cert" in flags else ["--plaintext"])
        with open(log, "a") as handle:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=handle, text=True)
        try:
            line = next((line for line in process.stdout if line.startswith(READY)), None)
            assert line is not None, log.read_text()
            yield process, Address.parse(line.removeprefix(READY))
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    return start


@pytest.fixture(scope="session")
def local_worker():
    """A context manager that serves a `Held`, or what a `WorkerSpec` describes, from this process and yields it `Running`."""

    from private_lora.network.wire.security import Address
    from private_lora.network.worker import server as worker
    from private_lora.network.worker.held import Held, hold
    from private_lora.network.worker.limits import Limits

    @contextmanager
    def serve(held_or_spec, limits=None, tls=None):
        held = held_or_spec if isinstance(held_or_spec, Held) else hold(held_or_spec)
        running = worker.start(held, Address("127.0.0.1", 0), tls, limits or Limits())
        try:
            yield running
        finally:
            running.stop(0)

    return serve


@pytest.fixture(scope="session")
def small_spec(make_spec):
    """Four steps with evaluations, see `small_run`."""
    from small_run import STEPS

    return make_spec(backend="packed", steps=STEPS, eval_every=2, checkpoint_every=100)


@pytest.fixture(scope="session")
def small_held(small_spec):
    """What a worker of that run holds."""
    from private_lora.network.worker.held import hold
    from private_lora.specs.worker import WorkerSpec

    return hold(WorkerSpec(model=small_spec.model, backend=small_spec.backend, activation_bits=8, weight_bits=8))


@pytest.fixture(scope="session")
def whole(small_spec, tmp_path_factory):
    """What that run comes to in one process."""
    from small_run import QUESTIONS, STEPS, trained

    result = trained(small_spec, tmp_path_factory.mktemp("uninterrupted"))[1]
    assert (result.counted, len(result.held_out)) == (QUESTIONS, 6)
    assert result.steps == list(range(1, STEPS + 1))
    assert result.optimizer_steps == {STEPS}
    return result
