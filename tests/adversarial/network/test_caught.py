"""What a lie teaches, and that a caught worker gets no second one: by its certificate's key, over addresses and resumes."""

from __future__ import annotations

import itertools
import json
import stat
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from authority import Authority
from liars import (
    LAYER,
    OUTPUTS,
    address_of,
    asked_of,
    asker_of,
    lying,
    rows,
    truth,
    two_layers,
    weight_of,
    zeros,
)
from small_run import IN_SECOND_STEP, STEPS, command_of, losses_of, place_of, the_checkpoint, trained

from private_lora.backends.packed import exact as packed
from private_lora.core.errors import Interrupted, UserError
from private_lora.network.client.caught import Caught
from private_lora.network.client.connection import Connection, Unreachable
from private_lora.network.client.remote import Asking
from private_lora.network.wire.security import Address
from private_lora.network.worker import server as worker
from private_lora.network.worker.sessions import Limits

COLUMN = 3
DIRECTION = np.random.default_rng(3).integers(0, 2, OUTPUTS)


def selective(question, _):
    """x (W + e_3 v^T), as far as a worker can make it: where masks are fresh, right exactly where column 3 of x is zero."""
    values = weight_of(LAYER).values.astype(np.int64)
    values[COLUMN] -= np.sign(values[COLUMN]) * DIRECTION  # no entry grows: parameters stay those of the plan
    backend = packed.PackedBackend(mask="fresh" if hasattr(question, "mask_seed") else "session")
    return backend.server(backend.plan(weight_of(LAYER).values, 8), values).matmul(question)


def question_of(seed, zero):
    x = rows(seed)
    x[:, COLUMN] = 0
    if not zero:
        x[seed, COLUMN] = 1  # one value of one row
    return x


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """Files of two workers, each of its own key, and of a client, by one authority."""
    authority = Authority(tmp_path_factory.mktemp("authority"))
    return {name: authority.sign(name)[0] for name in ("liar", "honest", "client")} | {"authority": authority}


def test_a_selective_lie_shows_one_bit_of_the_plaintext_and_is_the_last(local_worker, tls, tmp_path):
    path = tmp_path / "checkpoints" / "caught-workers.jsonl"
    held = lying(two_layers("fresh"), selective), lying(two_layers("fresh"), truth)
    with local_worker(held[0], tls=tls["liar"]) as liar, local_worker(held[1], tls=tls["honest"]) as honest:
        with asker_of([liar, honest], tls=tls["client"], caught=Caught(path), mask="fresh") as asker:
            for seed in range(5):
                x = question_of(seed, zero=True)
                assert (asker.ask(x) == x @ asker.weight).all()
            assert asked_of(liar) == 5 and not asker.dropped  # accepted: column 3 was zero
            x = question_of(5, zero=False)
            assert (asker.ask(x) == x @ asker.weight).all()
            assert list(asker.dropped) == [str(address_of(liar))]  # rejected: it was not
            report = asker.place.report()
            assert report["bits_shown_to_liars"] == 1
            assert [lie["bits"] for lie in report["caught"]] == [1]
            assert report["caught"][0]["worker"].startswith("key sha256:")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        asked = asked_of(liar)
        # The run is resumed; the liar has also moved to another address.
        with local_worker(held[0], tls=tls["liar"]) as moved:
            with asker_of([moved, liar, honest], tls=tls["client"], caught=Caught(path), mask="fresh") as asker:
                for seed in range(3):
                    assert (asker.ask(rows(seed)) == rows(seed) @ asker.weight).all()
                assert set(asker.dropped) == {str(address_of(moved)), str(address_of(liar))}
                assert asker.place.report()["bits_shown_to_liars"] == 1
            assert asked_of(liar) == asked_of(moved) == asked  # both count the same servers
        alone = asker_of([liar], tls=tls["client"], caught=Caught(path), mask="fresh")
        with pytest.raises(UserError, match="caught lying"), alone:
            pass


def test_under_session_masks_such_a_lie_is_wrong_whatever_the_plaintext_is(local_worker):
    """The client takes the mask's product with the true weight away by itself, so what is left is noise."""
    with local_worker(lying(two_layers(), selective)) as liar, local_worker(two_layers()) as honest:
        for zero in (True, False):
            with asker_of([liar, honest]) as asker:
                x = question_of(0, zero)
                assert (asker.ask(x) == x @ asker.weight).all()
                assert list(asker.dropped) == [str(address_of(liar))]


def test_who_renews_a_certificate_is_known_by_the_key_and_who_changes_the_key_is_new(local_worker, tls, tmp_path):
    authority, path = tls["authority"], tmp_path / "caught.jsonl"
    files, key = authority.sign("before")
    options = {"tls": tls["client"], "caught": Caught(path)}
    lie = lying(two_layers(), zeros)
    with local_worker(lie, tls=files) as liar, asker_of([liar], **options) as asker, pytest.raises(Interrupted):
        asker.ask(rows(0))
    options["caught"], files = Caught(path), authority.sign("renewed", key)[0]
    with local_worker(lying(two_layers(), truth), tls=files) as renewed:
        with pytest.raises(UserError, match="caught lying"), asker_of([renewed], **options):
            pass
        assert asked_of(renewed) == 0
    options["caught"], files = Caught(path), authority.sign("other key")[0]
    with local_worker(lying(two_layers(), truth), tls=files) as other, asker_of([other], **options) as asker:
        assert (asker.ask(rows(0)) == rows(0) @ asker.weight).all()


