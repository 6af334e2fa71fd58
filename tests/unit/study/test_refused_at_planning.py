"""Configurations that passed planning at commit b24a8b2 and failed in the job, if at all: refused now, in one sentence each."""

import copy

import pytest

from private_lora.core.errors import UserError
from private_lora.specs.backends import BACKENDS
from private_lora.specs.stages import STAGES
from private_lora.study.config import DEFAULTS, read_yaml, study_of

PAIR = {"activations": "dynamic_per_token", "weights": "static_per_channel"}
RUN = {"model": "nano", "backends": ["packed"], "bits": [8], "quantizers": [PAIR], "seeds": [0]}
STEP = {"tokens": [16], "backends": ["packed"]}


def sweep(**group) -> dict:
    return {"sweep": RUN | group}


def packed_with(name: str, **options) -> list:
    return [{"name": name, "options": options}]


def workers(*layers: str, **group) -> dict:
    return {"loopback": RUN | {"arrangements": [{"name": "some", "workers": list(layers)}]} | group}


# Section and its group; what the sentence says.
REFUSED = {
    "an option of another backend": (sweep(backends=packed_with("packed", mode="execute")), "'mode': known are failure_log2"),
    "an option of a backend without": (sweep(backends=packed_with("glwe", log2_q=24)), "'log2_q': known are none"),
    "an option of the approximate mode": (sweep(backends=packed_with("packed", log2_q=24)), "'log2_q'"),
    "a table for the integers": (sweep(backends=packed_with("integer", security="chaloy21_quantum")), "'security'"),
    "two bit-widths for one": (sweep(backends=["concrete_ml"], bits=[{"activations": 8, "weights": 6}]), "must be equal"),
    "more bits than a result has": (sweep(backends=["glwe"], bits=[16]), "glwe keeps 27 bits of a result"),
    "more bits than are simulated": (sweep(backends=["glwe_simulated"], bits=[15]), "glwe_simulated keeps 27 bits"),
    "blocks that a model does not have": (sweep(blocks=[9]), "blocks: 9 are more than the 2 that nano has"),
    "tokens beyond the positions": (
        sweep(
            model="GPT-2",
            weights="random",
            training={"data": "random_tokens", "generate_examples": 0, "sequence_length": 2048},
        ),
        "2048 tokens are more than the 1024 positions of GPT-2",
    ),
    "answers of source code": (sweep(training={"data": "codebase", "generate_examples": 4}), "codebase has no problems"),
    "more answers than examples": (
        sweep(training={"eval_examples": 4, "generate_examples": 8}),
        "generate_examples: 8 are more than the 4 held-out examples",
    ),
    "a range backwards": (workers("7-3"), "the range '7-3' ends before it begins"),
    "a block twice at one worker": (workers("0-1,1"), "lists block 1 twice"),
    "a block that no model has": (workers("0-5"), "there is no block 2, the model has 0-1"),
    "a block that nobody holds": (workers("0"), "nobody holds block 1 of 0-1"),
    "a block that was cut off": (workers("0-1", blocks=[1]), "there is no block 1, the model has 0-0"),
    "an option of a product in the clear": (
        {"block": STEP | {"backends": packed_with("plaintext_int8", log2_q=24)}},
        "plaintext_int8 takes no options",
    ),
    "an option of another backend in a block": (
        {"block": STEP | {"backends": packed_with("packed", log2_q=24)}},
        "'log2_q': known are failure_log2",
    ),
}


@pytest.fixture
def config():
    """The default configuration with empty grids."""
    empty = copy.deepcopy(read_yaml(DEFAULTS))
    for section in STAGES:
        empty[section]["groups"] = []
    return empty


@pytest.mark.parametrize("name", REFUSED)
def test_what_fails_only_in_the_job_is_refused_before(config, name):
    groups, expected = REFUSED[name]
    ((section, group),) = groups.items()
    config[section]["groups"] = [group]
    with pytest.raises(UserError) as error:
        study_of(config)
    text = str(error.value)
    assert text.startswith(f"config: {section}.groups[0]: ") or text.startswith(f"config: {section}.groups[0].")
    assert expected in text
    assert "\n" not in text


def test_memory_of_every_backend_and_stage_may_be_said(config):
    names = [*STAGES, *BACKENDS]
    config["memory_mb"] = {"default": 1} | {name: 10 + i for i, name in enumerate(names)}
    config["sweep"]["groups"] = [RUN]
    study = study_of(config)
    (run,) = study.runs.values()
    assert study.memory_of(run) == max(study.memory_mb["sweep"], study.memory_mb["packed"])
