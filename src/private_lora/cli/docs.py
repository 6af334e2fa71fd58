"""`docs`: pages whose numbers are cells of the published tables, and the site made of all pages."""

from __future__ import annotations

from pathlib import Path


def add_docs(parser) -> None:
    """Arguments of `docs`."""
    parser.add_argument(
        "--results", type=Path, default=Path("results/recorded-published"), help="directory with tables/ and figures/"
    )
    parser.add_argument("--site", type=Path, help="directory to build the site in; default: pages and images alone")
    parser.set_defaults(handler=_docs)


def _docs(args) -> int:
    from private_lora.publish.docs.pages import write_pages
    from private_lora.publish.docs.site import build_site

    changed = write_pages(args.results)
    print(f"written: {', '.join(map(str, changed))}" if changed else "pages and images are current")
    if args.site:
        build_site(args.site)
        print(f"site: {args.site}/index.html")
    return 0
