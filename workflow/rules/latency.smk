# Timing of one linear layer by stage: a job for each backend and shape, and their rows in one file.


rule latency:
    output:
        records=f"{RESULTS}/latency/{{run_id}}/records.csv",
        sidecar=f"{RESULTS}/latency/{{run_id}}/sidecar.json",
    log:
        f"{LOGS}/latency/{{run_id}}.log",
    priority: 50
    # All cores, so that nothing else of this study runs beside it, and first, while all are free.
    threads: ALL_CORES
    resources:
        mem_mb=lambda w: STUDY.memory_of(STUDY.latencies[w.run_id]),
    params:
        spec=lambda w: STUDY.latencies[w.run_id].to_json(),
        code=lambda w: fingerprint(STUDY.latencies[w.run_id]),
    shell:
        "python -m private_lora latency --spec {params.spec:q} --out {output.records} > {log} 2>&1"


rule latencies:
    input:
        records("latency", "latency", STUDY.latencies),
    output:
        f"{DATA}/latency.csv",
    log:
        f"{LOGS}/latencies.log",
    shell:
        "python -m private_lora collect --out {output} {input:q} > {log} 2>&1"
