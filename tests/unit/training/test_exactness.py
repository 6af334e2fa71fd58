"""How many values a run decrypts, and how likely any of them is wrong: planned, counted over a resume, refused, told."""

import json
import math

import numpy as np
import pytest

from private_lora.backends import load
from private_lora.core.errors import UserError
from private_lora.split.place import InProcess
from private_lora.training.exactness import check_planned_values, planned_tokens
from private_lora.training.loop import train
from private_lora.training.preparation import prepare
from private_lora.training.run import finetune

TINY = {"data": "random_tokens", "steps": 2, "batch_size": 1, "sequence_length": 12, "warmup_steps": 1}
TINY |= {"eval_examples": 2, "eval_every": 0, "checkpoint_every": 1}


class Counting(InProcess):
    """Counts by itself what each product gave, and how likely any value of it was wrong."""

    def __init__(self):
        self.values, self.failure = 0, 0.0

    def product(self, client, server, x):
        done = super().product(client, server, x)
        assert done.y.shape == (len(x), client.plan.outputs)
        self.values += len(x) * client.plan.outputs
        self.failure += len(x) * client.plan.outputs * 2 ** client.plan.parameters["failure_log2"]
        return done


@pytest.mark.parametrize("mask", ["session", "fresh"])
def test_values_and_their_bound_are_counted_over_a_resume(mask, make_spec, tmp_path):
    place = Counting()
    spec = make_spec(backend="packed", backend_options={"mask": mask}, **TINY)
    killed = prepare(spec, tmp_path, place)
    take = killed.batches.batch

    def batch(i):
        if i == 1:
            raise KeyboardInterrupt
        return take(i)

    killed.batches.batch = batch
    with pytest.raises(KeyboardInterrupt):
        train(killed)
    resumed = prepare(spec, tmp_path, place)
    train(resumed)
    counters = resumed.session.counters
    assert counters.decrypted_values == place.values > killed.session.counters.decrypted_values > 0
    assert counters.failure_probability == pytest.approx(place.failure, rel=1e-12)
    # No more than was planned, which counts the backward products of evaluations and of the first block, too.
    planned = planned_tokens(spec) * sum(p.plan.outputs for p in resumed.session.products)
    assert planned / 2 < place.values <= planned


@pytest.mark.parametrize("mask", ["session", "fresh"])
def test_each_digit_of_a_weight_is_a_value_and_approximate_values_are_none(mask):
    weight, x = np.random.default_rng(0).integers(-3000, 3000, (32, 8)), np.ones((4, 32), np.int64)
    for name, expected in (("packed", 4 * 8 * 2), ("packed_approx", 0)):
        backend = load(name, mask=mask)
        plan = backend.plan(weight, 8)
        client, server = backend.client(plan).prepare(weight), backend.server(plan, weight)
        client.decrypt(server.matmul(client.encrypt(x)))
        assert client.counters.decrypted_values == expected
        assert client.counters.failure_probability == expected * 2 ** plan.parameters["failure_log2"]


def test_a_sidecar_says_how_exact_a_run_was_and_the_log_warns(make_spec, tmp_path, monkeypatch, caplog):
    told = {}
    for name, backend, limit in (("in", "packed", -40), ("out", "packed", -70), ("clear", "integer", -40)):
        with monkeypatch.context() as patch:
            patch.setattr("private_lora.training.preparation.check_planned_values", lambda *_: None)
            patch.setattr("private_lora.training.exactness.RUN_FAILURE_LOG2", limit)
            caplog.clear()
            assert finetune(make_spec(backend=backend, **TINY), tmp_path / name / "records.csv", tmp_path / name)
        sidecar = json.loads((tmp_path / name / "sidecar.json").read_text())
        told[name] = sidecar["exactness"], sum("do not call them exact" in message for message in caplog.messages)
        counters = sidecar["counters"]
    assert told["clear"] == ({}, 0)
    (within, silent), (beyond, warned) = told["in"], told["out"]
    assert (silent, warned) == (0, 1)
    assert within["exact_within_failure_bound"] is True
    assert beyond == within | {"exact_within_failure_bound": False}
    assert counters["decrypted_values"] == 0
    assert -80 < within["run_failure_log2"] < -80 + math.log2(within["values_decrypted"])


def test_more_values_than_are_surely_exact_are_refused_before_training(make_spec, tmp_path):
    def spec(**fields):
        return make_spec(**{"backend": "packed"} | TINY | {"eval_examples": 0} | fields)

    many, session = spec(steps=10**9), prepare(spec(), tmp_path).session
    with pytest.raises(
        UserError, match=r"decrypt \S+ values in this run.* 2\^-3\d\.\d, more than 2\^-40.*failure_log2: -\d+"
    ) as error:
        check_planned_values(many, session)
    with pytest.raises(UserError) as again:
        prepare(many, tmp_path)
    assert str(again.value) == str(error.value)
    enough = int(str(error.value).split("failure_log2: ")[1].split(",")[0])
    values = planned_tokens(many) * sum(p.plan.outputs for p in session.products)
    assert values * 2.0**enough <= 2**-40 < values * 2.0 ** (enough + 1)
    # What is advised is enough, and nothing is asked of backends that are not exact or do not encrypt.
    for fields in ({"backend_options": {"failure_log2": enough}}, {"backend": "integer"}, {"backend": "packed_approx"}):
        assert prepare(spec(steps=10**9, **fields), tmp_path).session.products
