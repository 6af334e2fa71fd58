"""PEM files of one side: read and checked before work starts, warned of before they expire, refused once revoked."""

from __future__ import annotations

import datetime
import hashlib
import logging
import os
import ssl
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from private_lora.core.errors import UserError

log = logging.getLogger(__name__)
FOR_WORKERS, FOR_CLIENTS = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
_SIDES = {FOR_WORKERS: "workers", FOR_CLIENTS: "clients"}
LARGEST_FILE = 2**20
WARNED_BEFORE = datetime.timedelta(days=30)
# Parts of a certificate that are decoded only when asked for.
_LOOKED_AT = ("extensions", "not_valid_before_utc", "not_valid_after_utc")
_HEX = frozenset("0123456789abcdef")


def read_pem(path: Path) -> bytes:
    """Contents of a file; raises UserError, naming it, when it cannot be read or is too large to be certificates."""
    try:
        with open(path, "rb") as file:
            contents = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; `private-lora certs` makes a set to try") from None
    if len(contents) > LARGEST_FILE:
        raise UserError(f"{path} has more than {LARGEST_FILE} bytes: it is no PEM file of certificates or a key")
    return contents


def check_own(certificate: Path, key: Path, usage: x509.ObjectIdentifier | None) -> None:
    """Nothing; raises UserError when a certificate cannot be used: not readable, expired, for the other side, not the key's."""
    own, private = _certificates(certificate)[0], _key(key)
    now = datetime.datetime.now(datetime.UTC)
    if own.not_valid_after_utc < now:
        raise UserError(f"{certificate} expired on {own.not_valid_after_utc:%Y-%m-%d}: make new certificates")
    if own.not_valid_before_utc > now:
        raise UserError(
            f"{certificate} is valid from {own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on: check this machine's clock, or wait"
        )
    if usage is not None and not _serves(own, usage):
        raise UserError(f"{certificate} is not for {_SIDES[usage]}: give a certificate that was made for {_SIDES[usage]}")
    if own.public_key() != private.public_key():
        raise UserError(f"the certificate {certificate} and the key {key} do not fit each other: give the two of one pair")


def check_authorities(path: Path) -> None:
    """Nothing; raises UserError when a file has no certificate of an authority, or only expired ones."""
    last = max(authority.not_valid_after_utc for authority in _certificates(path))
    if last < datetime.datetime.now(datetime.UTC):
        raise UserError(f"{path} expired on {last:%Y-%m-%d}: make new certificates, or get the other side's new authority")


def warn_of_expiry(*paths: Path) -> None:
    """Log each certificate, of files that were checked, that expires soon; and authorities of a bundle that have."""
    now = datetime.datetime.now(datetime.UTC)
    for path in paths:
        for certificate in _certificates(path):
            end = certificate.not_valid_after_utc
            if end < now + WARNED_BEFORE:
                log.warning(
                    "%s: the certificate of %s %s on %s: put new ones in place as docs/workers.md says (Rotation)",
                    path,
                    certificate.subject.rfc4514_string(),
                    "expires" if end > now else "expired",
                    f"{end:%Y-%m-%d}",
                )


class Revoked:
    """Certificates that are trusted no more: a file of SHA-256 fingerprints, one a line, read again when it changed.

    A line is 64 hexadecimal digits, with or without colons, or what `openssl x509 -noout -fingerprint -sha256` prints; text
    behind `#` is left out. Raises UserError when the file cannot be read at the start. Later, the last good list stays.
    """

    def __init__(self, path: Path):
        self._path, self._lock = path, threading.Lock()
        self._stamp = self._stamp_now()
        self._fingerprints = self._read()

    def has(self, certificate: bytes) -> bool:
        """Whether a certificate (PEM) was revoked."""
        with self._lock:
            self._follow()
            return bool(self._fingerprints) and fingerprint(certificate) in self._fingerprints

    def _follow(self) -> None:
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._fingerprints = self._read()
            log.info("%s: %d certificates are revoked", self._path, len(self._fingerprints))
        except UserError as error:
            log.error("%s; until then the %d that were revoked before stay so", error, len(self._fingerprints))

    def _stamp_now(self) -> tuple | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _read(self) -> frozenset[str]:
        lines = read_pem(self._path).decode("ascii", "replace").splitlines()
        found = set()
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            digits = text.rpartition("=")[2].replace(":", "").lower()
            if len(digits) != 64 or not _HEX.issuperset(digits):
                raise UserError(f"line {number} of {self._path} is no SHA-256 fingerprint of a certificate: correct it")
            found.add(digits)
        return frozenset(found)


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate (PEM), hexadecimal."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.decode("ascii").strip())).hexdigest()


def _certificates(path: Path) -> list[x509.Certificate]:
    """At least one, each readable in all that is looked at here."""
    contents = read_pem(path)
    try:
        found = x509.load_pem_x509_certificates(contents)
        for certificate in found:
            for part in _LOOKED_AT:
                getattr(certificate, part)
            certificate.public_key()
            certificate.subject.rfc4514_string()
    except Exception:  # the parser has many ways to say that bytes are none
        raise UserError(f"{path} is no readable PEM file of certificates: copy or make it anew") from None
    return found


def _key(path: Path):
    contents = read_pem(path)
    try:
        return load_pem_private_key(contents, password=None)
    except TypeError:
        raise UserError(f"the key {path} is encrypted with a password: give one that is not, readable by you alone") from None
    except Exception:
        raise UserError(f"{path} is no readable PEM file of a private key: copy or make it anew") from None


def _serves(certificate: x509.Certificate, usage: x509.ObjectIdentifier) -> bool:
    """Whether it may be used so; one that names no usage may be used for all."""
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return usage in usages or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages
