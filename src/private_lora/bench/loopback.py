"""A run through workers that are processes of their own on this machine: bytes, round trips and memory are measured."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from private_lora.core.errors import UserError
from private_lora.core.files import make_directory, owners_alone
from private_lora.core.memory import peak_memory_bytes
from private_lora.network.client.connection import Connection
from private_lora.network.client.remote import Asking, RemotePlace
from private_lora.network.client.workers import Patience, Workers
from private_lora.network.tools.certificates import make_certificates
from private_lora.network.wire.security import Address, Tls
from private_lora.specs.generate import GenerateSpec
from private_lora.specs.loopback import LoopbackSpec, ThroughWorkers
from private_lora.specs.split import SplitSpec
from private_lora.specs.worker import WorkerSpec
from private_lora.training.live import Listener
from private_lora.training.run import finetune

READY = "listening on "
READY_S = 1800.0
STOP_S = 30.0


def run_on_loopback(spec: LoopbackSpec, out: Path, checkpoints: Path, listeners: Sequence[Listener] = ()) -> bool:
    """Whether the run ended with finite losses. Starts the workers, fine-tunes through them as `finetune` does, stops them.

    Their logs stand beside the records. Raises UserError when a worker does not start.
    """
    with started_workers(spec, out.parent) as place:
        return finetune(spec.run, out, checkpoints, place, listeners)


@contextmanager
def started_workers(spec: ThroughWorkers, logs: Path) -> Iterator[LoopbackPlace | None]:
    """The place of a spec's products: workers that are started, and stopped at the end; None in process."""
    if not spec.workers:
        yield None
        return
    make_directory(logs)
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        certificates = Path(directory) / "certificates"
        if spec.tls:
            make_certificates(certificates, [])
        workers = [
            stack.enter_context(_worker(spec, layers, certificates, logs / f"worker-{i}.log"))
            for i, layers in enumerate(spec.workers)
        ]
        addresses = [_wait_for_address(worker, logs) for worker in workers]
        if spec.is_shaped:
            addresses = [stack.enter_context(_link(spec, address)) for address in addresses]
        tls = Tls(certificates / "client.pem", certificates / "client-key.pem", certificates / "worker-ca.pem")
        connections = [Connection(address, tls if spec.tls else None) for address in addresses]
        place = LoopbackPlace(spec, connections, [worker.pid for worker in workers])
        # All are told to stop before any of them is waited for.
        stack.callback(lambda: [worker.terminate() for worker in workers])
        stack.callback(place.close)
        yield place


class LoopbackPlace(RemotePlace):
    """Workers on this machine, whose interface and processes can be looked at."""

    def __init__(self, spec: ThroughWorkers, connections: list[Connection], pids: list[int]):
        super().__init__(Workers(connections, Patience()), Asking(spec.check_answers, spec.rows_per_question))
        self._spec, self._pids = spec, pids
        self._carried_before = loopback_bytes()

    def report(self) -> dict:
        """As that of any workers, with the spec, by which the run can be repeated."""
        return super().report() | {"loopback": self._spec.to_dict()}

    def metrics(self) -> dict[str, tuple[float, str]]:
        """What the loopback interface carried since the start, headers and all (not where a link makes everything pass twice).

        Anything else that used it meanwhile is in there. And the arrangement: workers, link, largest memory of a worker.
        """
        measured = super().metrics()
        measured["largest_worker_memory_bytes"] = max(peak_memory_bytes(pid) for pid in self._pids), "B"
        for holders, products in sorted(self.holders().items()):
            measured[f"products_held_by_{holders}"] = (products, "")
        if self._spec.rows_per_question:
            measured["rows_per_question"] = (self._spec.rows_per_question, "")
        if self._spec.is_shaped:
            measured["link_latency_s"] = (self._spec.latency_s, "s")
            measured["link_bandwidth_bits_per_s"] = (self._spec.bandwidth_bits_per_s or float("inf"), "bit/s")
        else:
            measured["interface_bytes"] = (loopback_bytes() - self._carried_before, "B")
        return measured


def loopback_bytes() -> int:
    """Bytes that the loopback interface has carried since the machine started (Linux)."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[8])
    raise UserError("/proc/net/dev has no loopback interface lo: the stage loopback needs one")


@contextmanager
def _worker(spec: ThroughWorkers, layers: str, certificates: Path, log: Path) -> Iterator[subprocess.Popen]:
    """A worker that is starting; stopped at the end."""
    arguments = ["worker", "--listen", "127.0.0.1:0", *worker_arguments(spec.run, layers)]
    if spec.tls:
        files = {"tls-cert": "worker.pem", "tls-key": "worker-key.pem", "client-ca": "client-ca.pem"}
        arguments += [part for flag, name in files.items() for part in (f"--{flag}", str(certificates / name))]
    else:
        arguments.append("--plaintext")
    with open(log, "w", opener=owners_alone) as handle:
        process = _start(arguments, stderr=handle)
    try:
        yield process
    finally:
        _stop(process)


def worker_arguments(run: SplitSpec, layers: str) -> list[str]:
    """Of `private-lora worker`, so that it holds what a run needs."""
    shared = [name for name in WorkerSpec.model_fields if name in SplitSpec.model_fields and name != "share_inputs"]
    given = {name: getattr(run, name) for name in shared if getattr(run, name) is not None}
    given["backend_options"] = json.dumps(run.backend_options)
    arguments = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    arguments.append("--share-inputs" if run.share_inputs else "--no-share-inputs")
    arguments += ["--no-backward"] if isinstance(run, GenerateSpec) else []
    return arguments + (["--layers", layers] if layers else [])


@contextmanager
def _link(spec: ThroughWorkers, target: Address) -> Iterator[Address]:
    """A shaped link in front of one worker; the address to reach it through."""
    bandwidth, latency = spec.bandwidth_bits_per_s or float("inf"), spec.latency_s
    shape = ["--bandwidth", str(bandwidth), "--latency", str(latency)]
    process = _start(["link", "--listen", "127.0.0.1:0", "--to", str(target), *shape])
    try:
        yield _wait_for_address(process, None)
    finally:
        _stop(process)


def _start(arguments: list[str], stderr=None) -> subprocess.Popen:
    command = [sys.executable, "-m", "private_lora", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)


def _wait_for_address(process: subprocess.Popen, logs: Path | None) -> Address:
    """What a process prints when it listens; raises UserError when it ends instead."""
    begin = time.monotonic()
    for line in process.stdout:
        if line.startswith(READY):
            return Address.parse(line.removeprefix(READY))
        if time.monotonic() - begin > READY_S:
            break
    where = f", its log is in {logs}" if logs else ""
    raise UserError(f"the process {' '.join(process.args[2:5])} ... ended before it listened{where}")


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
