"""The pretraining text: the running Python's standard library, its docstrings, and generated English.

Every machine that runs this package has the first two; the third is generated from a seed. A document is held
out or trained on by the hash of its name, so the split never depends on order, and a docstring falls on its
file's side. No torch.
"""

import ast
import hashlib
import inspect
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from private_lora.models.pretraining import english

SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "encodings"}
HELD_OUT_PERCENT = 5
MAX_SOURCE_BYTES = 400_000  # above it lie generated tables, not prose or code somebody wrote
MIN_DOCSTRING_CHARACTERS = 80
KINDS = ("code", "docstring", "english")


@dataclass(frozen=True)
class Document:
    """One text of the corpus. kind is code, docstring or english; name is what the split hashes."""

    kind: str
    name: str
    text: str

    @property
    def split(self):
        """ "held_out" for about 5 % of the names, else "train"."""
        digest = hashlib.sha256(self.name.encode()).digest()
        return "held_out" if int.from_bytes(digest[:8], "big") % 100 < HELD_OUT_PERCENT else "train"


def source_documents(root=None):
    """Documents of kind code, one per readable .py file under root, sorted by relative path.

    root defaults to the running Python's standard library. Installed packages, test suites and character
    tables are left out.
    """
    root = Path(root or sysconfig.get_path("stdlib"))
    documents = []
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        relative = path.relative_to(root)
        if SKIPPED_FOLDERS & set(relative.parts) or path.stat().st_size > MAX_SOURCE_BYTES:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if text.strip():
            documents.append(Document("code", relative.as_posix(), text))
    return documents


def docstrings(source):
    """The docstrings of one Python source, cleaned of indentation, in order; empty if it does not parse."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, holders))
    return [inspect.cleandoc(text) for text in found if text and len(text) >= MIN_DOCSTRING_CHARACTERS]


def docstring_documents(sources):
    """Documents of kind docstring, one per source with long enough docstrings, under the source's name."""
    texts = ((source.name, "\n\n".join(docstrings(source.text))) for source in sources)
    return [Document("docstring", name, text + "\n") for name, text in texts if text]


def english_documents(size, seed=0):
    """Documents of kind english until their UTF-8 text reaches size bytes."""
    documents, total = [], 0
    while total < size:
        index = len(documents)
        text = english.document(index, seed)
        documents.append(Document("english", f"english:{seed}:{index}", text))
        total += len(text.encode())
    return documents


def load(english_bytes, seed=0, root=None):
    """The whole corpus as {"train": [...], "held_out": [...]} lists of Documents, in a fixed order."""
    sources = source_documents(root)
    documents = sources + docstring_documents(sources) + english_documents(english_bytes, seed)
    splits = {"train": [], "held_out": []}
    for document in documents:
        splits[document.split].append(document)
    return splits


def byte_counts(documents):
    """UTF-8 bytes by kind: {"code": ..., "docstring": ..., "english": ...}."""
    counts = dict.fromkeys(KINDS, 0)
    for document in documents:
        counts[document.kind] += len(document.text.encode())
    return counts


def digest(documents):
    """SHA-256 over names and texts: which corpus this was."""
    total = hashlib.sha256()
    for document in documents:
        total.update(f"{document.kind}\0{document.name}\0{document.text}\0".encode())
    return total.hexdigest()
