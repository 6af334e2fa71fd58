"""Command line of the network: `worker`, how `finetune` finds its workers, and what a trial needs. Imports nothing heavy."""

from __future__ import annotations

import math
import os
from argparse import ArgumentTypeError, BooleanOptionalAction
from pathlib import Path

from private_lora.cli.batch import TRAINING_IMPORTS, add_specs, only_spec, run_all
from private_lora.cli.flags import add_fields, given_fields
from private_lora.cli.live import add_live, check_live, listeners_of
from private_lora.core.secrets import harden_process
from private_lora.specs.options import HINTS_VARIABLE
from private_lora.specs.worker import WorkerSpec

CAUGHT_FILE = "caught-workers.jsonl"
# Flags of `worker` that are limits: field, factor to the field's unit, help.
MEGABYTE = 2**20
LIMIT_FLAGS = {
    "max-message-mb": ("message_bytes", MEGABYTE, "largest message"),
    "max-memory-mb": ("memory_bytes", MEGABYTE, "memory of all messages, and of the work on them, at one time"),
    "max-clients": ("clients", 1, "sessions at one time"),
    "max-requests": ("requests", 1, "requests at one time, of all clients"),
    "max-deadline-s": ("deadline_s", 1, "longest deadline that a client may set, in seconds"),
    "max-turn-gops": ("turn_operations", 10**9, "int8 operations of one question's rows, in billions: how long others wait"),
    "max-refusals-per-s": ("refusals_per_s", 1, "refusals of one client that it is told of in a second, after the first forty"),
    "min-rate-kb": ("bytes_per_s", 2**10, "slowest mean rate of a stream, in KiB a second"),
}


def add_worker(parser) -> None:
    """Arguments of `worker`."""
    parser.add_argument("--listen", required=True, help="host:port; port 0 takes a free one and prints it")
    add_fields(parser, WorkerSpec, required=True)
    add_tls(parser, "--client-ca", "certificate authority of the clients")
    add_revoked(parser, "clients")
    parser.add_argument("--metrics", help="host:port of Prometheus metrics; over HTTPS, for clients, unless on loopback")
    for flag, (_, _, text) in LIMIT_FLAGS.items():
        parser.add_argument(f"--{flag}", type=above_zero, help=f"limit: {text}")
    parser.set_defaults(handler=_worker)


def above_zero(text: str) -> float:
    """A limit's value; raises what argparse makes a sentence of."""
    value = float(text)
    if not value > 0:
        raise ArgumentTypeError(f"{text} is not above 0")
    return value


def add_tls(parser, authority_flag: str, authority_help: str) -> None:
    """Certificates of one side, or plain text."""
    parser.add_argument("--tls-cert", type=Path, help="own certificate (PEM)")
    parser.add_argument("--tls-key", type=Path, help="its key (PEM)")
    parser.add_argument(authority_flag, type=Path, dest="authority", help=f"{authority_help} (PEM)")
    parser.add_argument("--plaintext", action="store_true", help="no TLS; on loopback addresses only")


def add_revoked(parser, others: str) -> None:
    """Which certificates of the other side are trusted no more."""
    parser.add_argument(
        "--revoked", type=Path, help=f"file of SHA-256 fingerprints of {others}' certificates to refuse, one a line"
    )


def add_workers(parser) -> None:
    """Arguments of `finetune` for workers over a network."""
    parser.add_argument("--workers", help="host:port,host:port,...: workers that hold the base model's layers; default: none")
    add_tls(parser, "--worker-ca", "certificate authority of the workers")
    add_revoked(parser, "workers")
    parser.add_argument("--check-answers", action=BooleanOptionalAction, default=True, help="Freivalds' check of answers")
    parser.add_argument(
        "--on-lie",
        choices=("drop", "stop"),
        default="drop",
        help="at a worker's first wrong answer, go on with others, or stop with the last step saved; it is never asked again",
    )
    parser.add_argument(
        "--caught",
        type=Path,
        help="file that remembers workers that lied; default: caught-workers.jsonl beside checkpoints, or memory",
    )
    parser.add_argument("--rows-per-question", type=int, help="send so many rows at a time, spread over a layer's workers")
    parser.add_argument("--deadline-s", type=float, default=600.0, help="longest wait for one answer")
    parser.add_argument(
        "--hints",
        type=Path,
        help="directory where hints (products of a session's masks with weights) are kept; default: memory",
    )
    parser.add_argument("--patience-s", type=float, default=300.0, help="how long to look for a worker before the run stops")


def add_loopback(parser) -> None:
    """Arguments of `loopback`."""
    add_specs(parser, "LoopbackSpec")
    parser.add_argument("--checkpoints", type=Path, required=True, help="directory of checkpoints")
    add_live(parser)
    parser.set_defaults(handler=_loopback)


def add_health(parser) -> None:
    """Arguments of `health`."""
    parser.add_argument("--address", required=True, help="host:port of a worker")
    add_tls(parser, "--worker-ca", "certificate authority of the workers")
    parser.set_defaults(handler=_health)


