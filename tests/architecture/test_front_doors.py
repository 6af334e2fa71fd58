"""Every room has a front door that opens, and says what the room is for."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import private_lora

PACKAGES = sorted(m.name for m in pkgutil.walk_packages(private_lora.__path__, "private_lora.") if m.ispkg)
LIGHT = ("core", "specs", "study", "results", "data", "cli")
HEAVY = ("torch", "transformers", "pandas", "matplotlib", "numba", "datasets")


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_says_what_it_is_for(name):
    assert importlib.import_module(name).__doc__.strip()


@pytest.mark.parametrize("name", PACKAGES)
def test_every_name_at_the_door_is_there(name):
    package = importlib.import_module(name)
    for export in getattr(package, "__all__", ()):
        assert getattr(package, export) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"'private_lora\.split' has no attribute 'nothing'"):
        importlib.import_module("private_lora.split").nothing  # noqa: B018


def test_looking_at_a_door_imports_nothing_heavy():
    code = f"import sys, importlib; [importlib.import_module('private_lora.' + n) for n in {LIGHT}]"
    code += f"; print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", PACKAGES)
def test_no_name_at_the_door_hides_a_module(name):
    package = importlib.import_module(name)
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert not modules & set(getattr(package, "__all__", ()))
