"""Command line of generation. Imports nothing heavy."""

from __future__ import annotations

import logging
import time
from functools import partial

from private_lora.cli import network
from private_lora.cli.batch import TRAINING_IMPORTS, add_specs, only_spec, run_all
from private_lora.cli.flags import add_fields, given_fields
from private_lora.core.secrets import harden_process
from private_lora.specs.generate import GenerateSpec

log = logging.getLogger(__name__)


def add_generate(parser) -> None:
    """Arguments of `generate`."""
    add_fields(parser, GenerateSpec, required=True)
    network.add_workers(parser)
    parser.set_defaults(handler=_generate)


def _generate(args) -> int:
    spec = GenerateSpec.from_dict(given_fields(args, GenerateSpec))
    harden_process()
    place = network.place_of(args)
    from private_lora.training.generation import Printer, asked, prepare_writer, write

    try:
        whole = prepare_writer(spec, place)
        start, tokens = time.perf_counter(), 0
        for question, writer in asked(whole):
            if spec.questions:
                print(f"> {question}")
            tokens += len(write(writer, Printer(writer.tokenizer, partial(print, end="", flush=True))))
            print()
        _tell(tokens, time.perf_counter() - start, whole.session.counters)
        whole.session.close()
    finally:
        if place is not None:
            place.close()
    return 0


def add_generation(parser) -> None:
    """Arguments of `generation`."""
    add_specs(parser, "GenerationSpec")
    parser.set_defaults(handler=_generation)


def _generation(args) -> int:
    from private_lora.bench.generation import generation
    from private_lora.specs.loopback import GenerationSpec

    if args.runs:
        return run_all(args, GenerationSpec, generation, TRAINING_IMPORTS)
    generation(GenerationSpec.from_json(only_spec(args)), args.out)
    return 0


def _tell(tokens: int, seconds: float, counters) -> None:
    """What it took, on standard error."""
    up, down = (count / 1e6 for count in (counters.upload_ciphertext_bytes, counters.download_ciphertext_bytes))
    log.info(
        "%d tokens in %.1f s; %d products, %d of them encrypted; %.1f MB of ciphertext up, %.1f MB down",
        *(tokens, seconds, counters.products, counters.encrypted_products, up, down),
    )
