"""Altered messages to a worker over TLS for as long as it takes, while an honest client works; writes JSON of what came of it.

    PYTHONPATH=src:tests/helpers python tests/adversarial/network/fuzz_at_length.py --messages 1000000 --out fuzz.json

The attackers have a certificate of their own. The worker is a process with one block of `mini-llama` under `packed`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import grpc
import psutil
from mutations import CLOSE, Mutator, seeded_question
from raw_client import Honest, RawClient

from private_lora.network.tools.certificates import make_certificates
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.security import Address, Tls
from private_lora.network.worker.held import hold
from private_lora.specs.worker import WorkerSpec

WORKER = {"model": "mini-llama", "layers": "0", "activation_bits": 8, "weight_bits": 8}
PRODUCT = "model.layers.0.mlp.down_proj forward"
SEED, ROWS, DEADLINE_S = 20250507, 128, 60.0
ATTACKERS, BATCH = 2, 500
MOST_ROWS, WARM = 3, 20  # small questions, so that many are sent; right answers before time counts


def attack(address: Address, tls: Tls, questions: list, at_once: int, first: int, stop: int) -> Counter:
    """Calls first..stop-1 on a connection and in a session of their own; statuses that came back."""
    mutator, statuses = Mutator(questions, SEED, 5), Counter()
    with RawClient(address, tls) as client, ThreadPoolExecutor(at_once) as threads:
        while client.open() is not None:
            time.sleep(0.1)
        mutator.session_id = client.session_id
        statuses.update(threads.map(lambda number: sent(client.channel, *mutator.call(number)), range(first, stop)))
        goodbye = messages.Goodbye(session_id=client.session_id).SerializeToString()
        sent(client.channel, CLOSE, [goodbye])
    return statuses


def sent(channel, method: str, parts: list[bytes]) -> str:
    """Status of a call, after all of its answer."""
    try:
        list(channel.stream_stream(method)(iter(parts), timeout=DEADLINE_S))
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


class Work:
    """An honest client: one question after the other, each answer decrypted and compared with the product."""

    def __init__(self, address: Address, tls: Tls, honest: Honest):
        self._client, self._honest = RawClient(address, tls), honest
        assert self._client.open() is None
        self.right = self.wrong = 0
        self.refused = Counter()

    def until(self, is_over) -> float:
        """Right answers a second."""
        begin, before = time.monotonic(), self.right
        while not is_over():
            x, data = self._honest.question(ROWS, seed=self.right)
            answer = self._client.multiply(self._client.question(data, PRODUCT), timeout=DEADLINE_S)
            if isinstance(answer, bytes):
                is_right = self._honest.is_right(x, answer)
                self.right, self.wrong = self.right + is_right, self.wrong + (not is_right)
            else:
                self.refused[answer[0].name] += 1
        return (self.right - before) / (time.monotonic() - begin)


def started(directory: Path, refusals_per_s: float) -> tuple[subprocess.Popen, Address, Tls, Tls]:
    """A worker, and certificates of an honest client and of an attacker."""
    made = [directory / "honest", directory / "attacker"]
    for path in made:
        make_certificates(path, [])
    both = directory / "clients.pem"
    both.write_bytes(b"".join((path / "client-ca.pem").read_bytes() for path in made))
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in WORKER.items()]
    flags.append(f"--max-refusals-per-s={refusals_per_s}")
    files = ["--tls-cert", made[0] / "worker.pem", "--tls-key", made[0] / "worker-key.pem", "--client-ca", both]
    command = [sys.executable, "-m", "private_lora", "worker", *flags, "--backend=packed", "--listen=127.0.0.1:0", *files]
    with open(directory / "worker.log", "w") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=log, text=True)
    line = next(line for line in process.stdout if line.startswith("listening on "))
    tls = [Tls(path / "client.pem", path / "client-key.pem", made[0] / "worker-ca.pem") for path in made]
    return process, Address.parse(line.removeprefix("listening on ")), *tls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10**6)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop then, whatever was sent")
    parser.add_argument("--alone-seconds", type=float, default=60.0, help="how long the honest client works alone, twice")
    parser.add_argument("--refusals-per-s", type=float, default=20.0, help="of the attackers together: the worker's limit")
    parser.add_argument("--at-once", type=int, default=4, help="calls of each of two attackers; a client has 12 places")
    parser.add_argument("--apart", action="store_true", help="attackers have the last core to themselves")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    args.attackers_cores = set(cores[-1:] if args.apart else cores)
    if args.apart:
        os.sched_setaffinity(0, cores[:-1])
    held, truth = (hold(WorkerSpec(**WORKER, backend=name)) for name in ("packed", "integer"))
    names = list(held.products)
    questions = [(name, seeded_question(held.products[name], SEED + i, 1 + i % MOST_ROWS)) for i, name in enumerate(names)]
    with tempfile.TemporaryDirectory() as directory:
        process, address, honest_tls, attacker_tls = started(Path(directory), args.refusals_per_s)
        try:
            work = Work(address, honest_tls, Honest(held, truth, PRODUCT))
            record = measured(args, process, work, (address, attacker_tls, questions, args.at_once))
        finally:
            process.kill()
    args.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))


def measured(args, process: subprocess.Popen, work: Work, attacked: tuple) -> dict:
    """What came of the messages."""
    memory, statuses = psutil.Process(process.pid), Counter()

    def alone() -> float:
        begin = time.monotonic()
        return work.until(lambda: time.monotonic() - begin > args.alone_seconds)

    own = {"initializer": os.sched_setaffinity, "initargs": (0, args.attackers_cores)}
    with ProcessPoolExecutor(ATTACKERS, get_context("spawn"), **own) as attackers:
        list(attackers.map(attack, *zip(*[(*attacked, 0, 0)] * ATTACKERS, strict=True)))  # they are there before time counts
        work.until(lambda: work.right >= WARM)
        before = alone()
        at_first, begin = memory.memory_info().rss, time.monotonic()
        rss, submitted, open_batches, reported = [at_first], 0, [], begin

        def is_over() -> bool:
            nonlocal submitted, reported
            for batch in [batch for batch in open_batches if batch.done()]:
                statuses.update(batch.result())
                open_batches.remove(batch)
            rss.append(memory.memory_info().rss)
            in_time = time.monotonic() - begin < args.seconds
            while in_time and submitted < args.messages and len(open_batches) < ATTACKERS + 1:
                stop = min(args.messages, submitted + BATCH)
                open_batches.append(attackers.submit(attack, *attacked, submitted, stop))
                submitted = stop
            if time.monotonic() - reported > 20:
                reported = time.monotonic()
                print(f"{statuses.total()} messages in {reported - begin:.0f} s, {max(rss) >> 20} MiB", flush=True)
            return not open_batches

        beside = work.until(is_over)
        seconds = time.monotonic() - begin
        after = alone()
    return {
        "messages": statuses.total(),
        "seconds": seconds,
        "messages_per_s": statuses.total() / seconds,
        "statuses": dict(statuses),
        "worker_lives": process.poll() is None,
        "rss_before_bytes": at_first,
        "rss_largest_bytes": max(rss),
        "attackers_apart": args.apart,
        "refusals_per_s": args.refusals_per_s,
        "at_once": args.at_once,
        "honest_right": work.right,
        "honest_wrong": work.wrong,
        "honest_refused": dict(work.refused),
        "honest_per_s_alone_before": before,
        "honest_per_s_alone_after": after,
        "honest_per_s_beside": beside,
        "ratio": beside / max(before, after),
    }


if __name__ == "__main__":
    main()
