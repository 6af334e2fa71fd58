# From records to tables and figures, by one command: it takes longer to start one than to draw a figure. Then the page that
# shows them. Their code is an input, so editing a figure publishes again and runs nothing.
REFERENCE = "resources/reference"
NEEDED = ("paper_values.csv", "fhe_vs_clear_steps.csv", "convergence_curves.csv", "literature.csv")
# Template, style and script of the report, beside its code.
PAGE = relative([PACKAGE / "publish" / "report" / f"page.{suffix}" for suffix in ("html.jinja", "css", "js")])
MADE = [
    f"{DATA}/{name}.csv"
    for name in (*KINDS, "published_values", "published_curves", "published_literature", "costs", "commits")
]
MADE += [f"{DATA}/beside/{kind}.csv" for kind in KINDS if beside(kind)]


rule publish:
    input:
        **{kind: records(kind) for kind in KINDS},
        **{f"{kind}_beside": beside(kind) for kind in KINDS},
        reference=[f"{REFERENCE}/{name}" for name in NEEDED],
        code=PUBLISHING,
    output:
        *MADE,
        *[f"{path}.{suffix}" for path in TABLES.values() for suffix in ("csv", "md", "tex")],
        *[f"{path}.{suffix}" for path in FIGURES.values() for suffix in ("pdf", "csv")],
        *[described(f"{path}.html", "table", name) for name, path in TABLES.items()],
        *[described(f"{path}.png", "figure", name) for name, path in FIGURES.items()],
    log:
        f"{LOGS}/publish.log",
    localrule: True
    params:
        out=subpath(output[0], ancestor=2),
        costs=STUDY.costs.to_json(),
        reference=lambda w, input: str(Path(input.reference[0]).parent),
        tables=list(TABLES),
        figures=list(FIGURES),
    shell:
        "python -m private_lora publish --out {params.out} --reference {params.reference} --costs {params.costs:q}"
        " --convergence {input.convergence:q} --convergence-beside {input.convergence_beside:q}"
        " --loopback {input.loopback:q} --loopback-beside {input.loopback_beside:q}"
        " --generation {input.generation:q} --generation-beside {input.generation_beside:q}"
        " --estimate {input.estimate:q} --estimate-beside {input.estimate_beside:q}"
        " --layer {input.layer:q} --layer-beside {input.layer_beside:q}"
        " --block {input.block:q} --block-beside {input.block_beside:q}"
        " --worker_view {input.worker_view:q} --worker_view-beside {input.worker_view_beside:q}"
        " --tables {params.tables} --figures {params.figures} > {log} 2>&1"


# One page of all that is published. What it says of the runs behind the tables is in their sidecars.
rule report:
    input:
        *[f"{path}.{suffix}" for path in TABLES.values() for suffix in ("csv", "md")],
        *[f"{path}.{suffix}" for path in FIGURES.values() for suffix in ("png", "pdf", "csv")],
        code=relative(source_files(frozenset({"publish.report", "cli.publish"}))),
        page=PAGE,
    output:
        REPORT,
    log:
        f"{LOGS}/report.log",
    localrule: True
    params:
        results=subpath(output[0], parent=True),
        tables=list(TABLES),
        figures=list(FIGURES),
    shell:
        "python -m private_lora report --results {params.results} --out {output}"
        " --tables {params.tables} --figures {params.figures} > {log} 2>&1"
