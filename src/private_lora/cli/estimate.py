"""`estimate`: what private fine-tuning would cost, before any download or run; for the workflow, that beside a real run."""

from __future__ import annotations

import json
from pathlib import Path

from private_lora.cli.batch import TRAINING_IMPORTS, only_spec, run_all
from private_lora.cli.estimate_run import make_estimate
from private_lora.core import units
from private_lora.core.errors import UserError
from private_lora.costs.arrangement import Arrangement
from private_lora.specs.estimate import ESTIMATED_BACKENDS, EstimateSpec
from private_lora.specs.models import ARCHITECTURES, BUILT_IN_MODELS
from private_lora.specs.run import RunSpec

LONGEST_SEQUENCE = 512
PRICES = ("worker_per_hour", "client_per_hour", "traffic_per_gb")


def add_estimate(parser) -> None:
    """Arguments of `estimate`."""
    parser.add_argument(
        "--model", help=f"{', '.join((*BUILT_IN_MODELS, *ARCHITECTURES))}, a directory, GGUF file or cached hub id"
    )
    parser.add_argument("--revision", help="commit, tag or branch of a hub model")
    parser.add_argument("--tokens", type=int, default=512, help="of a step, padding included (512)")
    parser.add_argument(
        "--sequence-length", type=int, help=f"tokens of a sequence; default: a step's, {LONGEST_SEQUENCE} at most"
    )
    parser.add_argument("--steps", type=int, default=100, help="optimizer steps (100)")
    parser.add_argument(
        "--bandwidth", default="100Mbit", help="of the client's network, such as 100Mbit, 1Gbit, 12MB/s (100Mbit)"
    )
    parser.add_argument("--latency", default="40ms", help="there and back, such as 40ms (40ms)")
    parser.add_argument("--shards", type=int, default=1, help="parts of the blocks, each at workers of its own (1)")
    parser.add_argument("--replicas", type=int, default=1, help="workers with the same blocks, which share rows (1)")
    parser.add_argument("--rows-per-question", type=int, help="rows of a question, which replicas need; default: all")
    parser.add_argument("--backend", nargs="+", choices=ESTIMATED_BACKENDS, default=["packed"], help="one or both (packed)")
    parser.add_argument("--bits", type=int, default=8, help="of activations, gradients and weights (8)")
    parser.add_argument("--lora-rank", type=int, default=8, help="of the adapter (8)")
    parser.add_argument("--recompute", action="store_true", help="compute activations again in backward, for less memory")
    parser.add_argument("--config", type=Path, help="study whose costs.prices to take; default: config/config.yaml")
    for price in PRICES:
        parser.add_argument(f"--{price.replace('_', '-')}", type=float, help="price, in place of the study's")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="what is printed (text)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write it as JSON too")
    parser.add_argument("--spec", nargs="+", help="for the workflow: EstimateSpec as JSON, an estimate beside the run itself")
    parser.add_argument("--out", type=Path, help="with --spec: records.csv to write")
    parser.add_argument("--runs", type=Path, help="with --spec: directory for the files of each")
    parser.set_defaults(handler=_estimate)


def _estimate(args) -> int:
    if args.spec:
        return _checked(args)
    if not args.model:
        raise UserError(
            "--model is missing: give a built-in name, an architecture, a directory, a GGUF file or a cached hub id"
        )
    network = {
        "name": "asked",
        "bandwidth_bits_per_s": units.bandwidth(args.bandwidth),
        "latency_s": units.duration(args.latency),
    }
    prices, run = prices_of(args), run_of_flags(args)
    found = make_estimate(run, args.backend, network, prices, arrangement_of_flags(args))
    text = json.dumps(found, indent=2)
    if args.json:
        from private_lora.core.files import atomic_path

        with atomic_path(args.json) as temporary:
            temporary.write_text(text + "\n")
    if args.format == "text":
        from private_lora.costs.estimate_text import text_of

        text = text_of(found)
    print(text)
    return 0


def arrangement_of_flags(args) -> Arrangement:
    """The workers that are asked about; raises UserError on numbers that no arrangement has."""
    for name in ("shards", "replicas", "rows_per_question"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    if args.replicas > 1 and args.rows_per_question is None:
        raise UserError("--replicas share a product only where it is cut into questions: give --rows-per-question too")
    return Arrangement.of(args.shards, args.replicas, args.rows_per_question)


def run_of_flags(args) -> RunSpec:
    """The run that is asked about; raises UserError on sizes that no run could have."""
    for name in ("tokens", "steps", "lora_rank"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {getattr(args, name)}")
    length = args.sequence_length or min(args.tokens, LONGEST_SEQUENCE)
    if args.tokens % length:
        raise UserError(f"--tokens {args.tokens} is no multiple of sequences of {length} tokens: give --sequence-length")
    return RunSpec(
        run_id="estimate",
        model=args.model,
        revision=args.revision,
        weights="random",
        data="random_tokens",
        backend=args.backend[0],
        activation_bits=args.bits,
        weight_bits=args.bits,
        batch_size=args.tokens // length,
        sequence_length=length,
        steps=args.steps,
        lora_rank=args.lora_rank,
        recompute=args.recompute,
    )


def prices_of(args) -> dict:
    """`costs.prices` of the study, with those of the flags in their place; raises UserError where one is not known."""
    from private_lora.study.config import DEFAULTS, read_yaml

    path = args.config or (DEFAULTS if DEFAULTS.is_file() else None)
    prices = dict((read_yaml(path).get("costs") or {}).get("prices") or {}) if path else {}
    prices |= {name: getattr(args, name) for name in PRICES if getattr(args, name) is not None}
    missing = [name for name in PRICES if name not in prices]
    if missing:
        raise UserError(f"no price {missing[0]} is known: give --{missing[0].replace('_', '-')}, or --config with costs.prices")
    return {"currency": "", "note": ""} | prices


def _checked(args) -> int:
    """An estimate beside its run, for each spec."""
    from private_lora.cli.estimate_check import check_estimate

    if args.out is None:
        raise UserError("--spec needs --out, the records to write")
    if args.runs:
        return run_all(args, EstimateSpec, check_estimate, TRAINING_IMPORTS)
    check_estimate(EstimateSpec.from_json(only_spec(args)), args.out)
    return 0
