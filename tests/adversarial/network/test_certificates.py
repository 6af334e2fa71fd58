"""Certificates at a real worker: revoked, foreign and expired ones are refused, and authorities change without a stop."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
from liars import asked_of, asker_of, lying, rows, truth, two_layers
from raw_client import RawClient, address_of, held_and_honest, settled

from private_lora.cli.main import main
from private_lora.core.errors import UserError
from private_lora.network.client.connection import Connection, NeverAsked
from private_lora.network.tools.certificates import make_certificates
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.certificates import Revoked, fingerprint
from private_lora.network.wire.security import Tls

PRODUCT = "model.layers.0.self_attn.o_proj forward"
Code = grpc.StatusCode


@pytest.fixture(scope="module")
def honest():
    return held_and_honest(PRODUCT)


def made(directory):
    make_certificates(directory, [], workers={"worker-1": [], "worker-2": []}, clients=["client-1", "client-2"])
    return directory


def pair(directory, name, authority, revoked=None):
    return Tls(directory / f"{name}.pem", directory / f"{name}-key.pem", authority, revoked)


def test_a_revoked_client_is_refused_at_once_and_its_sessions_end(honest, local_worker, tmp_path):
    held, one = honest
    directory, listed = made(tmp_path / "set"), tmp_path / "revoked"
    listed.write_text("# nobody yet\n")
    tls = pair(directory, "worker-1", directory / "client-ca.pem", Revoked(listed))
    lost, other = (pair(directory, f"client-{i}", directory / "worker-ca.pem") for i in (1, 2))
    _, data = one.question()
    with (
        local_worker(held, tls=tls) as worker,
        RawClient(address_of(worker), lost) as client,
        RawClient(address_of(worker), other) as trusted,
    ):
        assert client.open() is None and trusted.open() is None
        assert isinstance(client.multiply(client.question(data, PRODUCT)), bytes)
        sessions = len(worker.service.sessions)
        listed.write_text(f"{fingerprint(lost.certificate.read_bytes())}  # lost\n")
        code, text = client.multiply(client.question(data, PRODUCT))
        assert code == Code.PERMISSION_DENIED and "revoked" in text
        assert len(worker.service.sessions) == sessions - 1
        assert client.open()[0] == client.accept(b"material")[0] == Code.PERMISSION_DENIED
        with pytest.raises(grpc.RpcError) as caught:
            client.stub.Close(messages.Goodbye(session_id=client.session_id), timeout=5)
        assert caught.value.code() == Code.PERMISSION_DENIED
        assert isinstance(trusted.multiply(trusted.question(data, PRODUCT)), bytes)
        with RawClient(address_of(worker), lost) as again:
            assert again.open()[0] == Code.PERMISSION_DENIED
        assert one.is_served(address_of(worker), other)
        assert settled(worker.service)


def list_of(*files):
    return "".join(f"{fingerprint(tls.certificate.read_bytes())}\n" for tls in files)


def test_a_revoked_worker_is_never_asked_though_the_run_has_begun(local_worker, tmp_path):
    directory, listed = made(tmp_path / "set"), tmp_path / "revoked"
    listed.write_text("")
    files = [pair(directory, f"worker-{i}", directory / "client-ca.pem") for i in (1, 2)]
    client = pair(directory, "client-1", directory / "worker-ca.pem", Revoked(listed))
    served = [lying(two_layers(), truth) for _ in files]
    x = rows(0)
    with local_worker(served[0], tls=files[0]) as lost, local_worker(served[1], tls=files[1]) as other:
        with asker_of([lost, other], tls=client) as asker:
            assert np.array_equal(asker.ask(x), x @ asker.weight)
            assert (asked_of(lost), asked_of(other)) == (1, 0)
            listed.write_text(list_of(files[0]))
            assert np.array_equal(asker.ask(x), x @ asker.weight)
            assert (asked_of(lost), asked_of(other)) == (1, 1)
            assert list(asker.dropped) == [str(address_of(lost))]
        sessions = len(lost.service.sessions)
        with asker_of([lost, other], tls=client) as asker:  # another run does not even shake hands
            assert np.array_equal(asker.ask(x), x @ asker.weight)
        with pytest.raises(UserError, match="revoked"), asker_of([lost], tls=client):
            pass
        assert (asked_of(lost), len(lost.service.sessions)) == (1, sessions)
        with pytest.raises(NeverAsked, match="its certificate was revoked"):
            Connection(address_of(lost), client).open()


@pytest.mark.parametrize("command", ["finetune", "generate"])
def test_the_list_of_revoked_workers_is_read_before_work_starts(command, tmp_path, capsys):
    directory, listed = made(tmp_path / "set"), tmp_path / "revoked"
    listed.write_text("no fingerprint\n")
    tls = pair(directory, "client-1", directory / "worker-ca.pem")
    flags = ["--tls-cert", tls.certificate, "--tls-key", tls.key, "--worker-ca", tls.authority, "--revoked", listed]
    given = ["--data", "math_problems", "--out", tmp_path / "out"] if command == "finetune" else ["--prompt", "a"]
    hold = ["--model", "mini-llama", "--backend", "packed", "--activation-bits", "8", "--weight-bits", "8"]
    assert main([command, *map(str, (*hold, *given, "--workers", "127.0.0.1:1", *flags))]) == 2
    assert "line 1 of" in capsys.readouterr().err


def test_sides_change_their_certificates_one_by_one_and_no_client_is_refused(honest, local_worker, tmp_path):
    """Rotation: at every step, each worker serves each client that its documentation says it does."""
    held, one = honest
    old, new = made(tmp_path / "old"), made(tmp_path / "new")
    both = {}
    for name in ("worker-ca.pem", "client-ca.pem"):
        both[name] = tmp_path / name
        both[name].write_bytes((old / name).read_bytes() + (new / name).read_bytes())

    def worker_of(directory, authority):
        return local_worker(held, tls=pair(directory, "worker-1", authority))

    def client_of(directory, authority):
        return pair(directory, "client-1", authority)

    trusting = [client_of(directory, both["worker-ca.pem"]) for directory in (old, new)]
    with worker_of(old, old / "client-ca.pem") as before, worker_of(old, both["client-ca.pem"]) as trusts_both:
        assert one.is_served(address_of(before), trusting[0])
        assert not one.is_served(address_of(before), trusting[1])  # why authorities are to be spread first
        assert one.is_served(address_of(trusts_both), client_of(old, old / "worker-ca.pem"))
        assert all(one.is_served(address_of(trusts_both), client) for client in trusting)
    with worker_of(new, both["client-ca.pem"]) as changed, worker_of(new, new / "client-ca.pem") as after:
        assert all(one.is_served(address_of(changed), client) for client in trusting)
        assert not one.is_served(address_of(changed), client_of(old, old / "worker-ca.pem"))
        assert one.is_served(address_of(after), trusting[1])
        assert not one.is_served(address_of(after), trusting[0])  # the old set is trusted no more
