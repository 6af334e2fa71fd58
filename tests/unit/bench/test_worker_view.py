"""What a worker receives of a text: read back in the clear, not more than chance when encrypted, and really a ciphertext."""

import csv
from collections import defaultdict

import numpy as np
import pytest
from scipy.stats import binom, chisquare

from private_lora.backends import load
from private_lora.backends.packed import session
from private_lora.backends.packed.messages import message_from_bytes
from private_lora.bench import worker_view as bench
from private_lora.core.errors import UserError
from private_lora.publish.tables.intervals import wilson
from private_lora.publish.tables.worker_view import fisher
from private_lora.specs.worker_view import WorkerViewSpec

NANO = {"model": "nano", "blocks": 1, "activation_bits": 8, "weight_bits": 8, "data": "knowledge_base"}
# Encryption takes the system's randomness, so a test of chance may fail by chance: this seldom.
RARE = 1e-9


def make_spec(backend, **fields):
    return WorkerViewSpec.from_dict(NANO | {"run_id": backend, "backend": backend, "questions": 10} | fields)


class View:
    """The rows of one look: `run` by metric, `tops`, `recovered`, and the first question's matrix and tokens."""

    def __init__(self, spec, directory):
        bench.worker_view(spec, directory / "records.csv")
        self.rows = list(csv.DictReader((directory / "records.csv").open(newline="")))
        found = defaultdict(list)
        for row in self.rows:
            found[row["metric"]].append(row)
        self.run = {name: float(rows[0]["value"]) for name, rows in found.items() if rows[0]["phase"] == "run"}
        self.tops = [int(row["value"]) for row in found["top_bits_count"]]
        self.recovered = sum(int(row["value"]) for row in found["recovered_tokens"])
        self.values = np.array([int(row["value"]) for row in found["received_value"]]).reshape(spec.tokens, -1)
        self.texts = {name: [row["note"] for row in found[name]] for name in ("token", "recovered_token")}


@pytest.fixture(scope="module")
def clear(tmp_path_factory):
    return View(make_spec("integer"), tmp_path_factory.mktemp("integer"))


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory):
    """The view, and the arguments of every pad that was made for it: mask key, inputs, secrets, parameters."""
    pads = []

    class Pad(session.Pad):
        def __init__(self, mask_key, inputs, secrets, parameters):
            pads.append((mask_key, inputs, secrets.copy(), parameters))  # the secrets are wiped
            super().__init__(mask_key, inputs, secrets, parameters)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(session, "Pad", Pad)
        return View(make_spec("packed"), tmp_path_factory.mktemp("packed")), pads


def test_integers_in_the_clear_are_the_text(clear):
    assert clear.recovered == clear.run["read_tokens"] == 240
    assert clear.texts["recovered_token"] == clear.texts["token"]
    assert clear.run["encrypted_matmuls"] == clear.run["security_bits"] == 0
    assert clear.run["correlation"] == pytest.approx(1)
    assert chisquare(clear.tops).pvalue < RARE


def test_ciphertexts_give_no_more_than_chance(encrypted):
    view, _ = encrypted
    asked, chance = view.run["read_tokens"], view.run["chance_share"]
    commonest = view.run["commonest_token_count"] / asked
    assert 0 < chance < commonest < 0.2
    assert view.recovered <= binom.isf(RARE, asked, commonest)
    low, high = wilson(view.recovered, asked)
    # The interval has what blind guesses get: 1 / vocabulary, this attack's chance, the commonest token.
    assert low <= commonest and high >= 1 / view.run["vocabulary"]
    assert view.texts["recovered_token"] != view.texts["token"]


def test_ciphertexts_look_uniform_and_do_not_correlate(encrypted):
    view, _ = encrypted
    assert sum(view.tops) == view.run["received_values"] == 240 * 64
    assert chisquare(view.tops).pvalue > RARE
    assert abs(view.run["correlation"]) < 7 / np.sqrt(view.run["received_values"])


def test_the_label_encrypted_comes_from_the_products_that_were_counted(encrypted, clear):
    view, _ = encrypted
    assert view.run["encrypted_matmuls"] == 10 * 4  # q k v, o, gate up, down
    assert view.run["security_bits"] == 128
    assert {row["basis"] for row in view.rows + clear.rows} == {"measured"}


