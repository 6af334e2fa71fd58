"""A session, and the public material in it, serve the client alone that opened it."""

from __future__ import annotations

import datetime

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from raw_client import Honest, RawClient, address_of, held_and_honest, settled

from private_lora.backends import load
from private_lora.network.tools.certificates import make_certificates
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.security import Tls
from private_lora.network.worker.held import Held, HeldProduct, hold
from private_lora.network.worker.limits import Limits, Refusal
from private_lora.network.worker.sessions import Sessions
from private_lora.specs.worker import WorkerSpec

PRODUCT = "model.layers.0.self_attn.o_proj forward"
Code = grpc.StatusCode


class Authority:
    """Of clients, and one that can sign more than one certificate."""

    def __init__(self, directory):
        self._key, self._directory = ec.generate_private_key(ec.SECP256R1()), directory
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
        certificate = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, 0), True)
        self.file = self._write("authority.pem", certificate.sign(self._key, SHA256()).public_bytes(Encoding.PEM))

    def _builder(self, name, key):
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
        )

    def _write(self, name, contents):
        path = self._directory / name
        path.write_bytes(contents)
        return path

    def client(self, name, workers_authority) -> Tls:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._builder(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), key)
        signed = certificate.sign(self._key, SHA256()).public_bytes(Encoding.PEM)
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Tls(self._write(f"{name}.pem", signed), self._write(f"{name}-key.pem", secret), workers_authority)


def test_a_session_belongs_to_the_certificate_that_opened_it(local_worker, tmp_path):
    held, one = held_and_honest(PRODUCT)
    make_certificates(tmp_path / "made", [])
    authority = Authority(tmp_path)
    tls = Tls(tmp_path / "made" / "worker.pem", tmp_path / "made" / "worker-key.pem", authority.file)
    alice, eve = (authority.client(name, tmp_path / "made" / "worker-ca.pem") for name in ("alice", "eve"))
    _, data = one.question()
    with (
        local_worker(held, tls=tls) as worker,
        RawClient(address_of(worker), alice) as first,
        RawClient(address_of(worker), eve) as second,
    ):
        assert first.open() is None
        second.session_id = first.session_id
        assert second.multiply(second.question(data, PRODUCT))[0] == Code.PERMISSION_DENIED
        assert second.accept(b"material")[0] == Code.PERMISSION_DENIED
        with pytest.raises(grpc.RpcError) as caught:
            second.stub.Close(messages.Goodbye(session_id=first.session_id), timeout=5)
        assert caught.value.code() == Code.PERMISSION_DENIED
        assert isinstance(first.multiply(first.question(data, PRODUCT)), bytes)
        assert one.is_served(address_of(worker), eve)
        assert settled(worker.service)


@pytest.fixture(scope="module")
def glwe(local_worker):
    """A worker with one small product under `glwe`, and what checks its answers."""
    weight = np.random.default_rng(0).integers(-8, 8, (20, 3))
    held, truth = (small_held(name, weight) for name in ("glwe", "integer"))
    with local_worker(held) as worker:
        yield worker, Honest(held, truth, PRODUCT)


def small_held(name, weight):
    backend = load(name)
    plan = backend.plan(weight, 7)
    settings = hold(WorkerSpec(model="nano", backend="integer", layers="0", activation_bits=8, weight_bits=8)).settings
    return Held(settings, backend, {PRODUCT: HeldProduct(PRODUCT, b"", "{}", backend.server(plan, weight))})


def test_glwe_questions_need_the_public_material_of_their_own_session(glwe):
    worker, one = glwe
    x, data = one.question(rows=1)
    material = one.client.public_material().to_bytes()
    with RawClient(address_of(worker)) as first, RawClient(address_of(worker)) as second:
        assert first.open() is None
        assert second.open() is None
        code, text = first.multiply(first.question(data, PRODUCT, rows=1))
        assert code == Code.INVALID_ARGUMENT
        assert "public material" in text
        for damaged in (material[:-1], material[:100], material[:50] + b"x" + material[51:], b"x"):
            assert first.accept(damaged)[0] == Code.INVALID_ARGUMENT
        assert first.accept(material) is None
        assert one.is_right(x, first.multiply(first.question(data, PRODUCT, rows=1)))
        code, text = second.multiply(second.question(data, PRODUCT, rows=1))
        assert code == Code.INVALID_ARGUMENT
        assert "public material" in text
        first.stub.Close(messages.Goodbye(session_id=first.session_id), timeout=5)
        assert not worker.service.held.products[PRODUCT].server._public
    assert one.is_served(address_of(worker))
    assert settled(worker.service)


def test_a_session_whose_request_is_being_served_is_not_idle():
    sessions = Sessions(Limits(clients=1, idle_s=0.0), release=lambda material: None)
    first = sessions.open("a client")
    with sessions.find(first, "a client").serving(), pytest.raises(Refusal, match="1 of 1 are taken"):
        sessions.open("another")
    assert sessions.open("another")
    with pytest.raises(Refusal, match="does not know the session"):
        sessions.find(first, "a client")
