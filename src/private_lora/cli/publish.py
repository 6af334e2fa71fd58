"""`publish`: from the records of a study's runs to all its tables and figures, in one command; `report`: the page of them.

Imports nothing heavy.
"""

from __future__ import annotations

import sys
import traceback
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from private_lora.specs.stages import MEASUREMENTS

KINDS = ("convergence", *MEASUREMENTS)

_shared: dict = {}


def add_publish(parser) -> None:
    """Arguments of `publish`."""
    parser.add_argument("--out", type=Path, required=True, help="directory of results: data/, tables/ and figures/ go there")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=Path, nargs="*", default=[], help=f"records whose rows make data/{kind}.csv")
        parser.add_argument(f"--{kind}-beside", type=Path, nargs="*", default=[], help="the same of other studies")
    parser.add_argument("--reference", type=Path, required=True, help="directory of the published values")
    parser.add_argument("--costs", required=True, help="JSON object with the fields of CostSpec")
    parser.add_argument("--tables", nargs="*", default=[], help="names")
    parser.add_argument("--figures", nargs="*", default=[], help="names")
    parser.add_argument("--processes", type=int, default=2, help="that draw side by side")
    parser.set_defaults(handler=_publish)


def _publish(args) -> int:
    from private_lora.results.reader import Data

    directory = args.out / "data"
    _collect(args, directory)
    data = Data(directory)
    _ = data.runs  # most tables start from it; processes made from this one have it then
    made = [("table", name, args.out / "tables" / f"{name}.csv") for name in args.tables]
    made += [("figure", name, args.out / "figures" / f"{name}.png") for name in args.figures]
    with ProcessPoolExecutor(args.processes, get_context("fork"), initializer=_share, initargs=(data,)) as pool:
        # One that fails does not keep the others from being made.
        failed = [name for (_, name, _), ok in zip(made, pool.map(_make, made), strict=True) if not ok]
    if failed:
        print(f"not published: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _collect(args, data: Path) -> None:
    """The CSVs that tables and figures are made of."""
    from private_lora.costs.predict import write_costs
    from private_lora.results.commits import FILE, collect_commits
    from private_lora.results.prepare import collect_literature, collect_published
    from private_lora.results.recorder import collect
    from private_lora.specs.costs import CostSpec

    for kind in KINDS:
        collect(getattr(args, kind), data / f"{kind}.csv")
        beside = getattr(args, f"{kind}_beside")
        (data / "beside" / f"{kind}.csv").unlink(missing_ok=True)
        if beside:
            collect(beside, data / "beside" / f"{kind}.csv")
    own, others = ([path for kind in KINDS for path in getattr(args, f"{kind}{suffix}")] for suffix in ("", "_beside"))
    collect_commits(args.out, own, others, data / FILE)
    collect_published(args.reference, data / "published_values.csv", data / "published_curves.csv")
    collect_literature(args.reference, data / "published_literature.csv")
    write_costs(CostSpec.from_json(args.costs), data, data / "costs.csv")


def _share(data) -> None:
    """What every table and figure of a process starts from."""
    _shared["data"] = data


def _make(what: tuple[str, str, Path]) -> bool:
    """Whether a table or figure could be made; why not is on standard error."""
    from private_lora.publish.figures import make_figure
    from private_lora.publish.tables import make_table

    kind, name, out = what
    try:
        (make_table if kind == "table" else make_figure)(name, _shared["data"], out)
    except Exception:
        traceback.print_exc()
        return False
    return True


def add_report(parser) -> None:
    """Arguments of `report`."""
    parser.add_argument("--results", type=Path, required=True, help="directory of results, with tables/ and figures/")
    parser.add_argument("--out", type=Path, required=True, help="the page, such as results/report.html")
    parser.add_argument("--tables", nargs="*", help="names; default: all that are there")
    parser.add_argument("--figures", nargs="*", help="names; default: all that are there")
    parser.add_argument("--recorded", type=Path, help="directory of recorded machines; default: results/recorded")
    parser.set_defaults(handler=_report)


def _report(args) -> int:
    from private_lora.core.names import check_name
    from private_lora.core.paths import ROOT
    from private_lora.publish.report.page import write_report
    from private_lora.specs.published import PUBLISHED_FIGURES, PUBLISHED_TABLES

    for kind, names, known in (("table", args.tables, PUBLISHED_TABLES), ("figure", args.figures, PUBLISHED_FIGURES)):
        for name in names or ():
            check_name(kind, name, known)
    write_report(args.results, args.out, args.recorded or ROOT / "results" / "recorded", args.tables, args.figures)
    return 0
