"""The tables, the claims and the figure of a block say what the rows say. All rows are made up."""

import numpy as np
import pytest
from synthetic_results import BLOCK_LAYERS, MET, block_rows, write_results

from private_lora.models.shapes import architecture_of
from private_lora.publish.figures import FIGURES
from private_lora.publish.figures.style import plt
from private_lora.publish.tables import TABLES
from private_lora.publish.tables.block_utilisation import ENTRY_BYTES
from private_lora.publish.tables.render import to_markdown
from private_lora.results.reader import Data
from private_lora.specs.backends import PLAINTEXT

JOINT = {"q+k+v": (2048, 3072), "o": (2048, 2048), "gate+up": (2048, 16_384), "down": (8192, 2048)}
WEIGHTS = sum(k * d for k, d in BLOCK_LAYERS.values())


def made(tmp_path, name, rows):
    return TABLES[name](Data(write_results(tmp_path, [], [], published=False, block=rows)))


def line(table, backend, tokens=2048, inputs="apart"):
    found = table[(table["backend"] == backend) & (table["tokens"] == tokens) & (table["inputs"] == inputs)]
    assert len(found) == 1
    return found.iloc[0]


def joint_rows(rows, **columns):
    return [row | {"run_id": row["run_id"] + "-joint"} | columns for row in rows]


def gpu_rows(rows):
    """The same on another machine, a tenth as long."""
    columns = {"device": "cuda", "machine": "a GPU beside a processor"}
    rows = [row | columns | {"run_id": row["run_id"] + "-cuda"} for row in rows]
    return [row | {"value": row["value"] / 10} if row["metric"].endswith("_time_s") else row for row in rows]


def test_times_are_summed_over_layers_and_directions_per_token(tmp_path):
    table = made(tmp_path, "block_latency", block_rows())
    plain = 1e-12 * 2 * WEIGHTS * 1e3  # ms per token in seconds of speed 1, forward and backward
    assert line(table, "plaintext_float32")["server_ms_per_token"] == pytest.approx(plain * 2)
    packed = line(table, "packed")
    assert packed["server_ms_per_token"] == pytest.approx(plain * 2 * 1.9)  # 1.7 x 1, 1.8 x 3, 1.9 x 2
    assert packed["encrypt_ms_per_token"] == pytest.approx(packed["client_ms_per_token"] / 4)
    assert packed["decrypt_ms_per_token"] == pytest.approx(packed["client_ms_per_token"] * 3 / 4)


def test_ratios_are_taken_within_each_repeat(tmp_path):
    packed = line(made(tmp_path, "block_latency", block_rows()), "packed")
    assert [packed[f"server_over_float32_{k}"] for k in ("median", "min", "max")] == pytest.approx([1.8, 1.7, 1.9])
    assert packed["client_over_float32_median"] == pytest.approx(0.35)
    assert packed["server_over_int8_median"] == pytest.approx(1.8 / 0.25)
    assert packed["client_over_int8_median"] == pytest.approx(0.35 / 0.25)


def test_ratios_need_a_plaintext_product_of_the_same_run(tmp_path):
    rows = [r for r in block_rows() if r["backend"] != "plaintext_float32" or r["run_id"].endswith("-512")]
    table = made(tmp_path, "block_latency", rows)
    assert line(table, "packed", 512)["server_over_float32_median"] == pytest.approx(1.8)
    assert line(table, "packed", 2048)[["server_over_float32_median", "client_over_float32_median"]].isna().all()


def test_glwe_is_compared_on_the_layers_it_was_measured_on(tmp_path):
    table = made(tmp_path, "block_latency", block_rows())
    # q and k, forward and backward: 2048 + 2048 + 512 + 2048 output values of 8 ms on one row.
    theirs = 8e-3 * (3 * 2048 + 512)
    ours = 1e-12 * 2 * 2048 * (2048 + 512) * 2 * 1.9
    assert line(table, "packed")["glwe_server_time_over_this"] == pytest.approx(theirs / ours)
    glwe = line(table, "glwe", 1)
    assert (glwe["layers"], glwe["repeats"]) == ("q, k", 1)
    assert line(table, "packed")["layers"] == "all"
    assert glwe["server_ms_per_token"] == pytest.approx(1e3 * theirs)


