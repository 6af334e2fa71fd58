"""Whether outsourcing pays: private fine-tuning beside plain LoRA on the same machine, in time, memory and money."""

from __future__ import annotations

from dataclasses import dataclass

from private_lora.core.units import of_bytes, of_seconds


@dataclass(frozen=True)
class Way:
    """A way to train. seconds, money: of the whole training. memory: of the user's machine; fits: whether that has it."""

    name: str
    seconds: float
    memory: float
    fits: bool
    money: float


def verdict(private: Way, plain: list[Way], machine_memory: float) -> dict:
    """`outsource`: whether it pays; `reason`: memory, time or money; `said`: the sentence with the numbers that decide.

    It pays where no plain way fits the machine and the private client does, or where the private training takes less time than
    every plain way that fits. Plain LoRA at home is private too, so equal is not enough.
    """
    fitting = [way for way in plain if way.fits]
    if not private.fits:
        return _said(
            False, "memory", f"no: its client takes {of_bytes(private.memory)} and this machine has {of_bytes(machine_memory)}"
        )
    if not fitting:
        least = min(plain, key=lambda way: way.memory)
        needs = f"{least.name} takes {of_bytes(least.memory)} of {of_bytes(machine_memory)}"
        text = f"{needs}, the private client {of_bytes(private.memory)}"
        return _said(True, "memory", f"yes: plain LoRA does not fit this machine in any type: {text}")
    fastest = min(fitting, key=lambda way: way.seconds)
    times = f"{of_seconds(private.seconds)} in private, {of_seconds(fastest.seconds)} for plain LoRA in {fastest.name}"
    if private.seconds < fastest.seconds:
        return _said(True, "time", f"yes: the training takes {times}")
    cheapest = min(fitting, key=lambda way: way.money)
    ratio = private.seconds / fastest.seconds
    text = f"no: the training takes {times}, {ratio:.3g} times as long"
    if private.money < cheapest.money:
        text += f"; it would cost {private.money:.4g} instead of {cheapest.money:.4g}"
    return _said(False, "time", text)


def _said(outsource: bool, reason: str, said: str) -> dict:
    return {"outsource": outsource, "reason": reason, "said": said}
