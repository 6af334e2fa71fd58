"""Whether OpenMP's idle threads sleep depends on who is imported first, and is said."""

import os
import subprocess
import sys

import pytest

CODE = """
import sys, warnings
{first}
import private_lora
from private_lora.core.openmp import warn_if_threads_spin
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    warn_if_threads_spin()
import os
print(os.environ["OMP_WAIT_POLICY"], *(str(w.message) for w in caught))
"""


@pytest.mark.parametrize(
    ("first", "given", "policy", "warns"),
    [
        ("", None, "PASSIVE", False),
        ("sys.modules['torch'] = sys", None, "PASSIVE", True),
        ("sys.modules['torch'] = sys", "PASSIVE", "PASSIVE", False),
        ("", "ACTIVE", "ACTIVE", False),
    ],
)
def test_a_late_import_is_said(first, given, policy, warns):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": given} if given else {}
    code = CODE.format(first=first)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    printed, _, text = done.stdout.strip().partition(" ")
    assert printed == policy
    assert ("import private_lora first" in text) is warns
