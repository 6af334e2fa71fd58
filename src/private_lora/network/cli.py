"""Command line of what a trial over a network needs: `certs` and `link`. Imports nothing heavy."""

from __future__ import annotations

import math
from pathlib import Path


def add_certs(parser) -> None:
    """Arguments of `certs`."""
    parser.add_argument("--out", type=Path, required=True, help="directory for the six PEM files; nothing is overwritten")
    parser.add_argument("--host", action="append", default=[], help="name or IP address of a worker's machine; may be repeated")
    parser.add_argument("--days", type=int, default=365, help="how long the certificates hold")
    parser.set_defaults(handler=_certs)


def _certs(args) -> int:
    from private_lora.network.certificates import make_certificates

    make_certificates(args.out, args.host, args.days)
    print(
        f"{args.out}: worker.pem, worker-key.pem, client-ca.pem for workers; client.pem, client-key.pem, worker-ca.pem for you"
    )
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

    from private_lora.network.link import Link, serve
    from private_lora.network.security import Address

    listen, target = Address.parse(args.listen), Address.parse(args.to)
    asyncio.run(serve(Link((listen.host, listen.port), (target.host, target.port), args.bandwidth, args.latency)))
    return 0
