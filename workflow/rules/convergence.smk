# Fine-tuning: one job for each run of the grid, and their rows in one file.


rule finetune:
    input:
        lambda w: input_files(STUDY.runs[w.run_id]),
    output:
        records=f"{RESULTS}/runs/{{run_id}}/records.csv",
        sidecar=f"{RESULTS}/runs/{{run_id}}/sidecar.json",
        adapter=directory(f"{RESULTS}/runs/{{run_id}}/adapter"),
    log:
        f"{LOGS}/finetune/{{run_id}}.log",
    priority: lambda w: priority_of(STUDY.runs[w.run_id])
    # A step whose time is the result gets all cores, and so runs alone, first.
    threads: lambda w: ALL_CORES if STUDY.runs[w.run_id].stage == "full_size" else 1
    resources:
        mem_mb=lambda w: STUDY.memory_of(STUDY.runs[w.run_id]),
        gpu=lambda w: gpu_of(STUDY.runs[w.run_id]),
        runtime=A_DAY,
        # GLWE is bound by memory bandwidth: two at once take as long as one after the other. The profile allows one.
        memory_bus=lambda w: int(STUDY.runs[w.run_id].backend == "glwe"),
    params:
        spec=lambda w: STUDY.runs[w.run_id].to_json(),
        code=lambda w: fingerprint(STUDY.runs[w.run_id]),
        checkpoints=f"{RESULTS}/checkpoints",
    shell:
        "python -m private_lora finetune --spec {params.spec:q} --out {output.records}"
        " --checkpoints {params.checkpoints} --quiet > {log} 2>&1"


rule convergence:
    input:
        records("convergence", "runs", STUDY.runs),
    output:
        f"{DATA}/convergence.csv",
    log:
        f"{LOGS}/convergence.log",
    localrule: True
    shell:
        "python -m private_lora collect --out {output} {input:q} > {log} 2>&1"