def test_layers_that_glwe_shares_with_no_joint_product_are_not_compared(tmp_path):
    rows = block_rows() + joint_rows(block_rows((2048,), JOINT, glwe=False))
    joint = line(made(tmp_path, "block_latency", rows), "packed", inputs="joint")
    assert joint["server_over_float32_median"] == pytest.approx(1.8)
    assert joint[["glwe_server_time_over_this"]].isna().all()


def test_bytes_are_those_of_all_blocks_beside_glwe(tmp_path):
    table = made(tmp_path, "block_bytes", block_rows())
    inputs = sum(k + d for k, d in BLOCK_LAYERS.values())  # of both directions; as many outputs
    packed, glwe = line(table, "packed"), line(table, "glwe", 1)
    assert packed["up_bytes_per_token"] == pytest.approx(16 * 4.0 * inputs)
    assert packed["down_bytes_per_token"] == pytest.approx(16 * 5.5 * inputs)
    # Rows of 2,048 values or fewer: one ciphertext; of 8,192: four. Twelve up forward and backward, and three of four.
    assert glwe["up_bytes_per_token"] == 16 * 10_000 * (11 + 3 * 4)
    # Down, 512 values were measured smaller than 2,048: k and v forward.
    assert glwe["down_bytes_per_token"] == 16 * (14_000 * (9 + 3 * 4) + 9_000 * 2)
    assert packed["total_over_glwe"] == pytest.approx(packed["total_bytes_per_token"] / glwe["total_bytes_per_token"])
    assert (packed["basis"], glwe["basis"]) == ("measured", "extrapolated + measured")
    assert "ceil(values / 2048)" in to_markdown(table)


def test_models_in_one_file_are_judged_each_by_its_own_block(tmp_path):
    gpt2 = {name: tuple(shape) for name, shape in architecture_of("GPT-2").layers.items()}
    part = {name: gpt2[name] for name in ("fc", "proj")}
    rows = block_rows()
    rows += [r | {"run_id": "of-gpt2", "model": "GPT-2"} for r in block_rows((2048,), gpt2, glwe=False)]
    rows += [r | {"run_id": "of-a-part", "model": "GPT-2"} for r in block_rows((512,), part, glwe=False)]
    table = made(tmp_path, "block_latency", rows)
    packed = table[table["backend"] == "packed"].set_index(["model", "tokens"])["layers"]
    assert packed.to_dict() == {
        ("Llama-3.2-1B", 512): "all",
        ("Llama-3.2-1B", 2048): "all",
        ("GPT-2", 512): "fc, proj",
        ("GPT-2", 2048): "all",
    }
    sizes = made(tmp_path, "block_bytes", rows)
    assert list(sizes.loc[sizes["model"] == "GPT-2", "tokens"]) == [2048] * 2
    assert sizes.loc[sizes["model"] == "GPT-2", "total_over_glwe"].isna().all()
    alone = made(tmp_path / "alone", "claims", block_rows())
    assert made(tmp_path, "claims", rows).equals(alone)


def test_layers_that_were_never_all_measured_are_not_all(tmp_path):
    some = {name: BLOCK_LAYERS[name] for name in ("q", "k")}
    table = made(tmp_path, "block_latency", block_rows((2048,), some, glwe=False))
    assert set(table["layers"]) == {"q, k"}


