# Timing by stage. One linear layer: a job for each backend and shape. All layers of a block: a job for each number of tokens,
# with every backend in it. The rows of each kind in one file.


rule layer:
    output:
        records=f"{RESULTS}/layer/{{run_id}}/records.csv",
        sidecar=f"{RESULTS}/layer/{{run_id}}/sidecar.json",
    log:
        f"{LOGS}/layer/{{run_id}}.log",
    priority: 50
    # All cores, so that nothing else of this study runs beside it, and first, while all are free.
    threads: ALL_CORES
    resources:
        mem_mb=lambda w: STUDY.memory_of(STUDY.layers[w.run_id]),
        gpu=lambda w: gpu_of(STUDY.layers[w.run_id]),
        runtime=SOME_HOURS,
    params:
        spec=lambda w: STUDY.layers[w.run_id].to_json(),
        code=lambda w: fingerprint(STUDY.layers[w.run_id]),
    shell:
        "python -m private_lora layer --spec {params.spec:q} --out {output.records} > {log} 2>&1"


rule layers:
    input:
        records("layer", "layer", STUDY.layers),
    output:
        f"{DATA}/layer.csv",
    log:
        f"{LOGS}/layers.log",
    localrule: True
    shell:
        "python -m private_lora collect --out {output} {input:q} > {log} 2>&1"


rule block:
    output:
        records=f"{RESULTS}/block/{{run_id}}/records.csv",
        sidecar=f"{RESULTS}/block/{{run_id}}/sidecar.json",
    log:
        f"{LOGS}/block/{{run_id}}.log",
    priority: 50
    # Alone and first, as above.
    threads: ALL_CORES
    resources:
        mem_mb=lambda w: STUDY.memory_of(STUDY.blocks[w.run_id]),
        gpu=lambda w: gpu_of(STUDY.blocks[w.run_id]),
        runtime=SOME_HOURS,
    params:
        spec=lambda w: STUDY.blocks[w.run_id].to_json(),
        code=lambda w: fingerprint(STUDY.blocks[w.run_id]),
    shell:
        "python -m private_lora block --spec {params.spec:q} --out {output.records} > {log} 2>&1"


rule blocks:
    input:
        records("block", "block", STUDY.blocks),
    output:
        f"{DATA}/block.csv",
    log:
        f"{LOGS}/blocks.log",
    localrule: True
    shell:
        "python -m private_lora collect --out {output} {input:q} > {log} 2>&1"
