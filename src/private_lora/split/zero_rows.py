"""What noise in the zero rows of a gradient does to the gradient of the adapter: measured with noise of a known size.

A row of gradient that is exactly zero has no range. Given the scale 1, as by the reference implementation, its encrypted
product is decrypted as noise times the weight's scale s_c, c = 1..K an input of the layer. What follows in backward is linear:

    E |grad + J noise|^2 = |grad|^2 + sigma^2 E |J s v|^2,    v of independent entries +1 and -1,

for independent noise of mean 0 and standard deviation sigma, through whatever layers J leads to the adapter. `ZeroRowProbe`
makes s v, and it goes where noise would go: once it has been added, the rows of later products are no longer zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from private_lora.split.quantizers import OutputTerms


@dataclass
class ZeroRowProbe:
    """Noise for the zero rows of one backward pass. rows: how many got some. of_rows: of all rows of those products.

    squares: sum over these rows of the mean squared weight scale.
    """

    generator: np.random.Generator
    rows: int = 0
    of_rows: int = 0
    squares: float = 0.0

    def add(self, gradient: np.ndarray, is_zero: np.ndarray, terms: OutputTerms) -> None:
        """Add s v to the input gradients (T x K, in place) of the rows whose output gradient is zero (T, bool)."""
        count = int(is_zero.sum())
        if not count:
            return
        signs = self.generator.choice(np.float32([-1, 1]), (count, gradient.shape[1]))
        gradient[is_zero] += signs * terms.scale
        self.rows += count
        self.of_rows += len(is_zero)
        self.squares += count * float((terms.scale.astype(np.float64) ** 2).mean())
