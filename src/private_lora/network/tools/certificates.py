"""Certificates for trying out mutual TLS: of workers and data owners, each by an authority that is forgotten once it signed."""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from private_lora.core.errors import UserError

LONGEST_DAYS = 3650
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
# Nobody connects to a data owner, but verifiers ask for an alternative name in every certificate.
CLIENT_NAME = "private-lora-client"
MOST_OF_A_SIDE = 1000
# Clocks of two machines differ; a certificate made this moment must hold on both.
_CLOCK_SKEW = datetime.timedelta(minutes=10)
_FILE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,50}", re.IGNORECASE | re.ASCII)
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*", re.IGNORECASE | re.ASCII)


def numbered(side: str, count: int) -> dict[str, list[str]]:
    """Names of so many certificates, without hosts of their own: `side` alone, or side-1, side-2, ..."""
    if not 1 <= count <= MOST_OF_A_SIDE:
        raise UserError(f"{count} is no number of {side}s: give one from 1 to {MOST_OF_A_SIDE}")
    return {side if count == 1 else f"{side}-{i}": [] for i in range(1, count + 1)}


def named(texts: list[str]) -> dict[str, list[str]]:
    """Hosts by worker's name, from texts such as `big=worker.example.org,10.1.2.3`; raises UserError on names that are none."""
    found = {}
    for text in texts:
        name, equals, hosts = text.partition("=")
        if not _FILE_NAME.fullmatch(name) or name in found or name.lower().startswith("client") or name.lower() == "worker-ca":
            raise UserError(
                f"{name!r} cannot name a worker's files: give letters, digits and hyphens, no client's name, each name once"
            )
        found[name] = hosts.split(",") if equals else []
    for name in found:
        if f"{name}-key" in found:
            raise UserError(f"{name}-key cannot be a worker's name beside {name}: that is the name of its key")
    return found


def make_certificates(
    directory: Path,
    hosts: list[str],
    days: int = 365,
    workers: dict[str, list[str]] | None = None,
    clients: list[str] | None = None,
) -> None:
    """Write PEM files into `directory`, all or none: a certificate and a key for each worker and client, two authorities.

    worker-ca.pem, client-ca.pem: authorities of either side. worker.pem, worker-key.pem: for workers on this machine and on
    `hosts` (names or IP addresses). client.pem, client-key.pem: for data owners. workers: instead of one, their names, each
    with hosts of its own besides; clients: their names. Keys are P-256, not encrypted; all files are the owner's alone.
    The authorities' own keys are never written, so nobody can sign more: for other hosts, make a new set.

    Raises UserError when a file is there already or cannot be written, a host is no name or address, or days are out of range.
    """
    if not 1 <= days <= LONGEST_DAYS:
        raise UserError(f"certificates cannot hold for {days} days: give a number of days from 1 to {LONGEST_DAYS}")
    own = {name: [*LOCAL_HOSTS, *hosts, *more] for name, more in (workers or {"worker": []}).items()}
    files = _signed("worker", own, ExtendedKeyUsageOID.SERVER_AUTH, days)
    own = {name: [CLIENT_NAME] for name in clients or ["client"]}
    files |= _signed("client", own, ExtendedKeyUsageOID.CLIENT_AUTH, days)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_all(directory, files)
    except FileExistsError as error:
        raise UserError(f"{error.filename} is there and is not overwritten: remove it or name another directory") from None
    except OSError as error:
        raise UserError(f"cannot write certificates to {directory} ({error.strerror}): name another directory") from None


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        if not _HOST_NAME.fullmatch(host):
            raise UserError(f"{host!r} is no host name or IP address: give one without port or wildcard") from None
        return x509.DNSName(host.lower())


def _signed(side: str, hosts: dict[str, list[str]], usage: x509.ObjectIdentifier, days: int) -> dict[str, bytes]:
    """Contents by file name: a fresh authority's certificate and, by name, keys with the certificates that it signed."""
    authority_key, authority_name = ec.generate_private_key(ec.SECP256R1()), _name(f"private-lora {side} authority")
    authority = (
        _certificate(authority_name, authority_name, authority_key.public_key(), authority_key.public_key(), days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(authority_key, SHA256())
    )
    files = {f"{side}-ca.pem": authority.public_bytes(Encoding.PEM)}
    for name, own in hosts.items():
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(list(dict.fromkeys(map(_general_name, own))))
        certificate = (
            _certificate(_name(f"private-lora {name}"), authority_name, key.public_key(), authority_key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(names, critical=False)
            .sign(authority_key, SHA256())
        )
        files[f"{name}.pem"] = certificate.public_bytes(Encoding.PEM)
        files[f"{name}-key.pem"] = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return files


def _certificate(subject: x509.Name, issuer: x509.Name, key, issuer_key, days: int) -> x509.CertificateBuilder:
    """A builder with all that authorities and their certificates have in common."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _key_usage(**allowed: bool) -> x509.KeyUsage:
    names = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign "
        "encipher_only decipher_only"
    ).split()
    return x509.KeyUsage(**dict.fromkeys(names, False) | allowed)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _write_all(directory: Path, files: dict[str, bytes]) -> None:
    """Create every file, or leave none behind. Never opens one that exists; all are their owner's alone from the start."""
    made = []
    try:
        for name, contents in files.items():
            path = directory / name
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            made.append(path)
            with os.fdopen(handle, "wb") as file:
                file.write(contents)
    except BaseException:
        for path in made:
            path.unlink()
        raise