def test_a_connection_reaches_nobody_but_whom_it_met(local_worker, tls):
    """Another worker of the same authority at the same address is met anew, and never asked in the name of the first."""
    with local_worker(two_layers(), tls=tls["honest"]) as first:
        connection = Connection(address_of(first), tls["client"])
        connection.open()
        met, port = connection.identity, first.port
    running = worker.start(two_layers(), Address("127.0.0.1", port), tls["liar"], Limits())
    try:
        with pytest.raises(Unreachable, match=r"CERTIFICATE_VERIFY_FAILED|UNAVAILABLE"):
            connection.multiply(LAYER, Connection.new_request_id(), b"-", 1, 5, 100)
        connection.meet()
        assert connection.identity != met
        with pytest.raises(Unreachable, match="another worker"):
            connection.multiply(LAYER, Connection.new_request_id(), b"-", 1, 5, 100, identity=met)
        connection.close()
    finally:
        running.stop(0)


def test_other_answers_of_a_caught_worker_are_not_opened(local_worker):
    """Several lies on their way at once show one bit together: after the first, what happens does not depend on the others."""
    lie, asking = lying(two_layers(), zeros), Asking(rows_per_question=8)
    with local_worker(lie) as liar, local_worker(two_layers()) as honest, asker_of([liar, honest], asking) as asker:
        decrypted, x = [], rows(0)
        decrypt = asker.client.decrypt
        asker.client.decrypt = lambda message: decrypted.append(message) or decrypt(message)
        assert (asker.ask(x) == x @ asker.weight).all()
        assert asked_of(liar) > 1
        assert len(decrypted) == len(x) // 8 + 1
        assert asker.place.report()["bits_shown_to_liars"] == 1


def test_what_is_no_answer_shows_nothing(local_worker):
    lie = lying(two_layers(), lambda _, answer: replace(answer, question_id=bytes(16)))
    with local_worker(lie) as liar, local_worker(two_layers()) as honest, asker_of([liar, honest]) as asker:
        assert (asker.ask(rows(0)) == rows(0) @ asker.weight).all()
        assert [lie["bits"] for lie in asker.place.report()["caught"]] == [0]
        assert asker.place.report()["bits_shown_to_liars"] == 0


def lies_from(number):
    count = itertools.count(1)
    return lambda question, answer: zeros(question, answer) if next(count) >= number else answer


@pytest.mark.slow
def test_the_resumed_command_does_not_ask_the_liar_again(small_spec, whole, small_held, local_worker, tmp_path):
    out, checkpoints = tmp_path / "run" / "records.csv", tmp_path / "checkpoints"
    with local_worker(lying(small_held, lies_from(IN_SECOND_STEP))) as liar, local_worker(small_held) as honest:
        command = command_of(small_spec, out, checkpoints, address_of(liar))
        first = subprocess.run(command, capture_output=True, text=True, check=False)
        assert first.returncode == 2, first.stderr
        assert "no worker is left" in first.stderr
        assert the_checkpoint(checkpoints)["step"] == 1
        command[command.index("--workers") + 1] = f"{address_of(liar)},{address_of(honest)}"
        subprocess.run(command, capture_output=True, check=True)
        assert asked_of(liar) == IN_SECOND_STEP
    assert losses_of(out) == (whole.losses, whole.held_out)
    place = json.loads((out.parent / "sidecar.json").read_text())["place"]
    assert place["bits_shown_to_liars"] == 1
    assert str(address_of(liar)) in place["dropped"]


def test_a_run_that_stops_at_a_lie_has_its_last_step_and_goes_on(make_spec, whole, small_held, local_worker, tmp_path):
    spec = make_spec(backend="packed", steps=STEPS, eval_every=2, checkpoint_every=100)
    with local_worker(lying(small_held, lies_from(IN_SECOND_STEP))) as liar, local_worker(small_held) as honest:
        both = [address_of(liar), address_of(honest)]
        with place_of(both, caught=Caught(tmp_path / "caught.jsonl"), stop_on_lie=True) as place:
            with pytest.raises(Interrupted, match="--on-lie stop") as stopped:
                trained(spec, tmp_path, place)
            assert "\n" not in str(stopped.value)
        assert the_checkpoint(tmp_path)["step"] == 1
        with place_of(both, caught=Caught(tmp_path / "caught.jsonl"), stop_on_lie=True) as place:
            result = trained(spec, tmp_path, place)[1]
        assert asked_of(liar) == IN_SECOND_STEP
    assert (result.losses, result.held_out) == (whole.losses, whole.held_out)


def test_a_lie_that_cannot_be_remembered_stops_the_run(local_worker, tmp_path):
    (tmp_path / "file").write_text("")
    with local_worker(lying(two_layers(), zeros)) as liar, local_worker(lying(two_layers(), truth)) as honest:
        caught = Caught()
        caught.path = tmp_path / "file" / "caught.jsonl"
        with asker_of([liar, honest], caught=caught) as asker:
            with pytest.raises(Interrupted, match="cannot be written to remember it"):
                asker.ask(rows(0))
            assert asked_of(honest) == 0


def test_a_line_that_cannot_be_read_is_not_passed_over(tmp_path):
    path = tmp_path / "caught.jsonl"
    path.write_text('\n{"worker": "key sha256:12')
    with pytest.raises(UserError, match="mend or remove that line"):
        Caught(path)
