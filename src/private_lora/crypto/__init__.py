"""Token-packed RLWE: what the `packed` backends stand on.

parameters: ring size, modulus and noise, chosen under security caps. sampling: masks, secrets and errors from an OS-seeded
stream. ring: negacyclic products. rlwe: encryption and decryption. planes: the server's product. bits: an answer's wire form.
"""

# Whoever edits a kernel deletes __pycache__ here: numba's cache does not see changes in functions of another file.

import llvmlite.binding
import numba

if numba.config.CPU_FEATURES is None:
    # LLVM prefers 256-bit vectors on CPUs that have 512; these kernels gain a quarter from the wider ones. No effect elsewhere.
    numba.config.CPU_FEATURES = llvmlite.binding.get_host_cpu_features().flatten() + ",-prefer-256-bit"
