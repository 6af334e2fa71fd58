# Tables and figures from the collected rows alone; a rule for each, because each has a caption of its own in the report.
# Their code is an input, so editing a figure makes figures again and nothing else.
TABLE_CODE = code("publish.tables")
FIGURE_CODE = code("publish.figures")

for table, path in TABLES.items():

    rule:
        name:
            f"table_{table}"
        input:
            **COLLECTED,
            code=TABLE_CODE,
        output:
            csv=f"{path}.csv",
            markdown=f"{path}.md",
            latex=f"{path}.tex",
            html=report(
                f"{path}.html",
                caption=f"../report/table_{table}.rst",
                category="Tables",
                labels={"table": table.replace("_", " ")},
            ),
        log:
            f"{LOGS}/tables/{table}.log",
        localrule: True
        params:
            data=subpath(input.convergence, parent=True),
            table=table,
        shell:
            "python -m private_lora table --name {params.table} --data {params.data} --out {output.csv} > {log} 2>&1"


for figure, path in FIGURES.items():

    rule:
        name:
            f"figure_{figure}"
        input:
            **COLLECTED,
            code=FIGURE_CODE,
        output:
            png=report(
                f"{path}.png",
                caption=f"../report/figure_{figure}.rst",
                category="Figures",
                labels={"figure": figure.replace("_", " ")},
            ),
            pdf=f"{path}.pdf",
            points=f"{path}.csv",
        log:
            f"{LOGS}/figures/{figure}.log",
        localrule: True
        params:
            data=subpath(input.convergence, parent=True),
            figure=figure,
        shell:
            "python -m private_lora figure --name {params.figure} --data {params.data} --out {output.png} > {log} 2>&1"
