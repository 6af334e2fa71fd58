"""The published tables: name, title, function and the caption of the report. Imports nothing heavy.

In the order in which they are published.
"""

from __future__ import annotations

from private_lora.specs.descriptors import Published

TABLES = (
    Published(
        "knowledge",
        "What a real LLM learned in private",
        "private_lora.publish.tables.knowledge:knowledge",
        "What a real LLM learned: the share of questions that it answers to the last token before and after fine-tuning, with "
        "95 % Wilson intervals, beside *guessing*, which knows the form of answers and no facts; losses before and after, also "
        "of a general text, whose rise is what was forgotten; what encryption counted and cost; and how many losses and "
        "evaluations are the very numbers of the exact integer run. *arrangement*: in process, or the workers that compute the "
        "products. Shares are pooled over the seeds.",
    ),
    Published(
        "answers",
        "Questions and answers, before and after",
        "private_lora.publish.tables.answers:answers",
        "Questions that were not trained on in this wording, the answers expected, and what the model wrote before training "
        "and after the last step, by backend, of the first seed. They are the first of the held-out questions, not chosen by "
        "how they were answered.",
    ),
    Published(
        "claims",
        "What is claimed, and whether it was met",
        "private_lora.publish.tables.claims:claims",
        "What this study set out to show, computed from its rows: value (of the seed that is hardest on the claim), target, "
        "and verdict. *MISSED* is printed where a target was missed, *no data* where the study as configured has no such run, "
        "*no target* where a value is reported only. Settings that diverged, failed or ended more than 5 % above float are "
        "listed at the end as *FAILS*. Ratios are between products and steps whose calls are arranged alike; a target over "
        "float32 counts over oneDNN's float32 too, where that was measured. Losses show what quantization and encryption "
        "change, not that a model learned a task.",
    ),
    Published(
        "final_loss",
        "Final loss by quantizer and bits",
        "private_lora.publish.tables.convergence:final_loss",
        "Final evaluation loss by model, quantizer pair and bit-width: mean and spread over seeds, and the mean of the "
        "per-seed ratios to the float run with the same batches and number of steps. *n requested* and *n ok* count runs; a "
        "run that diverged, failed or stopped before its own steps is named in *status*. DTok-SC: dynamic per token x static "
        "per channel; DTen-ST: dynamic per tensor x static per tensor; ST-ST: static x static; Sym: symmetric.",
    ),
    Published(
        "encrypted_vs_clear",
        "Encrypted steps beside clear ones",
        "private_lora.publish.tables.encryption:encrypted_vs_clear",
        "Training loss and gradient norm at each step of the encrypted run (*glwe*) and of the runs that saw the same batches "
        "from the same initial adapter: exact integers, simulated noise, the reference implementation (*concrete_ml*, clear "
        "or executed) and float. The last rows are the only published comparison of the kind, five steps of Llama-3.2-1B at 7 "
        "bits, against its own clear run; they treat constant rows as *reference* does.",
    ),
    Published(
        "encryption_counters",
        "What encryption did and cost",
        "private_lora.publish.tables.encryption:encryption_counters",
        "What encryption did and cost in each run that encrypts, simulates it, or is the reference implementation: products, "
        "ciphertext bytes each way, key material, claimed security, the standard deviation of the accumulator noise and its "
        "ratio to the simulated run's, time by operation, and training time per token that is not padding.",
    ),
    Published(
        "gradient_inflation",
        "Gradient inflation by constant rows",
        "private_lora.publish.tables.convergence:gradient_inflation",
        "Median gradient norm over that of float, for constant rows treated as in the reference implementation and kept "
        "exact, with the loss at the end. The rows of the encrypted study show the same under the real scheme. The ratio "
        "depends on the padding rule, the share of zero rows and the clear gradient: those of other settings than the "
        "published one do not compare with the published ratio.",
    ),
    Published(
        "inflation_prediction",
        "Gradient inflation, predicted and measured",
        "private_lora.publish.tables.inflation:inflation_prediction",
        "Gradient norm over the clear integer run's when rows of zero gradient have the scale 1 under noise: measured (median "
        "and range over steps and seeds), and predicted for the same steps from the share of zero rows, the weights' scale, "
        "the noise and a gain measured on the clear run. *error percent*: the predicted median over the measured one, with its "
        "sign. Last rows: the published ratios of Llama-3.2-1B, where padding counts too.",
    ),
    Published(
        "overflow",
        "Where sums overflow, and the loss then",
        "private_lora.publish.tables.overflow:overflow",
        "The published scheme keeps 27 bits of a sum, and a larger one wraps around in silence. By bits and quantizers: worst "
        "case of any layer, share of outputs that wrapped around forward and backward, and losses beside those of the exact "
        "integers of the same batches, of sums of signed activations and of unsigned ones, as in the reference implementation. "
        "All of it simulated: `glwe` refuses such plans. The last line is the published loss of one batch under overflow.",
    ),
    Published(
        "overflow_layers",
        "Overflow by layer",
        "private_lora.publish.tables.overflow:overflow_layers",
        "For every kind of layer, forward and backward: bits that its sums could need by its shape alone and by its quantized "
        "weights, beside the outputs that were compared with the exact integer product and those that wrapped around.",
    ),
    Published(
        "packed_training",
        "Training under packed encryption",
        "private_lora.publish.tables.packed:packed_training",
        "Fine-tuning under token-packed RLWE: encrypted products, security and size of the modulus, at how many steps the "
        "loss is the very number of the exact integer run, the noise of the approximate mode beside its prediction, times by "
        "stage, remote calls and bytes.",
    ),
    Published(
        "layer",
        "One linear layer by operation",
        "private_lora.publish.tables.layer:layer",
        "One layer, operation by operation: median and range over the repeats, bytes, time per row and per output value, and "
        "the ratios to the plaintext float32 and exact integer products of the same shape. *client* is encryption plus "
        "decryption, *total* all three. Key generation and the preparation of the weight are paid once and stand in "
        "rows of their own.",
    ),
    Published(
        "block_latency",
        "Time of a transformer block",
        "private_lora.publish.tables.block:block_latency",
        "All linear layers of a transformer block, forward and backward, operation by operation: time per token, and ratios to "
        "torch's plaintext products of the same shapes in the same process (median over the repeats, with the range). "
        "*client* is encryption plus decryption, *server* the product alone. *inputs joint*: one call for layers that share "
        "an input (q, k, v; gate, up); *apart*: each layer a call. ``glwe`` is measured on as many rows as *tokens* says, on "
        "the layers listed; *glwe server time over this* compares its time per token on those layers. *samples* counts "
        "measurements: products of one shape share one, k and v for instance. *mismatches* counts values that are not the "
        "exact integer product's, over *checked values*: none in an exact backend; plaintext bf16 rounds.",
    ),
    Published(
        "block_bytes",
        "Ciphertext bytes per token",
        "private_lora.publish.tables.block:block_bytes",
        "Ciphertext bytes per token of all linear layers of a model, forward and backward, counted from serialized messages, "
        "by backend and tokens per batch, the remote calls that they take, and their total over that of ``glwe`` with as many "
        "calls. Where *basis* says *extrapolated*, the ciphertexts of ``glwe`` were measured on some layers and counted for "
        "the others: one for each 2,048 values of a row.",
    ),
    Published(
        "block_utilisation",
        "Use of the machine by each product",
        "private_lora.publish.tables.block_utilisation:block_utilisation",
        "How much of its machine each product of a block uses. *operations per token*: two for each product of two entries; "
        "of ``packed``, as the server counted those of its int8 products, padding included; of a plaintext product, 2 x "
        "inputs x outputs in the type named. *share of int8 ceiling*: operations per second of server time, over those of "
        "``torch._int_mm`` on a large square in the same process. *share of copy ceiling*: bytes of operands and results, "
        "moved once, per second, over those of a large copy. Both ceilings are measured. The server's time holds all of its "
        "work, and on a GPU the way there and back: what the shares leave is not spent multiplying.",
    ),
    Published(
        "full_step",
        "Whole training steps, measured",
        "private_lora.publish.tables.full_step:full_step",
        "Training steps measured whole, with one number of transformer blocks or all of the model's: time of every step, "
        "beside those of float32 and of the same integers in the clear, mean time by operation, memory of client and server "
        "together, ciphertext bytes per token with the number of remote calls, and how many losses are the very number of the "
        "exact integer run. Tokens are random, and weights too where the model says so: cost does not depend on them. The "
        "cost model's prediction stands beside each whole model's step; it is made from products and a client's own work that "
        "were measured by themselves.",
    ),
    Published(
        "loopback",
        "Training through workers",
        "private_lora.publish.tables.loopback:loopback",
        "Data owner and workers as processes of their own, over TLS on this machine's loopback: for each arrangement of "
        "workers the losses beside the same run in process, round trips, bytes of all messages beside what the interface "
        "carried, seconds by operation, step time and memory. Seconds by operation and bytes are of the whole run, evaluations "
        "included. Client and workers share the machine's cores, so that more workers bring no more of them; a link that is "
        "slower than loopback is made by the harness.",
    ),
    Published(
        "generation",
        "Generating a text, token by token",
        "private_lora.publish.tables.generation:generation",
        "A text generated one token at a time, cache and sampling at the client, in process and through workers: prompt, first "
        "token of a single row and the tokens behind it apart. *token time*: median over the tokens, with the range, and its "
        "ratios to float32 and exact integers in the same arrangement; pads are made with the prompt, so that only *text s "
        "per token* has all that a token costs. Bytes and calls are those of one token. Prompts are random tokens, so that a "
        "text has no end; *tokens equal to integer* counts the very tokens of the exact integer run.",
    ),
    Published(
        "security",
        "Parameters of the encryption",
        "private_lora.publish.tables.security:security",
        "Ring sizes and largest moduli of the encrypted runs, over all their products, and the bits of "
        "security that they leave in several cost models. *mask*: fresh for every question, or "
        "one for a session.",
    ),
    Published(
        "worker_view",
        "What a worker receives, and what it can read back",
        "private_lora.publish.tables.worker_view:worker_view",
        "What a worker is sent for the first linear layers, integers in the clear or ciphertexts of the same rows, and how "
        "many tokens the same attack reads back: for each row, the token of the public vocabulary whose input of that layer "
        "correlates with it most. Beside it *chance*, the same attack on random numbers, and simple statistics of the numbers "
        "received. This shows what travels and proves nothing about security, which rests on RLWE and its parameters; shapes "
        "and the number of rows are seen in any case.",
    ),
    Published(
        "client_memory",
        "Memory of the client",
        "private_lora.publish.tables.client_memory:client_memory",
        "Memory of the client whose workers hold the linear layers, measured, beside the same run in one process, LoRA in the "
        "clear, and full fine-tuning. The last is arithmetic and a lower bound: 16 bytes for every weight, without "
        "activations. The client holds no linear weight of the base model's blocks, only embeddings, head, norms and the "
        "adapter.",
    ),
    Published(
        "alone_or_outsourced",
        "The client alone, or with workers",
        "private_lora.publish.tables.alone:alone_or_outsourced",
        "The same LoRA step at the same batch on the same machine, behind the first step: by the client alone, its "
        "weights held in 32, 16, 8 or 4 bits, and encrypted through workers over a shaped link. *client cpu*: seconds of all "
        "threads of the client's own process; *wall*: of the step, in which client and workers share the machine's cores. "
        "Memory is the peak of each process. Money is arithmetic on measured seconds and bytes at the assumed prices. ``glwe`` "
        "is extrapolated from one row of each layer, as *formula* says. The notes say, for each batch, whether outsourcing "
        "pays in time, memory or money.",
    ),
    Published(
        "step_cost",
        "Cost of a step, predicted",
        "private_lora.publish.tables.step_cost:step_cost",
        "What a private fine-tuning step costs, as the cost model predicts it: seconds, bytes per token and money by model, "
        "scheme, network and arrangement of workers. *products* and *local* say whether parts were measured or extrapolated, "
        "*formula* how. The sum is always a prediction. Networks and prices are assumptions of the configuration (section "
        "``costs``).",
    ),
    Published(
        "cost_validation",
        "The cost model through workers, and the steps measured",
        "private_lora.publish.tables.cost_validation:cost_validation",
        "What the cost model predicts of whole steps through workers, on loopback or a shaped link, beside the steps that "
        "were measured: the error with its sign, and whether it is within 15 %. Parts were measured by themselves, never "
        "fitted to the step predicted; *unseen* says what of it they were not measured with.",
    ),
    Published(
        "client_economics",
        "What the client pays by size of model",
        "private_lora.publish.tables.economics:client_economics",
        "What the client pays by size of model: predicted seconds of encryption, decryption and quantization beside the "
        "plaintext float32 and int8 products of the same layers on the same machine, what a whole step measured of them and "
        "how far the prediction is off, and memory beside that of LoRA in the clear and of full fine-tuning. The notes say, "
        "for each scheme, from which size on handing the products over takes the client less time than computing them.",
    ),
    Published(
        "estimate_errors",
        "Estimates before a run, and the run",
        "private_lora.publish.tables.estimate_errors:estimate_errors",
        "What ``private-lora estimate`` said before a run, after a calibration of some seconds, and what that run then "
        "measured, client and worker in one process: the error with its sign, over the measured value. Step time is the "
        "median behind the first step. Bytes are *planned* where every layer's parameters were taken from its own weights.",
    ),
    Published(
        "published_comparison",
        "Published numbers beside ours",
        "private_lora.publish.tables.comparison:published_comparison",
        "Published numbers beside ours. Both sides of a row were normalised in the same way (column *normalisation*) before "
        "the ratio was taken. Models, data and hardware differ, as the column *differences* says: a ratio is a comparison of "
        "like quantities, not of like experiments. Costs by token stand with the tokens of the batch on either side, and are "
        "divided only where the calls are arranged alike. An empty cell under *ours* means that this study has no such run.",
    ),
    Published(
        "literature",
        "Other systems' published figures, and ours",
        "private_lora.publish.tables.literature:literature",
        "What others published for private inference and training of language models, and our measured steps and texts of "
        "Llama-3.2-1B: who is trusted, how often client and server talk, on which hardware, what is protected, and the figure "
        "with its source and certainty. No ratio is taken across hardware, models, tasks or threat models; the notes say what "
        "cannot be compared.",
    ),
    Published(
        "runs",
        "All runs",
        "private_lora.publish.tables.convergence:runs",
        "Every run of the study: setting, status, basis, total time and peak memory of its process.",
    ),
)
