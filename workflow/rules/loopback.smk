# Fine-tuning through workers that are processes of their own on this machine, and in process beside them.


rule loopback:
    input:
        lambda w: input_files(STUDY.loopbacks[w.run_id].run_spec),
    output:
        records=f"{RESULTS}/loopback/{{run_id}}/records.csv",
        sidecar=f"{RESULTS}/loopback/{{run_id}}/sidecar.json",
        adapter=directory(f"{RESULTS}/loopback/{{run_id}}/adapter"),
    log:
        f"{LOGS}/loopback/{{run_id}}.log",
    priority: 40
    # Client and workers share the cores, and the loopback interface is theirs alone: what it carries is a result.
    threads: ALL_CORES
    resources:
        mem_mb=lambda w: STUDY.memory_of(STUDY.loopbacks[w.run_id]),
        gpu=lambda w: gpu_of(STUDY.loopbacks[w.run_id].run_spec),
        runtime=SOME_HOURS,
        memory_bus=lambda w: int(STUDY.loopbacks[w.run_id].run_spec.backend == "glwe"),
    params:
        spec=lambda w: STUDY.loopbacks[w.run_id].to_json(),
        code=lambda w: fingerprint(STUDY.loopbacks[w.run_id]),
        checkpoints=f"{RESULTS}/checkpoints",
    shell:
        "python -m private_lora loopback --spec {params.spec:q} --out {output.records}"
        " --checkpoints {params.checkpoints} --quiet > {log} 2>&1"


rule loopbacks:
    input:
        records("loopback", "loopback", STUDY.loopbacks),
    output:
        f"{DATA}/loopback.csv",
    log:
        f"{LOGS}/loopbacks.log",
    localrule: True
    shell:
        "python -m private_lora collect --out {output} {input:q} > {log} 2>&1"
