"""The published figures: name, title, function and the caption of the report. Imports nothing heavy.

In the order in which they are published.
"""

from __future__ import annotations

from private_lora.specs.descriptors import Published

FIGURES = (
    Published(
        "knowledge",
        "Questions answered by training step",
        "private_lora.publish.figures.knowledge:knowledge",
        "Share of unseen questions answered to the last token, by training step, with 95 % Wilson intervals, and under it, on "
        "the same axis, the training loss of the same runs, rehearsed text included, as the mean of the last steps (how many "
        "stands at the axis); a column for every data set. The seed that was run under encryption is drawn strong, the other "
        "seeds of the clear runs pale. Circles: every remote product encrypted; crosses: through workers as well. Both lie on "
        "the line of the exact integers, because they have the very same numbers. *guessing*: knows the form of answers and "
        "no facts.",
    ),
    Published(
        "loss_curves",
        "Loss curves beside the published ones",
        "private_lora.publish.figures.losses:loss_curves",
        "Running mean of the training loss by step. Upper rows: this study, mean over seeds with a band from the lowest to "
        "the highest seed. Last row: the published curves (Llama-3.2-1B, orca-math), the same quantity. One column per "
        "quantizer pair, line style by bits, the float run wide and grey.",
    ),
    Published(
        "final_loss_vs_bits",
        "Loss gap by bits",
        "private_lora.publish.figures.loss_gap:final_loss_vs_bits",
        "Final evaluation loss over that of float with the same seed, less 100 %, by bits: means over the seeds that the panel "
        "names, whiskers from the lowest to the highest seed. Open markers: the published curves (Llama-3.2-1B, orca-math) at "
        "their last step, running mean of the training loss over float's, another model and quantity. The axis is linear "
        "within 1 % and logarithmic beyond. Markers are moved a little sideways so that none covers another; a cross at the "
        "top edge is a run that failed or diverged.",
    ),
    Published(
        "encrypted_minus_clear",
        "Encrypted minus clear, step by step",
        "private_lora.publish.figures.gradients:encrypted_minus_clear",
        "Difference of the training loss to the exact integer run (left) and ratio of the gradient norms (middle), step by "
        "step. The left axis is linear near zero and logarithmic beyond. Right: the published encrypted run minus its clear "
        "run.",
    ),
    Published(
        "gradient_inflation",
        "Gradient inflation by constant rows",
        "private_lora.publish.figures.gradients:gradient_inflation",
        "Gradient norm before clipping (top) and running mean of the training loss (bottom), for float and for noisy products "
        "with constant rows kept exact or treated as in the reference implementation. Left: simulated noise; further columns: "
        "the real scheme.",
    ),
    Published(
        "overflow",
        "Loss and overflow by bits",
        "private_lora.publish.figures.overflow:overflow_by_bits",
        "Top: held-out loss at the end, of exact integers and of the published scheme, simulated, whose sums keep 27 bits and "
        "wrap around beyond. Bottom: share of outputs that wrapped around, forward and backward, linear below 0.001 % and "
        "logarithmic above. Sums are those of signed activations, as all backends here have them, or of unsigned ones, as in "
        "the reference implementation. Open diamond: the published loss of one batch under overflow, another model and texts.",
    ),
    Published(
        "inflation_prediction",
        "Gradient inflation, predicted and measured",
        "private_lora.publish.figures.inflation:inflation_prediction",
        "Gradient norm over the clear integer run's, measured against predicted, one marker a step; a marker on the line was "
        "predicted exactly, and between the dotted lines within 20 %. Grey band: the published five steps of Llama-3.2-1B.",
    ),
    Published(
        "inflation_by_optimizer",
        "The same noise under AdamW and under SGD",
        "private_lora.publish.figures.inflation:inflation_by_optimizer",
        "Training loss, a mean over the last ten steps, of float and of noisy products whose constant rows are kept exact or "
        "have the reference implementation's scale of 1: under AdamW, which normalises the size of its steps, with clipping, "
        "and under plain SGD without.",
    ),
    Published(
        "packed_loss",
        "Loss under packed encryption",
        "private_lora.publish.figures.packed:packed_loss",
        "Left: training loss of float, of the exact integers, and of the run whose remote products were all encrypted "
        "(circles, every fourth step). Right: distance of the loss from the integer run's for the approximate mode and, "
        "dotted, for its simulation, with a marker for each size of the modulus. On a logarithmic axis the exact mode has no "
        "curve: its distance is zero.",
    ),
    Published(
        "time_by_operation",
        "Time by operation of the protocol",
        "private_lora.publish.figures.operations:time_by_operation",
        "Time of each operation over a whole run, evaluation included, on a logarithmic axis. Bars are grouped, "
        "not stacked. *total* includes the work of the client between them and the loading of the model.",
    ),
    Published(
        "layer_latency",
        "Time of one linear layer",
        "private_lora.publish.figures.operations:layer_latency",
        "Time of one linear layer by shape and backend, on a logarithmic axis: median over the repeats, whiskers from the "
        "fastest to the slowest. The first and last panels show only backends that encrypt.",
    ),
    Published(
        "block_latency",
        "Time of a transformer block by batch",
        "private_lora.publish.figures.block:block_latency",
        "Time per token of all linear layers of a transformer block, forward and backward, by tokens per batch, on "
        "logarithmic axes: the plaintext products (bf16 rounds its answers), the server's encrypted product, and the client's "
        "encryption plus decryption. Medians over the repeats, every backend of one batch size in one process. A panel for "
        "each model and machine, with each layer a call, and another with one call for layers that share an input (q, k, v; "
        "gate, up) where that was measured. What was measured at one batch size is in the table and in *equal_batch*.",
    ),
    Published(
        "equal_batch",
        "Time and bytes at equal batch",
        "private_lora.publish.figures.equal_batch:equal_batch",
        "Products of one transformer block, forward and backward, for the same number of tokens, and ciphertext bytes per "
        "token of the whole model, each machine by itself: the run in which most products were measured, all in one process. "
        "Medians over the repeats; ratios are taken within each repeat, over the plaintext products of the same process. Pale: "
        "the client's encryption plus decryption, and the way down. Hatched: ``glwe``, of which one row was measured, times "
        "the tokens; it has no ratio, for that was another process. Plaintext bf16 rounds its answers.",
    ),
    Published(
        "full_step_operations",
        "Where the time of a whole step goes",
        "private_lora.publish.figures.cost:full_step_operations",
        "Where the time of a measured full step goes, mean over its steps: quantization, encryption and decryption at the "
        "client, the product at the server, and everything else, which is the client's own work (attention, norms, LoRA, "
        "head, loss, optimizer).",
    ),
    Published(
        "loopback_step",
        "Where the time goes through workers",
        "private_lora.publish.figures.loopback:loopback_step",
        "Where the time of a run goes, for every arrangement of workers: seconds of the whole run by operation, evaluations "
        "included. The client's own work apart from these (attention, norms, LoRA, head, loss, optimizer) is not "
        "drawn. *Network* is what the client waited less what the workers computed; where several questions are on their way "
        "at once the two overlap, and the whole wait is drawn, hatched. In process, the products are computed by the client's "
        "own process.",
    ),
    Published(
        "worker_view",
        "What a worker receives, in the clear and encrypted",
        "private_lora.publish.figures.worker_view:worker_view",
        "What a worker is sent for the first linear layers of a public text: a row for each token, a column for each of the "
        "first activations, on a scale of all that a number of that many bits can be. Left: quantized integers in the clear, "
        "as split learning sends them. Right: the same rows in a message of packed, parsed from its bytes. Beside each row "
        "the token that an attack reads back from it, green where it is the one: the token of the vocabulary whose input of "
        "this layer, which is public, correlates most with the row. Shares are of all tokens of all questions, with 95 % "
        "Wilson intervals. An illustration of what travels: it proves nothing about security, which rests on RLWE and its "
        "parameters. Shapes and the number of rows are seen in any case.",
    ),
    Published(
        "step_latency",
        "Time of a step by batch, predicted",
        "private_lora.publish.figures.cost:step_latency",
        "Predicted time of a training step, of the model named above the panels, by tokens per batch, on logarithmic axes: "
        "the encrypted schemes with client and one worker on machines like ours and without a network, and plaintext float32 "
        "at the client. Dashed: products extrapolated, ``glwe`` from one row. Stars: steps that were measured whole. *joint*: "
        "one call for layers that share an input; *apart*: each layer a call.",
    ),
    Published(
        "bytes_per_token",
        "Ciphertext bytes per token, predicted",
        "private_lora.publish.figures.cost:bytes_per_token",
        "Predicted ciphertext megabytes per token of a training step, of the model named above the panels, up and down, by "
        "tokens per batch and scheme, with the remote calls of a step (*joint*: one for layers that share an input; *apart*: "
        "each layer a call), on logarithmic axes, with one worker. Dashed: products extrapolated.",
    ),
    Published(
        "step_time_by_bandwidth",
        "Time of a step by bandwidth, predicted",
        "private_lora.publish.figures.bandwidth:step_time_by_bandwidth",
        "Predicted time of a training step against the bandwidth of the client's link, on logarithmic axes, for up to four "
        "batches and the smallest latency of the configuration; beside it the plaintext float32 step at the client, which "
        "needs no network. Squares: the bandwidth at which the network takes as long as client and worker together. Circles: "
        "that from which on the private step is no slower than the plaintext one; a scheme without a circle never is, with "
        "one worker. *joint*: one call for layers that share an input; *apart*: each layer a call. Dashed: products "
        "extrapolated, ``glwe`` from one row.",
    ),
)
