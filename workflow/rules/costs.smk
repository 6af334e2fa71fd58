# What steps of real models cost: predicted from the collected rows, in a moment, for all tables and figures.


rule costs:
    input:
        **COST_INPUTS,
        code=code("costs.predict"),
    output:
        f"{DATA}/costs.csv",
    log:
        f"{LOGS}/costs.log",
    localrule: True
    params:
        spec=STUDY.costs.to_json(),
        data=subpath(input.convergence, parent=True),
    shell:
        "python -m private_lora costs --spec {params.spec:q} --data {params.data} --out {output} > {log} 2>&1"
