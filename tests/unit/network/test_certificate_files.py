"""Certificates that cannot be used, or are trusted no more: a sentence before work starts, whatever the bytes of a file are."""

import datetime
import logging
import random
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from private_lora.core.errors import UserError
from private_lora.network.tools.certificates import make_certificates
from private_lora.network.wire.certificates import LARGEST_FILE, Revoked, fingerprint
from private_lora.network.wire.security import Tls, tls_or_plaintext

MUTATIONS = 3000
FILES = ("certificate", "key", "authority")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates")
    make_certificates(directory, [])
    return directory


def side(directory, name="worker", other="client"):
    return Tls(directory / f"{name}.pem", directory / f"{name}-key.pem", directory / f"{other}-ca.pem")


def checked(tls):
    """As the command `worker` does."""
    return tls_or_plaintext(tls.certificate, tls.key, tls.authority, False, "--client-ca")


def self_signed(directory, begins, ends, usages=(), encryption=None):
    """A worker's files whose certificate is valid from one number of days to another, from now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "someone")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now + datetime.timedelta(begins)).not_valid_after(now + datetime.timedelta(ends))
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), False)
    (directory / "worker.pem").write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    form = PrivateFormat.PKCS8, encryption or NoEncryption()
    (directory / "worker-key.pem").write_bytes(key.private_bytes(Encoding.PEM, *form))
    (directory / "client-ca.pem").write_bytes((directory / "worker.pem").read_bytes())
    return side(directory)


@pytest.mark.parametrize(
    ("begins", "ends", "message"), [(-9, -1, r"worker\.pem expired on 20\d\d-"), (1, 9, "is valid from 20.*clock")]
)
def test_a_certificate_outside_its_time_is_refused(begins, ends, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        checked(self_signed(tmp_path, begins, ends))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("days", "warnings"), [(29, 2), (31, 0)])
def test_what_expires_within_a_month_is_warned_of_with_its_date(days, warnings, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        checked(self_signed(tmp_path, -1, days))
    date = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days)
    assert len(caplog.messages) == warnings
    assert all(f"expires on {date:%Y-%m-%d}: put new ones" in message for message in caplog.messages)


def test_an_authority_that_expired_is_refused_alone_and_warned_of_beside_another(made, tmp_path, caplog):
    self_signed(tmp_path, -9, -1)
    old, both = tmp_path / "client-ca.pem", tmp_path / "both.pem"
    with pytest.raises(UserError, match=r"client-ca\.pem expired on"):
        checked(Tls(made / "worker.pem", made / "worker-key.pem", old))
    both.write_bytes(old.read_bytes() + (made / "client-ca.pem").read_bytes())
    checked(Tls(made / "worker.pem", made / "worker-key.pem", both))
    assert len(caplog.messages) == 1 and "CN=someone expired on" in caplog.messages[0]


def test_a_certificate_of_the_other_side_is_refused(made, tmp_path):
    with pytest.raises(UserError, match=r"client\.pem is not for workers: give"):
        checked(side(made, "client", "worker"))
    assert checked(self_signed(tmp_path, -1, 99))  # says nothing of its use
    assert checked(self_signed(tmp_path, -1, 99, [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]))


def test_a_key_of_another_certificate_is_refused(made):
    with pytest.raises(UserError, match=r"worker\.pem and the key .*client-key\.pem do not fit each other"):
        checked(Tls(made / "worker.pem", made / "client-key.pem", made / "client-ca.pem"))


def test_an_encrypted_key_is_refused(tmp_path):
    with pytest.raises(UserError, match="is encrypted with a password"):
        checked(self_signed(tmp_path, -1, 9, encryption=BestAvailableEncryption(b"secret")))


WRONG = {
    "empty": b"",
    "binary": bytes(range(256)),
    "text": b"-----BEGIN CERTIFICATE-----\nhello\n-----END CERTIFICATE-----\n",
    "request": b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    "public key": b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    "huge": b"-" * (LARGEST_FILE + 1),
}


@pytest.mark.parametrize("wrong", [*WRONG, "the key", "the certificate", "a directory", "nothing"])
@pytest.mark.parametrize("field", FILES)
def test_files_of_another_kind_are_refused_by_name(field, wrong, made, tmp_path):
    path, files = tmp_path / "given.pem", side(made)
    if wrong in ("the key", "the certificate"):
        if wrong.endswith(field) or (wrong, field) == ("the certificate", "authority"):
            return
        path.write_bytes((files.key if wrong == "the key" else files.certificate).read_bytes())
    elif wrong == "a directory":
        path.mkdir()
    elif wrong != "nothing":
        path.write_bytes(WRONG[wrong])
    with pytest.raises(UserError, match=r"given\.pem") as caught:
        checked(Tls(**{name: getattr(files, name) for name in FILES} | {field: path}))
    assert "\n" not in str(caught.value)


def mutated(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """A PEM file with flipped bits, other bytes, cut, with a piece of another file, or twice."""
    out, kind = bytearray(data), chance.choice(("bits", "bytes", "cut", "splice", "twice", "lines"))
    if kind in ("bits", "bytes"):
        for _ in range(chance.choice((1, 1, 2, 8))):
            place = chance.randrange(len(out))
            out[place] = out[place] ^ 1 << chance.randrange(8) if kind == "bits" else chance.randrange(256)
    elif kind == "cut":
        start, stop = sorted(chance.randrange(len(out) + 1) for _ in range(2))
        out = out[:start] + out[stop:] if chance.random() < 0.5 else out[:stop]
    elif kind == "splice":
        start = chance.randrange(len(other))
        out[chance.randrange(len(out)) :] = other[start : start + chance.randrange(400)]
    elif kind == "twice":
        out += data[: chance.randrange(len(data))]
    else:
        lines = data.splitlines(keepends=True)
        chance.shuffle(lines)
        out = b"".join(lines)
    return bytes(out)


def mutated_contents(chance: random.Random, data: bytes, other: bytes) -> bytes:
    """A PEM file whose encoding is right and whose contents are altered."""
    import base64
    import re

    begin, inside, end = re.fullmatch(rb"(-----BEGIN [A-Z ]+-----\n)(.*)(-----END [A-Z ]+-----\n)", data, re.DOTALL).groups()
    return begin + base64.encodebytes(mutated(chance, base64.b64decode(inside), other)) + end


def test_altered_files_are_accepted_or_refused_in_a_sentence(made, tmp_path):
    chance, files, path = random.Random(0), side(made), tmp_path / "altered.pem"
    contents = {name: getattr(files, name).read_bytes() for name in FILES}
    refused = 0
    for number in range(MUTATIONS):
        field = FILES[number % 3]
        alter = mutated if number % 2 else mutated_contents
        path.write_bytes(alter(chance, contents[field], chance.choice(list(contents.values()))))
        try:
            Tls(**{name: getattr(files, name) for name in FILES} | {field: path}).read()
        except UserError as error:
            assert "altered.pem" in str(error) and "\n" not in str(error)
            refused += 1
    assert MUTATIONS / 2 < refused < MUTATIONS  # some flip a bit of a signature, or of a name


def test_fingerprints_are_those_of_openssl_and_its_lines_are_taken(made, tmp_path):
    certificate, listed = made / "client.pem", tmp_path / "revoked"
    printed = subprocess.run(
        ["openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256"], capture_output=True, text=True, check=True
    ).stdout
    assert fingerprint(certificate.read_bytes()) == printed.strip().rpartition("=")[2].replace(":", "").lower()
    for line in (printed, f"# a laptop that was lost\n\n  {fingerprint(certificate.read_bytes())}  # of May\n"):
        listed.write_text(line)
        revoked = Revoked(listed)
        assert revoked.has(certificate.read_bytes())
        assert not revoked.has((made / "worker.pem").read_bytes())


@pytest.mark.parametrize("line", ["x", "00" * 31, "00" * 33, "zz" * 32, "\N{DEGREE SIGN}" * 64])
def test_a_line_that_is_no_fingerprint_is_refused_at_the_start(line, tmp_path):
    (tmp_path / "revoked").write_text(f"# one\n{line}\n")
    with pytest.raises(UserError, match=r"line 2 of .*revoked is no SHA-256 fingerprint"):
        Revoked(tmp_path / "revoked")
    with pytest.raises(UserError, match="cannot read"):
        Revoked(tmp_path / "missing")


def test_a_list_is_read_again_when_it_changed_and_stays_when_it_cannot_be(made, tmp_path, caplog):
    listed, certificate = tmp_path / "revoked", (made / "client.pem").read_bytes()
    listed.touch()
    revoked = Revoked(listed)
    assert not revoked.has(certificate)
    listed.write_text(fingerprint(certificate))
    assert revoked.has(certificate)
    listed.write_text("damaged")
    assert revoked.has(certificate)
    listed.unlink()
    assert revoked.has(certificate)
    assert sum("were revoked before stay so" in message for message in caplog.messages) == 2
    listed.write_text("# nobody\n")
    assert not revoked.has(certificate)
