"""A client that shares no code with the package is served by a worker process, under either kind of mask."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MODEL = HERE.parents[1] / "resources" / "nano" / "model.safetensors"
PACKED = ("--backend", "packed", "--layers", "0", "--activation-bits", "8", "--weight-bits", "8")


@pytest.mark.parametrize("mask", ["session", "fresh"])
def test_an_independent_client_gets_the_exact_product_from_a_worker(mask, worker_process):
    flags = (*PACKED, "--backend-options", f'{{"mask": "{mask}"}}')
    with worker_process("nano", *flags) as (_, address):
        command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(HERE)!r}); import client; "]
        command[-1] += "client.main(*sys.argv[1:]); assert not [m for m in sys.modules if m.startswith('private_lora')]"
        arguments = [str(address), str(MODEL), "model.layers.0.self_attn.o_proj"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=os.environ, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "192 values of an encrypted product are right" in done.stdout


@pytest.mark.parametrize("name", ["scheme.py", "client.py"])
def test_it_imports_the_standard_library_and_four_packages(name):
    found = set()
    for node in ast.walk(ast.parse((HERE / name).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    assert found - set(sys.stdlib_module_names) <= {"numpy", "grpc", "cryptography", "xxhash", "scheme"}