def test_a_model_measured_with_joint_inputs_alone_has_its_bytes(tmp_path):
    rows = joint_rows(block_rows((2048,), JOINT, glwe=False), model="mini-llama")
    sizes = made(tmp_path, "block_bytes", rows)
    assert line(sizes, "packed", inputs="joint")["up_bytes_per_token"] == pytest.approx(
        16 * 4.0 * sum(k + d for k, d in JOINT.values())
    )


def test_no_number_mixes_machines(tmp_path):
    rows = block_rows() + gpu_rows(block_rows(glwe=False))
    table = made(tmp_path, "block_latency", rows)
    packed = table[(table["backend"] == "packed") & (table["tokens"] == 2048)].set_index("device")
    assert packed.loc["cpu", "server_ms_per_token"] == pytest.approx(10 * packed.loc["cuda", "server_ms_per_token"])
    assert packed.loc["cpu", "glwe_server_time_over_this"] > 0
    assert np.isnan(packed.loc["cuda", "glwe_server_time_over_this"])
    # A run of the same name on two machines is two lines.
    same_name = [row | {"run_id": row["run_id"].removesuffix("-cuda")} for row in rows]
    assert len(made(tmp_path, "block_latency", same_name)) == len(table)
    # The same messages on either machine.
    assert len(made(tmp_path, "block_bytes", rows)) == len(made(tmp_path / "cpu", "block_bytes", block_rows()))
    # Figures to reach were set for the CPU.
    assert made(tmp_path, "claims", rows).equals(made(tmp_path / "cpu", "claims", block_rows()))


def test_plaintext_products_are_told_apart_and_bf16_is_said_to_be_inexact(tmp_path):
    others = {name: ((0.5,) * 3, None) for name in ("plaintext_float64", "plaintext_bf16")}
    table = made(tmp_path, "block_latency", block_rows(ratios=others))
    assert line(table, "packed")["server_over_bf16_median"] == pytest.approx(1.8 / 0.5)
    assert np.isnan(line(table, "plaintext_bf16")["activation_bits"])
    assert "bf16 is inexact" in to_markdown(table)
    figure, points = FIGURES["block_latency"](Data(write_results(tmp_path, [], [], False, block_rows(ratios=others))))
    assert {"plaintext bf16 (inexact)", "plaintext float64"} <= set(points["series"])
    colours = {drawn.get_label(): drawn.get_color() for drawn in figure.axes[0].get_lines()}
    plain = [colour for label, colour in colours.items() if label.startswith("plaintext")]
    assert len(plain) == len(set(plain)) == 4
    plt.close(figure)


def test_claims_are_met_by_rows_that_meet_them(tmp_path):
    claims = made(tmp_path, "claims", block_rows(ratios=MET)).set_index("claim")
    claims = claims[~claims.index.str.contains("fresh")]
    apart = claims[claims.index.str.contains("each layer a call") & claims.index.str.contains("2,048 tokens")]
    assert len(apart) == 11
    assert set(apart.loc[apart["target"] != "none", "verdict"]) == {"met"}
    assert set(apart.loc[apart["target"] == "none", "verdict"]) == {"no target"}
    assert apart["value"].notna().all()
    assert set(claims.loc[claims.index.str.contains("one call for layers"), "verdict"]) <= {"no data"}


@pytest.mark.parametrize(
    ("ratios", "missed"),
    [
        (
            {"packed": ((1.3, 1.3, 1.0), (0.3,) * 3)},
            ["packed, each layer a call: a block .* server product over plaintext float32"],
        ),
        ({"packed": ((1.1,) * 3, (0.41,) * 3)}, ["packed, each layer a call: a block .* client.* over plaintext float32"]),
        (
            {"packed_approx": ((0.66,) * 3, (0.41,) * 3)},
            ["packed_approx, .* server .* float32", "packed_approx, .* client.* float32"],
        ),
        (
            {"packed": ((1e5,) * 3, (0.3,) * 3)},
            ["packed, .* server product over plaintext float32", "server product over plaintext int8", "server time of glwe"],
        ),
    ],
)
def test_a_missed_ratio_is_printed_as_missed(tmp_path, ratios, missed):
    claims = made(tmp_path, "claims", block_rows(ratios=MET | ratios)).set_index("claim")
    found = claims.index[claims["verdict"] == "MISSED"]
    assert len(found) == len(missed)
    assert all(found.str.contains(pattern).any() for pattern in missed)


