"""The workflow's test tree is shared with tests/workflow."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "workflow"))
