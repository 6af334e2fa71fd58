"""Certificates to try with: they verify, keys are private, nothing is overwritten, and gRPC lets in whom it should."""

import datetime
import ipaddress
import stat
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from private_lora.cli import main as cli
from private_lora.core.errors import UserError
from private_lora.network.tools.certificates import make_certificates

FILES = {f"{side}{end}" for side in ("worker", "client") for end in (".pem", "-key.pem", "-ca.pem")}
ECHO = "/test.Echo/Echo"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates") / "new" / "set"
    make_certificates(directory, ["worker.example.org", "10.1.2.3", "[fd00::7]", "localhost"], days=30)
    return directory


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    directory = tmp_path_factory.mktemp("stranger")
    make_certificates(directory, [])
    return directory


def certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def extension(path, kind):
    return certificate(path).extensions.get_extension_for_class(kind).value


def verifier(directory, side):
    return PolicyBuilder().store(Store([certificate(directory / f"{side}-ca.pem")]))


@pytest.mark.parametrize("host", ["localhost", "worker.example.org"])
def test_the_worker_verifies_by_name(made, host):
    chain = verifier(made, "worker").build_server_verifier(x509.DNSName(host)).verify(certificate(made / "worker.pem"), [])
    assert len(chain) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "10.1.2.3", "fd00::7"])
def test_the_worker_verifies_by_address(made, host):
    name = x509.IPAddress(ipaddress.ip_address(host))
    assert len(verifier(made, "worker").build_server_verifier(name).verify(certificate(made / "worker.pem"), [])) == 2


def test_the_worker_is_no_other_host(made):
    with pytest.raises(VerificationError):
        verifier(made, "worker").build_server_verifier(x509.DNSName("example.org")).verify(certificate(made / "worker.pem"), [])


def test_the_client_verifies_by_its_own_authority_alone(made, stranger):
    verifier(made, "client").build_client_verifier().verify(certificate(made / "client.pem"), [])
    for directory, side in ((made, "worker"), (stranger, "client")):
        with pytest.raises(VerificationError):
            verifier(directory, side).build_client_verifier().verify(certificate(made / "client.pem"), [])


def test_each_certificate_serves_its_side_only(made):
    assert list(extension(made / "worker.pem", x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert list(extension(made / "client.pem", x509.ExtendedKeyUsage)) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    for side in ("worker", "client"):
        assert not extension(made / f"{side}.pem", x509.BasicConstraints).ca
        assert extension(made / f"{side}-ca.pem", x509.BasicConstraints).ca


def test_names_are_those_asked_for_and_of_this_machine_once_each(made):
    names = extension(made / "worker.pem", x509.SubjectAlternativeName)
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "worker.example.org"]
    addresses = ["127.0.0.1", "::1", "10.1.2.3", "fd00::7"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(a) for a in addresses]


def test_days_are_those_asked_for(made):
    for name in ("worker.pem", "client.pem", "worker-ca.pem", "client-ca.pem"):
        end = certificate(made / name).not_valid_after_utc - datetime.datetime.now(datetime.UTC)
        assert datetime.timedelta(days=29) < end <= datetime.timedelta(days=30)


def test_six_files_are_written_and_keys_are_their_owners(made):
    assert {path.name for path in made.iterdir()} == FILES
    for path in made.iterdir():
        private = path.name.endswith("-key.pem")
        assert private == (b"PRIVATE KEY" in path.read_bytes())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 or not private


@pytest.mark.parametrize("there", sorted(FILES))
def test_nothing_is_overwritten_and_nothing_else_written(tmp_path, there):
    (tmp_path / there).write_text("precious")
    with pytest.raises(UserError, match=f"{there} is there"):
        make_certificates(tmp_path, [])
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "precious"


@pytest.mark.parametrize("host", ["", "a b", "*.example.org", "host:7001", "-a.org", "a..b", "worker.example.org\n", "ü.org"])
def test_hosts_that_are_none_are_refused(tmp_path, host):
    with pytest.raises(UserError, match="no host name"):
        make_certificates(tmp_path / "out", [host])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("days", [0, -1, 3651])
def test_days_out_of_range_are_refused(tmp_path, days):
    with pytest.raises(UserError, match="days"):
        make_certificates(tmp_path / "out", [], days)


def test_the_command_makes_them_once(tmp_path, capsys):
    command = ["certs", "--out", str(tmp_path), "--host", "a.example.org", "--host", "10.0.0.9", "--days", "7"]
    assert cli.main(command) == 0
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert "a.example.org" in extension(tmp_path / "worker.pem", x509.SubjectAlternativeName).get_values_for_type(x509.DNSName)
    assert cli.main(command) == 2
    assert "not overwritten" in capsys.readouterr().err


def pem(directory, name):
    return (directory / f"{name}.pem").read_bytes()


@pytest.fixture(scope="module")
def echo_port(made):
    """A server with the worker's certificate, which asks for one of the client authority."""
    server = grpc.server(ThreadPoolExecutor(2))
    echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", {"Echo": echo})])
    pair = pem(made, "worker-key"), pem(made, "worker")
    credentials = grpc.ssl_server_credentials([pair], root_certificates=pem(made, "client-ca"), require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield port
    server.stop(None).wait()


def echoed(port, authority, key=None, own=None, host="127.0.0.1"):
    credentials = grpc.ssl_channel_credentials(authority, key, own)
    with grpc.secure_channel(f"{host}:{port}", credentials) as channel:
        return channel.unary_unary(ECHO)(b"hello", timeout=10)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_client_is_served(made, echo_port, host):
    assert echoed(echo_port, pem(made, "worker-ca"), pem(made, "client-key"), pem(made, "client"), host) == b"hello"


def assert_refused(*arguments):
    with pytest.raises(grpc.RpcError) as refusal:
        echoed(*arguments)
    assert refusal.value.code() == grpc.StatusCode.UNAVAILABLE


def test_nobody_without_a_certificate_is_served(made, echo_port):
    assert_refused(echo_port, pem(made, "worker-ca"))


def test_no_stranger_is_served(made, stranger, echo_port):
    assert_refused(echo_port, pem(made, "worker-ca"), pem(stranger, "client-key"), pem(stranger, "client"))


def test_a_worker_is_no_client(made, echo_port):
    assert_refused(echo_port, pem(made, "worker-ca"), pem(made, "worker-key"), pem(made, "worker"))


def test_a_client_asks_no_stranger(made, stranger, echo_port):
    assert_refused(echo_port, pem(stranger, "worker-ca"), pem(made, "client-key"), pem(made, "client"))
