"""The generated code is that of the schema, and what both sides must agree on is compared, field by field."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from private_lora.backends import load
from private_lora.cli.main import build_parser
from private_lora.cli.network import LIMIT_FLAGS
from private_lora.core.errors import UserError
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.parts import PART_BYTES, BrokenStream, parts_of, read_data, read_header
from private_lora.network.wire.settings import Expected, Settings, compare_products, compare_settings, plan_json
from private_lora.network.worker.held import hold
from private_lora.network.worker.limits import Limits
from private_lora.specs.quantization import Quantization
from private_lora.specs.ranges import parse_ranges
from private_lora.specs.worker import WorkerSpec
from private_lora.split.weights import product_weight

SOURCES = Path(__file__).resolve().parents[3] / "src"
SCHEMA = "private_lora/network/wire/protocol.proto"
SETTINGS = Settings("sha256:1", "packed", "{}", 8, 8, "static_per_channel", "exact", True)
OTHERS = {
    "model": "sha256:2",
    "backend": "glwe",
    "backend_options": '{"security": "chaloy21_quantum"}',
    "activation_bits": 7,
    "weight_bits": 4,
    "weight_quantizer": "static_per_tensor",
    "constant_rows": "reference",
    "share_inputs": False,
}


def test_generated_code_is_that_of_the_schema(tmp_path):
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}"]
    subprocess.run([*command, SCHEMA], cwd=SOURCES, check=True)
    made = sorted(tmp_path.rglob("*.py"))
    assert [path.name for path in made] == ["protocol_pb2.py", "protocol_pb2_grpc.py"]
    for path in made:
        assert path.read_text() == (SOURCES / path.relative_to(tmp_path)).read_text(), path.name


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES])
def test_a_message_of_any_size_survives_its_stream(size):
    data = np.random.default_rng(size).bytes(size)
    parts = parts_of(data, product="layer")
    header = read_header(parts)
    assert (header.size, header.product) == (size, "layer")
    assert read_data(parts, header.size) == data


def test_streams_that_are_not_what_their_header_says_are_refused():
    header, data = messages.Part(header=messages.Header(size=4)), messages.Part(data=b"1234")
    for stream in ([], [data], [messages.Part()]):
        with pytest.raises(BrokenStream, match="header"):
            read_header(iter(stream))
    for rest in ([], [messages.Part(data=b"123")], [data, data], [header], [messages.Part(data=b"")], [data, header]):
        with pytest.raises(BrokenStream):
            read_data(iter(rest), 4)


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Settings)])
def test_a_setting_that_differs_is_named_with_both_values(name):
    theirs = dataclasses.replace(SETTINGS, **{name: OTHERS[name]})
    assert Settings.from_message(theirs.message()) == theirs
    compare_settings("host:1", SETTINGS, SETTINGS)
    with pytest.raises(UserError) as caught:
        compare_settings("host:1", theirs, SETTINGS)
    text = str(caught.value)
    assert "host:1" in text
    assert repr(getattr(theirs, name)) in text
    assert repr(getattr(SETTINGS, name)) in text
    assert "\n" not in text


def expected_and_offered(seed=0, **changes):
    weight = product_weight(
        np.random.default_rng(seed).standard_normal((6, 3)).astype(np.float32),
        "layer",
        Quantization("dynamic_per_token", "static_per_channel", 8, 8),
    )
    plan = plan_json(load("packed").plan(weight.values, 8))
    fields = {"name": "layer", "weight_sha256": weight.digest(), "plan": plan}
    return {"layer": Expected(**fields)}, messages.Product(**(fields | changes))


def test_a_product_with_another_weight_or_other_parameters_is_named_with_both_values():
    ours, same = expected_and_offered()
    assert compare_products("host:1", [same], ours) == {"layer"}
    _, other = expected_and_offered(seed=1)
    with pytest.raises(UserError, match=rf"layer.*{other.weight_sha256.hex()[:16]}.*{same.weight_sha256.hex()[:16]}"):
        compare_products("host:1", [other], ours)
    plan = json.loads(same.plan)
    log2_q = plan["parameters"]["log2_q"]
    plan["parameters"]["log2_q"] = log2_q + 1
    with pytest.raises(UserError, match=rf"layer.*log2_q {log2_q + 1} where ours have log2_q {log2_q}:"):
        compare_products("host:1", [expected_and_offered(plan=json.dumps(plan, sort_keys=True))[1]], ours)


def test_products_that_this_run_does_not_have_are_no_reason_to_stop():
    ours, _ = expected_and_offered()
    assert compare_products("host:1", [messages.Product(name="another layer")], ours) == set()


def test_the_digest_of_a_weight_covers_integers_scales_and_zero_points():
    quantization = Quantization("dynamic_per_token", "static_per_channel", 8, 8)
    matrix = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    weight = product_weight(matrix, "layer", quantization)
    digests = {weight.digest()}
    scaled, shifted = product_weight(2 * matrix, "layer", quantization), product_weight(matrix.T.copy(), "layer", quantization)
    assert (scaled.values == weight.values).all()
    digests |= {scaled.digest(), shifted.digest()}
    changed = weight.values.copy()
    changed[0, 0] ^= 1
    digests.add(dataclasses.replace(weight, values=changed).digest())
    zero = dataclasses.replace(weight.terms, zero_point=weight.terms.zero_point + 1)
    digests.add(dataclasses.replace(weight, terms=zero).digest())
    assert len(digests) == 5


@pytest.mark.parametrize("layers", ["0", "1", "0-1", ""])
def test_a_worker_holds_both_products_of_its_layers_alone(layers, tiny_llama_directory):
    held = hold(WorkerSpec(model=str(tiny_llama_directory), backend="packed", layers=layers, activation_bits=8, weight_bits=8))
    blocks = {int(name.split("layers.")[1].split(".")[0]) for name in held.products}
    assert blocks == (parse_ranges(layers) or {0, 1})
    assert len(held.products) == 8 * len(blocks)  # q+k+v, o, gate+up, down; forward and backward
    joint = [name for name in held.products if name.endswith("self_attn.q_proj+k_proj+v_proj backward")]
    assert len(joint) == len(blocks)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": "0-2"}, "no block 2, the model has 0-1"),
        ({"layers": "x"}, "'x' is no block or range"),
        ({"layers": "1-0"}, "ends before it begins"),
        ({"backend": "glwe_simulated"}, "does not run at workers"),
        ({"backend": "concrete_ml"}, "does not run at workers"),
        ({"activation_bits": None}, "activation_bits must be"),
        ({"backend": "float"}, "does not quantize"),
        ({"weight_quantizer": "magic"}, "unknown weight quantizer"),
        ({"activation_bits": 16, "weight_bits": 16, "backend": "glwe"}, "27 bits"),
    ],
)
def test_workers_that_cannot_serve_say_so_before_they_listen(fields, message, tiny_llama_directory):
    values = {"model": str(tiny_llama_directory), "backend": "packed", "activation_bits": 8, "weight_bits": 8} | fields
    with pytest.raises(UserError, match=message):
        hold(WorkerSpec(**values))


@pytest.mark.parametrize("flag", LIMIT_FLAGS)
@pytest.mark.parametrize("value", ["0", "-1", "nan", "many"])
def test_limits_are_above_zero(flag, value, capsys):
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(["worker", "--listen", "127.0.0.1:0", f"--{flag}={value}"])
    assert ended.value.code == 2 and f"argument --{flag}: " in capsys.readouterr().err


def test_flags_of_the_command_are_fields_of_the_specs():
    assert {field for field, _, _ in LIMIT_FLAGS.values()} < {f.name for f in dataclasses.fields(Limits)}
