# Fine-tuning: jobs of several runs that are neighbours in the grid. Each run's files are complete as soon as it is done, and
# belong to no job: what is done stays, whatever happens to the job, and is not done again while spec and code are the same.
TRAINED = "|".join(FINE_TUNING)


rule finetune:
    input:
        inputs_of,
        ancient(KERNELS),
    output:
        f"{DATA}/jobs/{{batch}}.csv",
    log:
        f"{LOGS}/{{batch}}.log",
    wildcard_constraints:
        batch=rf"({TRAINED})-\d+",
    priority: lambda w: batch_of(w).priority
    # A step whose time is the result gets all cores, and so runs alone, first.
    threads: lambda w: ALL_CORES if batch_of(w).is_timed else 1
    resources:
        mem_mb=memory_of,
        gpu=lambda w: batch_of(w).gpus,
        runtime=A_DAY,
        # GLWE is bound by memory bandwidth: two at once take as long as one after the other. The profile allows one.
        memory_bus=lambda w: batch_of(w).memory_bus,
    params:
        spec=specs_of,
        code=code_of,
        runs=f"{RESULTS}/runs",
        checkpoints=f"{RESULTS}/checkpoints",
    shell:
        "umask 077; python -m private_lora finetune --spec {params.spec:q} --runs {params.runs} --out {output}"
        " --checkpoints {params.checkpoints} --quiet > {log} 2>&1"


# The same through workers that are processes of their own on this machine, and in process beside them.
rule loopback_job:
    input:
        inputs_of,
        ancient(KERNELS),
    output:
        f"{DATA}/jobs/{{batch}}.csv",
    log:
        f"{LOGS}/{{batch}}.log",
    wildcard_constraints:
        batch=r"loopback-\d+",
    priority: lambda w: batch_of(w).priority
    # Client and workers share the cores, and the loopback interface is theirs alone: what it carries is a result.
    threads: ALL_CORES
    resources:
        mem_mb=memory_of,
        gpu=lambda w: batch_of(w).gpus,
        runtime=SOME_HOURS,
        memory_bus=lambda w: batch_of(w).memory_bus,
    params:
        spec=specs_of,
        code=code_of,
        runs=f"{RESULTS}/loopback",
        checkpoints=f"{RESULTS}/checkpoints",
    shell:
        "umask 077; python -m private_lora loopback --spec {params.spec:q} --runs {params.runs} --out {output}"
        " --checkpoints {params.checkpoints} --quiet > {log} 2>&1"
