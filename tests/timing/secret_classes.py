"""Whether time depends on secrets: Welch's t between two classes, as dudect has it (Reparaz, Balasch, Verbauwhede 2017).

    python tests/timing/secret_classes.py [--values 1e6]

Classes are measured in random order; each call times a batch of values, and |t| is the largest over percentiles at which slow
calls are cut off. |t| above 4.5 is a difference. Nothing else should run on the machine.
"""

import argparse
import time
from dataclasses import replace

import numpy as np

from private_lora.backends import load
from private_lora.crypto import sampling
from private_lora.crypto.rlwe import decrypt_rows, encrypt_rows
from private_lora.crypto.sampling import Stream, gaussian_errors

LIMIT, WARM_UP, POOL = 4.5, 20, 32
PERCENTILES = (50, 70, 80, 90, 95, 99, 100)


class Drawn:
    """A stream whose numbers are drawn before the time is taken."""

    def __init__(self, words):
        self._words = words

    def draw(self, count, dtype):
        return self._words if dtype == np.int16 else np.zeros(count, dtype)


def sampler(count=4096):
    """Errors that are all zero, and random ones."""

    def random():
        return Drawn(Stream(sampling.fresh_seed()).draw(count, np.int16))

    def zero():
        return Drawn(random().draw(count, np.int16) * np.int16(0))

    return count, zero, random, lambda stream: gaussian_errors(stream, count)


def parts():
    """A layer, and a random matrix of activations and a fresh secret for each call."""
    generator = np.random.default_rng()
    weight = generator.integers(-128, 128, (64, 64))
    backend = load("packed", mask="fresh")
    plan = backend.plan(weight, 8)
    client, server = backend.client(plan), backend.server(plan, weight)
    return client, server, lambda: generator.integers(-128, 128, (64, 64)).astype(np.int8)


def encrypt():
    """Activations that are all zero under a secret of zeros, and random ones."""
    client, _, rows = parts()
    p, delta = client.parameters, np.full(64, float(client.parameters.delta))
    mask, error = bytes(sampling.fresh_seed()), bytes(sampling.fresh_seed())

    def random():
        return rows(), np.random.default_rng().integers(-1, 2, (1, p.ring_size)).astype(np.int8)

    def zero():
        x, secret = random()
        return x * np.int8(0), secret * np.int8(0)

    return 64 * 64, zero, random, lambda made: encrypt_rows(made[0], delta, mask, made[1], error, p)


def decrypt():
    """Answers to activations that are all zero under one secret, and to random ones under fresh secrets."""
    client, server, rows = parts()

    def asked(x):
        answer = server.matmul(client.encrypt(x))
        return answer, client.keys.secret.pop(answer.question_id)

    # As many of one class as of the other, so that both are as often in a cache.
    pool, pick = [asked(rows()) for _ in range(POOL)], np.random.default_rng()
    answer, key = asked(rows() * np.int8(0))
    fixed = [(answer, key)] + [copied(answer, key) for _ in range(POOL - 1)]

    def opened(made):
        answer, key = made
        return decrypt_rows(answer.mask, answer.body, key.delta, key.secrets, client.parameters)

    return 64 * 64, lambda: fixed[pick.integers(POOL)], lambda: pool[pick.integers(POOL)], opened


def copied(answer, key):
    """The same in memory of its own."""
    mask, body = (replace(part, data=part.data.copy()) for part in (answer.mask, answer.body))
    return replace(answer, mask=mask, body=body), replace(key, secrets=key.secrets.copy(), delta=key.delta.copy())


def largest_t(count, first, second, run, values):
    """Largest |t| over croppings, of calls that take `values` values together; and the number of calls."""
    calls, generator = max(2000, int(values / count)), np.random.default_rng()
    classes, times = generator.integers(0, 2, calls + WARM_UP), np.empty(calls + WARM_UP)
    for i, of in enumerate(classes):
        made = (second if of else first)()
        start = time.perf_counter_ns()
        run(made)
        times[i] = time.perf_counter_ns() - start
    classes, times = classes[WARM_UP:], times[WARM_UP:]
    return max(abs(welch(times, classes, np.percentile(times, cut))) for cut in PERCENTILES), calls


def welch(times, classes, most):
    """t of the two classes' means, of times up to a limit."""
    a, b = (times[(classes == of) & (times <= most)] for of in (0, 1))
    return (a.mean() - b.mean()) / np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--values", type=float, default=1e6, help="values in all calls of one comparison, at least")
    values = parser.parse_args().values
    for make in (sampler, encrypt, decrypt):
        count, *arguments = make()
        t, calls = largest_t(count, *arguments, values)
        said = "no difference" if t < LIMIT else "DIFFERENT"
        print(f"{make.__name__}: |t| = {t:.2f} over {calls * count:,} values in {calls:,} calls: {said}", flush=True)


if __name__ == "__main__":
    main()
