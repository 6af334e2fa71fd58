"""The tables, the claims and the figure of a block say what the rows say. All rows are made up."""

import pytest
from synthetic_results import BLOCK_LAYERS, block_rows, write_results

from private_lora.figures import FIGURES
from private_lora.figures.style import plt
from private_lora.publish_data import Data
from private_lora.tables import TABLES
from private_lora.tables.render import to_markdown

JOINT = {"q+k+v": (2048, 3072), "o": (2048, 2048), "gate+up": (2048, 16_384), "down": (8192, 2048)}
WEIGHTS = sum(k * d for k, d in BLOCK_LAYERS.values())


def made(tmp_path, name, rows):
    return TABLES[name](Data(write_results(tmp_path, [], [], published=False, block=rows)))


def line(table, backend, tokens=2048, inputs="apart"):
    found = table[(table["backend"] == backend) & (table["tokens"] == tokens) & (table["inputs"] == inputs)]
    assert len(found) == 1
    return found.iloc[0]


def joint_rows(rows):
    return [row | {"run_id": row["run_id"] + "-joint"} for row in rows]


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


def test_claims_are_met_by_rows_that_meet_them(tmp_path):
    claims = made(tmp_path, "claims", block_rows()).set_index("claim")
    apart = claims[claims.index.str.contains("layers apart") & claims.index.str.contains("2,048 tokens")]
    assert len(apart) == 11
    assert set(apart.loc[apart["target"] != "none", "verdict"]) == {"met"}
    assert set(apart.loc[apart["target"] == "none", "verdict"]) == {"no target"}
    assert apart["value"].notna().all()
    assert set(claims.loc[claims.index.str.contains("layers joint"), "verdict"]) <= {"no data"}


@pytest.mark.parametrize(
    ("ratios", "missed"),
    [
        ({"packed": ((2.1, 2.1, 1.0), (0.3,) * 3)}, ["packed, layers apart: a block .* server product over plaintext float32"]),
        ({"packed": ((1.8,) * 3, (0.51,) * 3)}, ["packed, layers apart: a block .* client.* over plaintext float32"]),
        (
            {"packed_approx": ((1.01,) * 3, (0.41,) * 3)},
            ["packed_approx, .* server .* float32", "packed_approx, .* client.* float32"],
        ),
        ({"packed": ((1e5,) * 3, (0.3,) * 3)}, ["packed, .* server product over plaintext float32", "server time of glwe"]),
    ],
)
def test_a_missed_ratio_is_printed_as_missed(tmp_path, ratios, missed):
    claims = made(tmp_path, "claims", block_rows(ratios=ratios)).set_index("claim")
    found = claims.index[claims["verdict"] == "MISSED"]
    assert len(found) == len(missed)
    assert all(found.str.contains(pattern).any() for pattern in missed)


def test_more_bytes_than_allowed_are_missed(tmp_path):
    rows = [r | {"value": r["value"] * 2} if r["metric"].endswith("ciphertext_bytes") else r for r in block_rows()]
    rows = [r | {"value": r["value"] / 2} if r["backend"] == "glwe" and r["metric"].endswith("bytes") else r for r in rows]
    claims = made(tmp_path, "claims", rows).set_index("claim")
    sizes = claims[claims.index.str.contains("layers apart: bytes per token") & claims.index.str.contains("2,048 tokens")]
    assert set(sizes["verdict"]) == {"MISSED"} and len(sizes) == 2


def test_other_shapes_or_options_make_no_claim(tmp_path):
    rows = [r | {"model": "small block"} for r in block_rows()]
    claims = made(tmp_path, "claims", rows).set_index("claim")
    assert set(claims.loc[claims.index.str.contains("layers apart"), "verdict"]) == {"no data"}
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
    for panel, tokens in (("Llama-3.2-1B apart", [128, 512, 2048]), ("Llama-3.2-1B joint", [2048])):
        drawn = points[points["panel"] == panel]
        assert set(drawn["series"]) == series
        assert all(list(of_one["x"]) == tokens for _, of_one in drawn.groupby("series"))
    server = points[(points["series"] == "packed, server") & (points["panel"] == "Llama-3.2-1B apart")]
    assert server["y"].to_numpy() == pytest.approx(1e-12 * 2 * WEIGHTS * 1e3 * 2 * 1.9)
    assert {ax.get_yscale() for ax in figure.axes} == {"log"}
    plt.close(figure)
