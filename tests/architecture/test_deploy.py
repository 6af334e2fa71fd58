"""Workers in containers: what can be checked of deploy/ without a container engine."""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from private_lora.cli.main import build_parser
from private_lora.network.tools.certificates import make_certificates
from private_lora.network.wire.security import Address

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "docker-compose.yml").read_text())
DOCKERFILE = re.sub(r"\\\n\s*", " ", (DEPLOY / "Dockerfile").read_text())
SERVICES = COMPOSE["services"]
WORKER_FILES = {"worker.pem", "worker-key.pem", "client-ca.pem"}
by_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def arguments_of(command: list[str]) -> argparse.Namespace:
    """What the command line makes of a worker's arguments."""
    return build_parser("worker").parse_args(["worker", *command])


def files_of(args: argparse.Namespace) -> set[Path]:
    return {args.tls_cert, args.tls_key, args.authority}


@by_service
def test_a_service_is_a_command_that_the_worker_knows(service):
    args = arguments_of(shlex.split(service["command"]))
    assert not args.plaintext
    assert Address.parse(args.metrics).is_loopback
    container_port = int(service["ports"][0].rsplit(":", 1)[1])
    assert container_port == Address.parse(args.listen).port
    assert f"http://{args.metrics}/" in service["healthcheck"]["test"][-1]


@by_service
def test_the_certificates_that_are_mounted_are_those_that_the_command_names(service, tmp_path):
    make_certificates(tmp_path, [])
    mounts = {Path(mount["target"]): (DEPLOY / mount["source"]).resolve() for mount in service["volumes"]}
    assert set(mounts) == files_of(arguments_of(shlex.split(service["command"])))
    assert {source.parent for source in mounts.values()} == {ROOT / "certificates"}
    assert {source.name for source in mounts.values()} == WORKER_FILES < {path.name for path in tmp_path.iterdir()}
    assert all(mount["type"] == "bind" and mount["read_only"] for mount in service["volumes"])


def test_the_services_hold_every_block_of_the_model_once():
    parsed = [arguments_of(shlex.split(service["command"])) for service in SERVICES.values()]
    (model,) = {args.model for args in parsed}
    blocks = json.loads((ROOT / "resources" / model / "config.json").read_text())["num_hidden_layers"]
    ranges = [[int(number) for number in args.layers.split("-")] for args in parsed]
    held = [block for first, last in ranges for block in range(first, last + 1)]
    assert sorted(held) == list(range(blocks))
    published = [service["ports"][0].rsplit(":", 2)[1] for service in SERVICES.values()]
    assert len(set(published)) == len(published)


@by_service
def test_the_image_is_built_from_files_that_are_there_and_sent(service):
    assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
    assert ROOT / service["build"]["dockerfile"] == DEPLOY / "Dockerfile"
    assert set(service["build"]["args"]) <= set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.M))
    copied = {name for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.M) for name in line.split()[:-1]}
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split("\n")
    assert copied == {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert all((ROOT / name).exists() for name in copied)
    assert not any(fnmatch.fnmatch("certificates/worker-key.pem", f"{name}*") for name in copied)


def test_the_image_installs_what_the_makefile_installs():
    makefile = (ROOT / "Makefile").read_text().replace("$(BIN)/", "").replace("$$", "$")
    (rule,) = re.findall(r"^\$\(INSTALLED\):.*\n((?:\t.*\n|#.*\n)+)", makefile, re.M)
    asked, done = (re.findall(r"python -m pip install.*", text) for text in (rule, DOCKERFILE))
    assert len(asked) == 3
    assert done == asked
    assert 'ENTRYPOINT ["python", "-m", "private_lora", "worker"]' in DOCKERFILE


def test_the_kubernetes_example_is_a_worker_too():
    (example,) = re.findall(r"```yaml\n(.*?)```", (DEPLOY / "README.md").read_text(), re.S)
    service, deployment = yaml.safe_load_all(example)
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    args = arguments_of(container["args"])
    (port,) = container["ports"]
    assert port["containerPort"] == Address.parse(args.listen).port
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert {path.name for path in files_of(args)} == WORKER_FILES
    mounted = {mount["name"]: Path(mount["mountPath"]) for mount in container["volumeMounts"]}
    assert {path.parent for path in files_of(args)} == {mounted["tls"]}
    assert set(mounted) == {volume["name"] for volume in pod["volumes"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert f"http://{args.metrics}/" in container[probe]["exec"]["command"][-1]
