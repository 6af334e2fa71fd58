"""Command line: `python -m private_lora <command>`, one command per rule of the workflow and the same by hand."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from private_lora.cli import docs, estimate, generate, network, publish, trace
from private_lora.cli.batch import BENCH_IMPORTS, TRAINING_IMPORTS, add_specs, only_spec, run_all
from private_lora.cli.flags import add_fields, given_fields
from private_lora.cli.live import add_live, check_live, listeners_of
from private_lora.core.errors import UserError
from private_lora.core.secrets import harden_process
from private_lora.specs.run import RunSpec


def build_parser(command: str = "") -> argparse.ArgumentParser:
    """The parser of all commands; options of `pretrain`, whose module imports torch, only if `command` is that."""
    parser = argparse.ArgumentParser(prog="private-lora", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_finetune(commands.add_parser("finetune", help="fine-tune a LoRA adapter through a backend"))
    generate.add_generate(commands.add_parser("generate", help="let a (fine-tuned) model go on from a prompt, privately"))
    network.add_worker(commands.add_parser("worker", help="hold layers of a base model and serve their encrypted products"))
    network.add_loopback(commands.add_parser("loopback", help="fine-tune through workers that are started on this machine"))
    generate.add_generation(commands.add_parser("generation", help="time a text that is generated, token by token"))
    estimate.add_estimate(
        commands.add_parser("estimate", help="what private fine-tuning would cost, before any download or run")
    )
    network.add_health(commands.add_parser("health", help="whether a worker serves"))
    network.add_certs(commands.add_parser("certs", help="make certificates for trying out mutual TLS"))
    network.add_link(commands.add_parser("link", help="relay a TCP connection as a slower network would"))
    _add_layer(commands.add_parser("layer", help="time one encrypted linear layer by operation"))
    _add_block(commands.add_parser("block", help="time all linear layers of a block, every backend in one process"))
    _add_worker_view(commands.add_parser("worker_view", help="what a worker receives of a text, and what it can read back"))
    _add_compile(commands.add_parser("compile", help="compile the kernels once for this clone"))
    _add_costs(commands.add_parser("costs", help="predict what steps of real models cost from the collected records"))
    _add_prepare(commands.add_parser("prepare", help="copy the published values into a study"))
    _add_collect(commands.add_parser("collect", help="join the records of several runs"))
    trace.add_trace(commands.add_parser("trace", help="what made a row of a table, or a run: command, commit, machine"))
    trace.add_record(commands.add_parser("record", help="keep a study's records, unless uncommitted code made them"))
    trace.add_convert(commands.add_parser("convert", help="rewrite recorded files in the present schema"))
    publish.add_publish(commands.add_parser("publish", help="all tables and figures of a study from the records of its runs"))
    docs.add_docs(commands.add_parser("docs", help="pages whose numbers are cells of the published tables, and their site"))
    publish.add_report(commands.add_parser("report", help="the page of a study: questions, answers, figures, tables, runs"))
    _add_validate(commands.add_parser("validate", help="check a study's configuration without running it"))
    _add_schema(commands.add_parser("schema", help="write the JSON Schema of configurations and specs"))
    pretrain = commands.add_parser("pretrain", help="rebuild a built-in base model")
    if command == "pretrain":
        _add_pretrain(pretrain)
    for name in ("table", "figure"):
        _add_published(commands.add_parser(name, help=f"make one {name} from the collected records"), name)
    return parser


def _add_finetune(parser) -> None:
    add_specs(parser, "RunSpec, which other flags override", required=False)
    parser.add_argument("--checkpoints", type=Path, help="directory of checkpoints; default: beside the records")
    add_fields(parser, RunSpec)
    add_live(parser)
    network.add_workers(parser)
    parser.set_defaults(handler=_finetune)


def _finetune(args) -> int:
    check_live(args)
    if args.runs:
        return run_all(args, RunSpec, lambda spec, records: _finetune_one(spec, records, args), TRAINING_IMPORTS)
    values = json.loads(only_spec(args)) if args.spec else {}
    values |= given_fields(args, RunSpec)
    out = args.out if args.out.suffix == ".csv" else args.out / "records.csv"
    values.setdefault("run_id", out.parent.name)
    converged = _finetune_one(RunSpec.from_dict(values), out, args)
    print(f"{'done' if converged else 'diverged'}: {out}")
    return 0


def _finetune_one(spec, out: Path, args) -> bool:
    """Whether the run of a spec ended with finite losses."""
    from private_lora.data.load import validate_data

    validate_data(spec.data, spec.data_options)
    harden_process()
    listeners = listeners_of(args, spec.run_id, out)
    checkpoints = args.checkpoints or out.parent / "checkpoints"
    place = network.place_of(args, checkpoints)
    from private_lora.training.run import finetune

    try:
        return finetune(spec, out, checkpoints, place, listeners)
    finally:
        if place is not None:
            place.close()


def _add_layer(parser) -> None:
    add_specs(parser, "LayerSpec")
    parser.set_defaults(handler=_layer)


def _layer(args) -> int:
    from private_lora.bench.layer import layer
    from private_lora.specs.layer import LayerSpec

    return _measure(args, LayerSpec, layer)


def _add_block(parser) -> None:
    add_specs(parser, "BlockSpec")
    parser.set_defaults(handler=_block)


def _block(args) -> int:
    from private_lora.bench.block import block
    from private_lora.specs.block import BlockSpec

    return _measure(args, BlockSpec, block)


def _add_worker_view(parser) -> None:
    add_specs(parser, "WorkerViewSpec")
    parser.set_defaults(handler=_worker_view)


def _worker_view(args) -> int:
    from private_lora.bench.worker_view import worker_view
    from private_lora.specs.worker_view import WorkerViewSpec

    return _measure(args, WorkerViewSpec, worker_view, TRAINING_IMPORTS)


def _measure(args, kind: type, measure: Callable, imports: tuple[str, ...] = BENCH_IMPORTS) -> int:
    """Exit status after one measurement, or those of a job."""
    if args.runs:
        return run_all(args, kind, measure, imports)
    measure(kind.from_json(only_spec(args)), args.out)
    return 0


def _add_compile(parser) -> None:
    parser.add_argument("--out", type=Path, help="file to write when it is done, with the seconds that it took")
    parser.set_defaults(handler=_compile)


def _compile(args) -> int:
    from private_lora.bench.kernels import compile_kernels
    from private_lora.core.files import atomic_path

    said = f"kernels compiled in {compile_kernels():.1f} s"
    print(said)
    if args.out:
        with atomic_path(args.out) as temporary:
            temporary.write_text(f"{said}\n")
    return 0


def _add_costs(parser) -> None:
    parser.add_argument("--spec", required=True, help="JSON object with the fields of CostSpec")
    parser.add_argument("--data", type=Path, required=True, help="directory with the collected CSVs")
    parser.add_argument("--out", type=Path, required=True)
    parser.set_defaults(handler=_costs)


def _costs(args) -> int:
    from private_lora.costs.predict import write_costs
    from private_lora.specs.costs import CostSpec

    write_costs(CostSpec.from_json(args.spec), args.data, args.out)
    return 0


def _add_prepare(parser) -> None:
    parser.add_argument("--reference", type=Path, required=True, help="directory of the published values")
    parser.add_argument("--values", type=Path, required=True)
    parser.add_argument("--curves", type=Path, required=True)
    parser.set_defaults(handler=_prepare)


def _prepare(args) -> int:
    from private_lora.results.prepare import collect_published

    collect_published(args.reference, args.values, args.curves)
    return 0


def _add_collect(parser) -> None:
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("files", type=Path, nargs="*")
    parser.set_defaults(handler=_collect)


def _collect(args) -> int:
    from private_lora.results.recorder import collect

    collect(args.files, args.out)
    return 0


def _add_validate(parser) -> None:
    parser.add_argument("--config", type=Path, required=True)
    parser.set_defaults(handler=_validate)


def _validate(args) -> int:
    from private_lora.study.config import load_study

    study = load_study([args.config])
    runs, measurements = len(study.runs) + len(study.loopbacks), len(study.measurements) - len(study.loopbacks)
    print(f"{args.config}: {runs} runs, {measurements} measurements")
    return 0


def _add_schema(parser) -> None:
    parser.add_argument("--out", type=Path, required=True, help="directory, such as config/schema")
    parser.set_defaults(handler=_schema)


def _schema(args) -> int:
    from private_lora.study.schema import write_schemas

    write_schemas(args.out)
    return 0


def _add_pretrain(parser) -> None:
    from private_lora.models.pretraining import pretrain

    pretrain.add_arguments(parser)
    parser.set_defaults(handler=lambda args: pretrain.run(args) or 0)


def _add_published(parser, kind: str) -> None:
    parser.add_argument("--name", required=True)
    parser.add_argument("--data", type=Path, required=True, help="directory with the collected CSVs")
    parser.add_argument("--out", type=Path, required=True)
    parser.set_defaults(handler=_table if kind == "table" else _figure)


def _table(args) -> int:
    from private_lora.publish.tables import make_table

    make_table(args.name, args.data, args.out)
    return 0


def _figure(args) -> int:
    from private_lora.publish.figures import make_figure

    make_figure(args.name, args.data, args.out)
    return 0


def _log() -> None:
    """What happens, on standard error: this program's progress, warnings of libraries."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("private_lora").setLevel(logging.INFO)


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0, or 2 after one sentence on standard error when the input cannot be used."""
    argv = sys.argv[1:] if argv is None else argv
    args = build_parser(*argv[:1]).parse_args(argv)
    _log()
    try:
        return args.handler(args)
    except (UserError, json.JSONDecodeError) as error:
        print(f"private-lora {args.command}: {error}", file=sys.stderr)
        return 2
