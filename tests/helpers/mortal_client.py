"""A program that asks questions under masks of a directory in one life after another, each of which ends at some moment.

    python mortal_client.py DIRECTORY LOG QUESTIONS MOST_SECRETS SEED

LOG gets a line before each use: `q` for a question, `p MASK PAIR` for a mask with a secret, as digests. A life is a process
that is killed before or after a named step, or at a random moment, or that ends because a mask has had its secrets.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from private_lora.backends import load
from private_lora.backends.packed import session
from private_lora.backends.packed.exact import PackedKeys
from private_lora.backends.packed.masks import Masks
from private_lora.core.errors import Interrupted
from private_lora.crypto import pads
from private_lora.crypto.bits import TiledBits
from private_lora.crypto.kernels import fastest_kernel

STEPS = {
    "reserve": (Masks, "_reserve"),
    "write": (Masks, "_write"),
    "spend": (Masks, "spend"),
    "draw": (session, "fresh_secrets"),
    "pad": (pads.Pad, "__init__"),
    "take": (pads.Pad, "take"),
    "encrypt": (session, "encrypt_slots"),
    "answer": (session.SessionServer, "matmul"),
    "phase": (pads, "_phases"),
    "decrypt": (session, "decrypt_slots"),
    "forget": (session.SessionClient, "forget"),
}
MOMENTS = [(step, when) for step in STEPS for when in ("before", "after")]
ENDED, WRONG = 3, 4
WEIGHT = np.array([[77], [-128]])
ROWS = (1, 1, 1, 2, 7, 8, 60, 511, 513, 1100)


def dies_at(step, when, call):
    """Make this process kill itself at the given call of a step."""
    holder, name = STEPS[step]
    original, left = getattr(holder, name), [call]

    def mortal(*arguments, **keywords):
        left[0] -= 1
        if when == "before" and left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **keywords)
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(holder, name, mortal)


def live(directory, log, most, chance, moment):
    """Ask until death; returns how it ended if something else came first."""
    out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    make = pads.Pad.__init__
    keys = PackedKeys(directory)
    try:
        keys.masks = Masks(directory, most)
        used = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("p")]

        def recorded(pad, mask_key, inputs, secrets, parameters):
            mask = hashlib.sha256(mask_key).hexdigest()[:16]
            for secret in secrets:
                pair = hashlib.sha256(mask_key + secret.tobytes()).hexdigest()[:32]
                os.write(out, f"p {mask} {pair}\n".encode())
                used.append(mask)
            # What is on disk covers every secret that there ever was under this mask, this one too.
            assert json.loads((directory / "masks.json").read_text())["reserved"] >= used.count(mask)
            make(pad, mask_key, inputs, secrets, parameters)

        pads.Pad.__init__ = recorded
        if moment:
            dies_at(*moment, chance.choice([0, 0, 1, 5, 20]))
        return ask(keys, out, chance)
    except Interrupted:
        return ENDED


def ask(keys, out, chance):
    backend = load("packed")
    plan = backend.plan(WEIGHT, 8)
    client, server = backend.client(plan, keys).prepare(WEIGHT), backend.server(plan, WEIGHT)
    waiting = []
    while True:
        os.write(out, b"q\n")
        x = np.array([[chance.randrange(-128, 128) for _ in range(2)]] * chance.choice(ROWS))
        question = client.encrypt(x)
        if chance.random() < 0.1:  # it is given up, and the same rows are asked again
            client.forget(question)
            question = client.encrypt(x)
        waiting.append((x, server.matmul(question)))
        if len(waiting) > 3:
            x, answer = waiting.pop(chance.randrange(4))
            if chance.random() < 0.1:  # a wrong answer
                body = TiledBits(answer.body.data ^ 0x55, answer.body.rows, answer.body.columns, answer.body.bits)
                client.decrypt(replace(answer, body=body))
                answer = server.matmul(client.encrypt(x))
            if not np.array_equal(client.decrypt(answer), x @ WEIGHT):
                return WRONG


def main(directory, log, questions, most, seed):
    """Lives until so many questions were asked and each moment had its turn."""
    directory, log, chance = Path(directory), Path(log), random.Random(int(seed))
    fastest_kernel()
    log.touch()
    lives = 0
    endings = {}
    while lives < len(MOMENTS) or log.read_text().count("q\n") < int(questions):
        moment = MOMENTS[lives] if lives < len(MOMENTS) else None
        child = os.fork()
        if not child:
            code = 1
            try:
                code = live(directory, log, int(most), random.Random(chance.random()), moment)
            finally:
                os._exit(code)
        if not moment:
            time.sleep(chance.uniform(0, 3))
            os.kill(child, signal.SIGKILL)
        ending = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert ending in (-signal.SIGKILL, ENDED), (moment, ending)
        endings[ending] = endings.get(ending, 0) + 1
        chance.random()
        lives += 1
    print(json.dumps(endings))


if __name__ == "__main__":
    main(*sys.argv[1:])
