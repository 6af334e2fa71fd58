"""Addresses and TLS: who may talk to whom. Without certificates only on loopback, and only if asked for by name."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

import grpc

from private_lora.core.errors import UserError
from private_lora.network.wire.certificates import (
    FOR_CLIENTS,
    FOR_WORKERS,
    Revoked,
    check_authorities,
    check_own,
    read_pem,
    warn_of_expiry,
)


@dataclass(frozen=True)
class Address:
    """Host and port; an IPv6 host is written in brackets."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """`host:port`; raises UserError otherwise."""
        host, colon, port = text.strip().rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isdecimal() or int(port) > 65535:
            raise UserError(f"address {text!r} is not of the form host:port, such as 127.0.0.1:7001")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether nobody on another machine can be at the other end."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True)
class Tls:
    """Files of one side, PEM. authority: of all that may sign the other side's certificates. revoked: the other side's."""

    certificate: Path
    key: Path
    authority: Path
    revoked: Revoked | None = None

    def read(self, usage=None) -> tuple[bytes, bytes, bytes]:
        """Authority, key and certificate; raises UserError, naming the file, when one cannot be read or used.

        usage: the side, FOR_WORKERS or FOR_CLIENTS, that the certificate must be for; None: any.
        """
        check_own(self.certificate, self.key, usage)
        check_authorities(self.authority)
        return tuple(read_pem(path) for path in (self.authority, self.key, self.certificate))

    def is_revoked(self, certificate: bytes) -> bool:
        """Whether a certificate (PEM) of the other side is trusted no more."""
        return self.revoked is not None and self.revoked.has(certificate)


def tls_or_plaintext(certificate, key, authority, plaintext: bool, authority_flag: str, revoked=None) -> Tls | None:
    """TLS from files, which are checked and whose expiry is warned of, or None for plain text.

    Raises UserError when neither or both, or a part of it, is asked for, or a file cannot be used.
    """
    given = [value for value in (certificate, key, authority, revoked) if value]
    if plaintext and given:
        raise UserError("--plaintext and certificates exclude each other: leave one out")
    if plaintext:
        return None
    if not (certificate and key and authority):
        raise UserError(f"give --tls-cert, --tls-key and {authority_flag}, or --plaintext on a loopback address")
    tls = Tls(Path(certificate), Path(key), Path(authority), Revoked(Path(revoked)) if revoked else None)
    tls.read(FOR_WORKERS if authority_flag == "--client-ca" else FOR_CLIENTS)
    warn_of_expiry(tls.certificate, tls.authority)
    return tls


def check_plaintext(address: Address, tls: Tls | None) -> None:
    """Nothing; raises UserError for plain text on an address that other machines may reach."""
    if tls is None and not address.is_loopback:
        raise UserError(f"{address} is not a loopback address: plain text is refused there, give certificates")


def server_credentials(tls: Tls | None) -> grpc.ServerCredentials | None:
    """Of a worker: clients must show a certificate of its authority."""
    if tls is None:
        return None
    authority, key, certificate = tls.read(FOR_WORKERS)
    return grpc.ssl_server_credentials([(key, certificate)], root_certificates=authority, require_client_auth=True)


def client_channel(address: Address, tls: Tls | None, options: list[tuple], only: bytes | None = None) -> grpc.Channel:
    """A channel to a worker, which must show a certificate of our authority for its host. only: this one (PEM)."""
    check_plaintext(address, tls)
    if tls is None:
        return grpc.insecure_channel(str(address), options)
    authority, key, certificate = tls.read(FOR_CLIENTS)
    return grpc.secure_channel(str(address), grpc.ssl_channel_credentials(only or authority, key, certificate), options)
