"""`packed` is exact: any shape, any supported bit-widths, any input; and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_tests import slow_but

from private_lora.backends import load
from private_lora.backends.contract import integer_bits
from private_lora.crypto.bits import tile_count
from private_lora.crypto.kernels import KERNELS, is_exact

BITS = range(2, 17)
MASKS = ["session", "fresh"]


def integers(seed, shape, bits):
    """Random integers among which the smallest is: `bits` bits are needed, not fewer."""
    values = np.random.default_rng(seed).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape)
    values.flat[-1] = -(2 ** (bits - 1))
    return values


def parties(weight, activation_bits, name="packed", **options):
    backend = load(name, **options)
    plan = backend.plan(weight, activation_bits)
    return plan, backend.client(plan).prepare(weight), backend.server(plan, weight)


def assert_exact(x, weight, activation_bits, **options):
    plan, client, server = parties(weight, activation_bits, **options)
    y = client.decrypt(server.matmul(client.encrypt(x)))
    assert plan.exact
    assert y.dtype == np.int64
    np.testing.assert_array_equal(y, x @ weight)


def extreme(kind, shape, bits):
    half = 2 ** (bits - 1)
    if kind == "one hot":
        return np.eye(*shape, dtype=np.int64) * (half - 1)
    return np.full(shape, {"all max": half - 1, "all min": -half, "zero": 0}[kind])


EXTREMES = ["all max", "all min", "one hot", "zero"]


@pytest.mark.parametrize("mask", MASKS)
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 70), st.integers(1, 200), st.integers(1, 70)),
    st.sampled_from(BITS),
    st.sampled_from(BITS),
)
@settings(max_examples=40)
def test_any_shape_and_bits_give_the_int64_product(mask, seed, shape, activation_bits, weight_bits):
    rows, inputs, outputs = shape
    weight = integers(seed + 1, (inputs, outputs), weight_bits)
    assert integer_bits(weight) == weight_bits
    assert_exact(integers(seed, (rows, inputs), activation_bits), weight, activation_bits, mask=mask)


@pytest.mark.parametrize("mask", MASKS)
@given(
    st.sampled_from(EXTREMES),
    st.sampled_from(EXTREMES),
    st.tuples(st.integers(1, 40), st.integers(1, 200), st.integers(1, 40)),
    st.sampled_from([2, 8, 9, 16]),
    st.sampled_from([2, 8, 9, 16]),
)
@settings(max_examples=40)
def test_extreme_inputs_and_weights_give_the_int64_product(mask, of_x, of_weight, shape, activation_bits, weight_bits):
    rows, inputs, outputs = shape
    x, weight = extreme(of_x, (rows, inputs), activation_bits), extreme(of_weight, (inputs, outputs), weight_bits)
    assert_exact(x, weight, activation_bits, mask=mask)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("activation_bits", slow_but((2, 8, 9, 16), BITS))
def test_every_supported_pair_of_bit_widths_is_exact(mask, activation_bits):
    for weight_bits in BITS:
        x, weight = integers(0, (3, 20), activation_bits), integers(weight_bits, (20, 2), weight_bits)
        x[0] = np.where(weight[:, 0] < 0, -(2 ** (activation_bits - 1)), 2 ** (activation_bits - 1) - 1)
        assert_exact(x, weight, activation_bits, mask=mask)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("rows", [1, 2047, 2048, 2049, 4096, 4100])
@pytest.mark.parametrize("bits", [8, 16])
def test_rows_below_and_above_the_ring_size_are_exact(mask, rows, bits):
    x, weight = integers(0, (rows, 5), bits), integers(1, (5, 33), bits)
    plan, client, server = parties(weight, bits, mask=mask)
    assert plan.parameters["ring_size"] == 2048
    np.testing.assert_array_equal(client.decrypt(server.matmul(client.encrypt(x))), x @ weight)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("rows", [1023, 1024, 1025, 4096])
def test_a_small_ring_is_exact_too(mask, rows):
    x, weight = integers(0, (rows, 3), 4), integers(1, (3, 2), 4)
    plan, client, server = parties(weight, 4, mask=mask)
    assert plan.parameters["ring_size"] == 1024
    np.testing.assert_array_equal(client.decrypt(server.matmul(client.encrypt(x))), x @ weight)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("options", [{"security": "chaloy21_quantum"}, {"failure_log2": -128}, {"failure_log2": -64}])
def test_other_tables_and_targets_are_exact_and_kept(mask, options):
    x, weight = integers(0, (40, 300), 8), integers(1, (300, 40), 8)
    plan, client, server = parties(weight, 8, mask=mask, **options)
    p = plan.parameters
    assert p["failure_log2"] <= options.get("failure_log2", -80)
    assert p["table"] == options.get("security", "matzov")
    assert p["log2_q"] <= p[f"{p['table']}_cap_log2_q"]
    np.testing.assert_array_equal(client.decrypt(server.matmul(client.encrypt(x))), x @ weight)


@pytest.mark.parametrize("mask", MASKS)
def test_the_widest_products_take_the_larger_ring_and_are_exact(mask):
    x, weight = integers(0, (9, 4096), 16), integers(1, (4096, 3), 16)
    weight[:, 0], x[0], x[1] = -(2**15), 2**15 - 1, -(2**15)
    plan, client, server = parties(weight, 16, mask=mask)
    assert plan.parameters["ring_size"] == 4096
    assert plan.parameters["log2_q"] > 53
    np.testing.assert_array_equal(client.decrypt(server.matmul(client.encrypt(x))), x @ weight)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kernel", [name for name, kind in KERNELS.items() if is_exact(kind)])
@pytest.mark.parametrize("bits", [8, 16])
def test_every_kernel_of_the_server_give_the_same_answer(mask, kernel, bits, monkeypatch):
    for module in ("session", "exact", "hints"):
        monkeypatch.setattr(f"private_lora.backends.packed.{module}.fastest_kernel", lambda: kernel)
    x, weight = integers(0, (20, 100), bits), integers(1, (100, 40), bits)
    _, client, server = parties(weight, bits, mask=mask)
    assert server._product.kernel == kernel
    np.testing.assert_array_equal(client.decrypt(server.matmul(client.encrypt(x))), x @ weight)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_nothing(mask, threads, monkeypatch):
    monkeypatch.setattr("numba.get_num_threads", lambda: threads)
    x, weight = integers(0, (70, 170), 8), integers(1, (170, 130), 8)
    assert_exact(x, weight, 8, mask=mask)


@pytest.mark.parametrize("mask", MASKS)
def test_questions_may_wait_for_their_answers_in_any_order(mask):
    weight = integers(1, (40, 7), 8)
    _, client, server = parties(weight, 8, mask=mask)
    inputs = [integers(seed, (seed + 1, 40), 8) for seed in range(4)]
    answers = [server.matmul(client.encrypt(x)) for x in inputs]
    for i in (2, 0, 3, 1):
        np.testing.assert_array_equal(client.decrypt(answers[i]), inputs[i] @ weight)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", ["packed", "packed_approx"])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (7, 33, 65), (64, 32, 32), (1025, 3, 2), (2, 100, 31)])
@pytest.mark.parametrize("bits", [2, 8, 16])
def test_byte_counts_are_the_lengths_of_the_messages(mask, name, rows, inputs, outputs, bits):
    _, client, server = parties(integers(1, (inputs, outputs), bits), bits, name, mask=mask)
    question = client.encrypt(integers(0, (rows, inputs), bits))
    answer = server.matmul(question)
    assert question.byte_count == len(question.to_bytes())
    assert answer.byte_count == len(answer.to_bytes())


@pytest.mark.parametrize("mask", MASKS)
def test_a_message_is_as_long_as_its_parameters_say(mask):
    plan, client, server = parties(integers(1, (70, 40), 8), 8, mask=mask)
    p, rows = plan.parameters, 16
    question = client.encrypt(integers(0, (rows, 70), 8))
    header, values, seed, masks = 4 + 16 + 8 * 5 + 16, rows * 70, 0, 0
    if mask == "fresh":
        header, values, seed, masks = 4 + 16 + 8 * 8 + 16, rows * 32 * tile_count(70), 32, p["ring_size"] * p["mask_bits"]
    assert len(question.to_bytes()) == header + seed + values * p["upload_bits_per_value"] // 8
    bits = masks + rows * p["body_bits"]
    assert len(server.matmul(question).to_bytes()) == header + bits * 32 * tile_count(40) // 8


@pytest.mark.parametrize("mask", MASKS)
def test_weights_beyond_sixteen_bits_or_int32_sums_are_refused(mask):
    with pytest.raises(ValueError, match="17 bits are more than the 16"):
        load("packed", mask=mask).plan(np.array([[2**15]]), 8)
    with pytest.raises(ValueError, match="131072 inputs are more than"):
        load("packed", mask=mask).plan(np.ones((2**17, 1), np.int8), 8)


@pytest.mark.parametrize("mask", MASKS)
def test_products_too_wide_for_any_modulus_are_refused_before_encryption(mask):
    weight = np.full((2**17 - 1, 1), -(2**15), np.int32)
    with pytest.raises(ValueError, match="use fewer bits or fewer inputs") as caught:
        load("packed", mask=mask, failure_log2=-256).plan(weight, 16)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("change", ["rows", "outputs", "parameters"])
def test_an_answer_of_another_shape_is_refused_and_the_key_is_kept_for_the_right_one(mask, change):
    x, weight = integers(0, (5, 40), 8), integers(1, (40, 7), 8)
    _, client, server = parties(weight, 8, mask=mask)
    question = client.encrypt(x)
    other_x, other_weight, bits = {
        "rows": (x[:4], weight, 8),
        "outputs": (x, weight[:, :6], 8),
        "parameters": (integers(0, (5, 40), 4), weight // 16, 4),
    }[change]
    _, other_client, other_server = parties(other_weight, bits, mask=mask)
    wrong = other_server.matmul(other_client.encrypt(other_x))
    forged = replace(wrong, question_id=question.question_id)
    with pytest.raises(ValueError, match=r"no answer for a layer|another key"):
        client.decrypt(forged)
    np.testing.assert_array_equal(client.decrypt(server.matmul(question)), x @ weight)