def test_a_run_that_counted_no_encrypted_product_is_not_recorded(tmp_path, monkeypatch):
    def matmul(self, message):
        answer = real(self, message)
        self.counters.encrypted_products = 0
        return answer

    real = session.SessionServer.matmul
    monkeypatch.setattr(session.SessionServer, "matmul", matmul)
    with pytest.raises(RuntimeError, match="counted no encrypted product"):
        bench.worker_view(make_spec("packed", questions=1), tmp_path / "records.csv")
    assert not (tmp_path / "records.csv").exists()


def test_the_recorded_ciphertext_decrypts_to_the_recorded_integers_with_its_key(encrypted, clear):
    view, pads = encrypted
    mask_key, inputs, secrets, p = pads[0]
    # The same A s, with other errors, of which the scale has room for many.
    pad = session.Pad(mask_key, inputs, secrets, p)
    masked = (pad.high.astype(np.int64) << 32) + pad.low.astype(np.int64)
    tokens, columns = view.values.shape
    phase = (view.values << (p.dropped_bits - p.pad_dropped_bits)) - masked[:tokens, :columns]
    spare = 64 - (p.log2_q - p.pad_dropped_bits)
    integers = np.rint(((phase << spare) >> spare) * 2.0**p.pad_dropped_bits / p.delta)
    assert (integers == clear.values).all()
    assert not (np.rint((view.values << p.dropped_bits) / p.delta) == clear.values).all()  # without the key they are not


@pytest.mark.parametrize("mask", ["session", "fresh"])
def test_residues_are_those_that_the_digits_of_a_message_stand_for(mask):
    backend, weight = load("packed", mask=mask), np.random.default_rng(0).integers(-128, 128, (40, 7))
    client = backend.client(backend.plan(weight, 8)).prepare(weight)
    question = client.encrypt(np.full((5, 40), 127))
    values, bits = message_from_bytes(question.to_bytes()).residues
    assert values.shape == (5, 40) and bits == client.parameters.upload_bits
    assert np.abs(values).max() >> (bits - 3) and np.abs(values).max() <= 2 ** (bits - 1)
    own, _ = question.residues
    assert (own == values).all()
    lowest = question.digits[0] if mask == "session" else question.bodies[0, 0, :, :16]
    assert ((values[:, : lowest.shape[1]] - lowest) % 256 == 0).all()


def test_fresh_masks_are_shown_too(tmp_path):
    view = View(make_spec("packed", questions=2, backend_options={"mask": "fresh"}), tmp_path)
    assert view.run["encrypted_matmuls"] == 8
    assert chisquare(view.tops).pvalue > RARE


def test_the_interval_of_a_correlation():
    # By hand: r = 0.5 of 28 pairs, z = 0.549 -+ 1.960 / 5.
    assert fisher(0.5, 28) == pytest.approx((0.156, 0.736), abs=1e-3)
    assert fisher(1.0, 100) == (1.0, 1.0)
    assert np.isnan(fisher(0.0, 3)).all()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"backend": "float", "activation_bits": None, "weight_bits": None}, "whose messages hold a number"),
        ({"backend": "glwe"}, "whose messages hold a number"),
        ({"data": "private_code"}, "private_code"),
        ({"activation_quantizer": "static_per_tensor"}, "needs a dynamic quantizer"),
        ({"model": "Llama-3.2-1B", "weights": "random"}, "reads no text"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_any_work(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        make_spec(fields.pop("backend", "integer"), **fields)


def test_a_text_that_is_too_short_is_one_sentence(tmp_path):
    options = {"people": 1, "products": 0, "rules": 0}
    with pytest.raises(UserError, match="ask for fewer, or for data that has more"):
        bench.worker_view(make_spec("integer", data_options=options, questions=100), tmp_path / "records.csv")


def test_a_model_whose_first_input_depends_on_more_than_the_token_is_one_sentence(tiny_gpt2_directory, tmp_path):
    with pytest.raises(UserError, match="depends on more than the token"):
        bench.worker_view(make_spec("integer", model=str(tiny_gpt2_directory)), tmp_path / "records.csv")
