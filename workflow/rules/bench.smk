# Timing by operation: one linear layer at every backend and shape, all layers of a block with every backend in one process, and
# a text that is generated token by token; runs that were estimated before they started; and what a worker receives of a text.


rule layer_job:
    input:
        ancient(KERNELS),
    output:
        f"{DATA}/jobs/{{batch}}.csv",
    log:
        f"{LOGS}/{{batch}}.log",
    wildcard_constraints:
        batch=r"layer-\d+",
    priority: lambda w: batch_of(w).priority
    # All cores, so that nothing else of this study runs beside it, and first, while all are free.
    threads: ALL_CORES
    resources:
        mem_mb=memory_of,
        gpu=lambda w: batch_of(w).gpus,
        runtime=SOME_HOURS,
    params:
        spec=specs_of,
        code=code_of,
        runs=f"{RESULTS}/layer",
    shell:
        "umask 077; python -m private_lora layer --spec {params.spec:q} --runs {params.runs} --out {output} > {log} 2>&1"


rule block_job:
    input:
        ancient(KERNELS),
    output:
        f"{DATA}/jobs/{{batch}}.csv",
    log:
        f"{LOGS}/{{batch}}.log",
    wildcard_constraints:
        batch=r"block-\d+",
    priority: lambda w: batch_of(w).priority
    # Alone and first, as above.
    threads: ALL_CORES
    resources:
        mem_mb=memory_of,
        gpu=lambda w: batch_of(w).gpus,
        runtime=SOME_HOURS,
    params:
        spec=specs_of,
        code=code_of,
        runs=f"{RESULTS}/block",
    shell:
        "umask 077; python -m private_lora block --spec {params.spec:q} --runs {params.runs} --out {output} > {log} 2>&1"


rule generation_job:
    input:
        inputs_of,
        ancient(KERNELS),
    output:
        f"{DATA}/jobs/{{batch}}.csv",
    log:
        f"{LOGS}/{{batch}}.log",
    wildcard_constraints:
        batch=r"generation-\d+",
    priority: lambda w: batch_of(w).priority
    # Alone and first, as above; client and workers share the cores.
    threads: ALL_CORES
    resources:
        mem_mb=memory_of,
        gpu=lambda w: batch_of(w).gpus,
        runtime=SOME_HOURS,
        memory_bus=lambda w: batch_of(w).memory_bus,
    params:
        spec=specs_of,
        code=code_of,
        runs=f"{RESULTS}/generation",
    shell:
        "umask 077; python -m private_lora generation --spec {params.spec:q} --runs {params.runs} --out {output} > {log} 2>&1"


rule estimate_job:
    input:
        inputs_of,
        ancient(KERNELS),
    output:
        f"{DATA}/jobs/{{batch}}.csv",
    log:
        f"{LOGS}/{{batch}}.log",
    wildcard_constraints:
        batch=r"estimate-\d+",
    priority: lambda w: batch_of(w).priority
    # Alone and first, as above.
    threads: ALL_CORES
    resources:
        mem_mb=memory_of,
        gpu=lambda w: batch_of(w).gpus,
        runtime=SOME_HOURS,
        memory_bus=lambda w: batch_of(w).memory_bus,
    params:
        spec=specs_of,
        code=code_of,
        runs=f"{RESULTS}/estimate",
    shell:
        "umask 077; python -m private_lora estimate --spec {params.spec:q} --runs {params.runs} --out {output} > {log} 2>&1"


# What a worker receives: nothing here is timed, so other jobs may run beside it.
rule worker_view_job:
    input:
        inputs_of,
        ancient(KERNELS),
    output:
        f"{DATA}/jobs/{{batch}}.csv",
    log:
        f"{LOGS}/{{batch}}.log",
    wildcard_constraints:
        batch=r"worker_view-\d+",
    priority: lambda w: batch_of(w).priority
    resources:
        mem_mb=memory_of,
        gpu=lambda w: batch_of(w).gpus,
        runtime=SOME_HOURS,
    params:
        spec=specs_of,
        code=code_of,
        runs=f"{RESULTS}/worker_view",
    shell:
        "umask 077; python -m private_lora worker_view --spec {params.spec:q} --runs {params.runs} --out {output} > {log} 2>&1"
