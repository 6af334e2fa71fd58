"""Who is at the other end of a connection: the key of a worker's certificate, and a channel that reaches nobody else."""

from __future__ import annotations

import hashlib
import socket
import ssl
from dataclasses import dataclass

import grpc

from private_lora.network.wire.protocol_pb2_grpc import WorkerStub
from private_lora.network.wire.security import Address, Tls, client_channel

MEETING_S = 10.0


class PeerFailure(Exception):
    """Nobody could be met."""


class UntrustedPeer(PeerFailure):
    """Whoever is there has no certificate of our authority for this host."""


class RevokedPeer(PeerFailure):
    """Whoever is there has a certificate that was revoked."""


@dataclass(frozen=True)
class Peer:
    """A worker that was met. identity: `key sha256:...` of its certificate's public key; without TLS, its address.

    certificate: PEM, None without TLS. A certificate renewed under the same key is the same worker; one under another key is a
    new one, for which the authority vouches.
    """

    identity: str
    certificate: bytes | None
    channel: grpc.Channel
    stub: WorkerStub


def meet(address: Address, tls: Tls | None, options: list[tuple], known: Peer | None) -> Peer:
    """Who is there, `known` if it is as before; raises PeerFailure.

    gRPC does not tell a client whose certificate it saw. So it is seen in a TLS handshake of its own, verified by authority and
    host, and is then the only one that the channel trusts: who holds another one, even of the same authority, is not reached.
    """
    certificate = _certificate_of(address, tls) if tls is not None else None
    check_not_revoked(tls, certificate)
    if known is not None and known.certificate == certificate:
        return known
    identity = str(address) if certificate is None else _key_of(certificate)
    channel = client_channel(address, tls, options, certificate)
    return Peer(identity, certificate, channel, WorkerStub(channel))


def check_not_revoked(tls: Tls | None, certificate: bytes | None) -> None:
    """Nothing; raises RevokedPeer when a worker's certificate (PEM) is one of those that are trusted no more by now."""
    if tls is not None and certificate is not None and tls.is_revoked(certificate):
        raise RevokedPeer("its certificate was revoked, so it is never asked: leave it out, or give it a new one")


def _certificate_of(address: Address, tls: Tls) -> bytes:
    """The certificate (PEM) that a worker shows."""
    try:
        context = ssl.create_default_context(cadata=tls.read()[0].decode())
        context.load_cert_chain(tls.certificate, tls.key)
        context.set_alpn_protocols(["h2"])
        with (
            socket.create_connection((address.host, address.port), MEETING_S) as connection,
            context.wrap_socket(connection, server_hostname=address.host) as secured,
        ):
            return ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True)).encode()
    except ssl.SSLCertVerificationError as error:
        raise UntrustedPeer(f"CERTIFICATE_VERIFY_FAILED: {error.verify_message}") from None
    except (OSError, ValueError) as error:
        raise PeerFailure(f"UNAVAILABLE: {error}") from None


def _key_of(certificate: bytes) -> str:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        key = x509.load_pem_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UntrustedPeer(f"its certificate cannot be read: {error}") from None
    return f"key sha256:{hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()}"