def place_of(args, checkpoints: Path | None = None):
    """The `RemotePlace` that the arguments of `finetune` ask for; None without workers. Hints are kept where they say.

    checkpoints: directory where workers that lied are remembered, unless another file is named.
    """
    if args.hints is not None:
        os.environ[HINTS_VARIABLE] = str(args.hints)
    if not args.workers:
        return None
    from private_lora.core.errors import UserError
    from private_lora.network.client.caught import Caught
    from private_lora.network.client.connection import Connection
    from private_lora.network.client.remote import Asking, RemotePlace
    from private_lora.network.client.workers import Patience, Workers
    from private_lora.network.wire.security import Address, tls_or_plaintext

    if args.rows_per_question is not None and args.rows_per_question < 1:
        raise UserError("--rows-per-question must be at least 1")
    tls = tls_or_plaintext(args.tls_cert, args.tls_key, args.authority, args.plaintext, "--worker-ca", args.revoked)
    addresses = [Address.parse(text) for text in args.workers.split(",")]
    caught = Caught(args.caught or (checkpoints / CAUGHT_FILE if checkpoints else None))
    patience = Patience(args.deadline_s, args.patience_s)
    workers = Workers([Connection(address, tls) for address in addresses], patience, caught, args.on_lie == "stop")
    return RemotePlace(workers, Asking(args.check_answers, args.rows_per_question))


def _worker(args) -> int:
    from private_lora.network.wire.security import Address, tls_or_plaintext
    from private_lora.network.worker.limits import Limits
    from private_lora.network.worker.server import serve

    spec = WorkerSpec(**given_fields(args, WorkerSpec))
    given = {field: (getattr(args, flag.replace("-", "_")), factor) for flag, (field, factor, _) in LIMIT_FLAGS.items()}
    limits = Limits(
        **{field: type(getattr(Limits, field))(value * f) for field, (value, f) in given.items() if value is not None}
    )
    tls = tls_or_plaintext(args.tls_cert, args.tls_key, args.authority, args.plaintext, "--client-ca", args.revoked)
    serve(spec, Address.parse(args.listen), tls, limits, Address.parse(args.metrics) if args.metrics else None)
    return 0


def _loopback(args) -> int:
    from private_lora.bench.loopback import run_on_loopback
    from private_lora.specs.loopback import LoopbackSpec

    check_live(args)

    def run(spec: LoopbackSpec, out: Path) -> bool:
        harden_process()
        return run_on_loopback(spec, out, args.checkpoints, listeners_of(args, spec.run_id, out))

    if args.runs:
        return run_all(args, LoopbackSpec, run, TRAINING_IMPORTS)
    converged = run(LoopbackSpec.from_json(only_spec(args)), args.out)
    print(f"{'done' if converged else 'diverged'}: {args.out}")
    return 0


def _health(args) -> int:
    from private_lora.network.client.connection import ask_health
    from private_lora.network.wire.security import Address, tls_or_plaintext

    tls = tls_or_plaintext(args.tls_cert, args.tls_key, args.authority, args.plaintext, "--worker-ca")
    status = ask_health(Address.parse(args.address), tls)
    print(status)
    return 0 if status == "SERVING" else 1


def add_certs(parser) -> None:
    """Arguments of `certs`."""
    parser.add_argument("--out", type=Path, required=True, help="directory for the PEM files; nothing is overwritten")
    parser.add_argument("--host", action="append", default=[], help="name or IP address of a worker's machine; may be repeated")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--workers", type=int, default=1, help="certificates for so many workers: worker-1.pem, worker-2.pem, ..."
    )
    which.add_argument(
        "--worker", action="append", metavar="NAME[=HOST,...]", help="certificate NAME.pem of a worker on HOST; may be repeated"
    )
    parser.add_argument("--clients", type=int, default=1, help="certificates for so many clients")
    parser.add_argument("--days", type=int, default=365, help="how long the certificates hold")
    parser.set_defaults(handler=_certs)


def _certs(args) -> int:
    from private_lora.network.tools.certificates import make_certificates, named, numbered

    workers = named(args.worker) if args.worker else numbered("worker", args.workers)
    clients = numbered("client", args.clients)
    make_certificates(args.out, args.host, args.days, workers, list(clients))
    pairs = {
        side: ", ".join(f"{name}.pem with {name}-key.pem" for name in names)
        for side, names in (("workers", workers), ("clients", clients))
    }
    print(f"{args.out}: {pairs['workers']} and client-ca.pem for workers; {pairs['clients']} and worker-ca.pem for clients")
    return 0


def add_link(parser) -> None:
    """Arguments of `link`."""
    parser.add_argument("--listen", required=True, help="host:port; port 0 takes a free one and prints it")
    parser.add_argument("--to", required=True, help="host:port of the worker")
    parser.add_argument(
        "--bandwidth", type=float, default=math.inf, help="bits per second in each direction; default: no limit"
    )
    parser.add_argument("--latency", type=float, default=0.0, help="seconds there and back")
    parser.set_defaults(handler=_link)


def _link(args) -> int:
    import asyncio

    from private_lora.network.tools.link import Link, serve
    from private_lora.network.wire.security import Address

    listen, target = Address.parse(args.listen), Address.parse(args.to)
    asyncio.run(serve(Link((listen.host, listen.port), (target.host, target.port), args.bandwidth, args.latency)))
    return 0