def test_every_plaintext_product_has_its_bytes():
    assert set(ENTRY_BYTES) == set(PLAINTEXT)


def test_more_bytes_than_allowed_are_missed(tmp_path):
    rows = [r | {"value": r["value"] * 2} if r["metric"].endswith("ciphertext_bytes") else r for r in block_rows()]
    rows = [r | {"value": r["value"] / 2} if r["backend"] == "glwe" and r["metric"].endswith("bytes") else r for r in rows]
    claims = made(tmp_path, "claims", rows).set_index("claim")
    sizes = claims[claims.index.str.contains("each layer a call: bytes per token") & claims.index.str.contains("2,048 tokens")]
    assert set(sizes["verdict"]) == {"MISSED"} and len(sizes) == 2


def test_other_shapes_or_options_make_no_claim(tmp_path):
    rows = [r | {"model": "small block"} for r in block_rows()]
    claims = made(tmp_path, "claims", rows).set_index("claim")
    assert set(claims.loc[claims.index.str.contains("each layer a call"), "verdict"]) == {"no data"}
    some = {name: BLOCK_LAYERS[name] for name in ("q", "k", "o")}
    rows = block_rows((512,)) + block_rows((2048,), some, glwe=False)
    claims = made(tmp_path, "claims", rows).set_index("claim")
    assert set(claims.loc[claims.index.str.contains("server product over plaintext float32"), "verdict"]) == {"no data"}


def test_figure_draws_plaintext_server_and_client_by_tokens(tmp_path):
    rows = block_rows((128, 512, 2048)) + joint_rows(block_rows((2048,), JOINT, glwe=False))
    figure, points = FIGURES["block_latency"](Data(write_results(tmp_path, [], [], published=False, block=rows)))
    series = {
        "plaintext float32",
        "plaintext int8",
        *(f"{b}, {s}" for b in ("packed", "packed_approx") for s in ("server", "client")),
    }
    # Joint inputs were measured at one batch size, which is no line.
    assert set(points["panel"]) == {"Llama-3.2-1B apart"} and set(points["series"]) == series
    assert all(list(of_one["x"]) == [128, 512, 2048] for _, of_one in points.groupby("series"))
    server = points[(points["series"] == "packed, server") & (points["panel"] == "Llama-3.2-1B apart")]
    assert server["y"].to_numpy() == pytest.approx(1e-12 * 2 * WEIGHTS * 1e3 * 2 * 1.9)
    assert {ax.get_yscale() for ax in figure.axes} == {"log"}
    plt.close(figure)


def test_figure_has_a_panel_for_each_model_machine_and_kind_of_inputs(tmp_path):
    rows = block_rows() + gpu_rows(block_rows(glwe=False)) + joint_rows(block_rows((512, 2048), JOINT, glwe=False))
    rows += [r | {"run_id": "of-mini", "model": "mini-llama"} for r in block_rows((2048,), glwe=False)]
    figure, points = FIGURES["block_latency"](Data(write_results(tmp_path, [], [], published=False, block=rows)))
    # A model measured at one batch size has no line by batch size: the table has it.
    panels = ["Llama-3.2-1B apart", "Llama-3.2-1B joint", "Llama-3.2-1B apart, a GPU beside a processor"]
    assert set(points["panel"]) == set(panels)
    titled = [ax for ax in figure.axes if ax.get_title(loc="left")]
    assert len(titled) == 3
    assert any("a GPU" in ax.get_title(loc="left") for ax in titled)
    plt.close(figure)
