"""Parameters of the encryption of a run in one line, from its sidecar."""

from __future__ import annotations

from numbers import Number


def parameters_text(sidecar: dict) -> str:
    """Each parameter with its range over the products, backends apart; says so where nothing was encrypted.

    A backend that trains by itself keeps its parameters to itself; what it measured of them are rows of the record.
    """
    texts = [_of_products(name, products) for name, products in _by_backend(sidecar).items()]
    return "; ".join(text for text in texts if text) or _without(sidecar)


def _by_backend(sidecar: dict) -> dict[str, list[dict]]:
    """Parameters of the products of each backend ("" for the only one)."""
    if "layers" in sidecar:
        plans = sidecar["layers"].values()
        return {"": [plan["parameters"] | {"security_bits": plan["security_bits"]} for plan in plans if plan["security_bits"]]}
    parameters = sidecar.get("parameters") or {}
    if all(isinstance(value, dict) for value in parameters.values()):
        return {name: list(shapes.values()) for name, shapes in parameters.items()}
    return {"": [parameters]}


def _of_products(name: str, products: list[dict]) -> str:
    ranges = {}
    for product in products:
        for key, value in product.items():
            if isinstance(value, Number):
                low, high = ranges.get(key, (value, value))
                ranges[key] = min(low, value), max(high, value)
    if not ranges:
        return ""
    said = ", ".join(f"{key} {low:g}" if low == high else f"{key} {low:g} to {high:g}" for key, (low, high) in ranges.items())
    return f"{name + ': ' if name else ''}{len(products)} products, {said}"


def _without(sidecar: dict) -> str:
    security = sidecar.get("facts", {}).get("security_bits")
    return f"security_bits {security[0]}, others not recorded" if security and security[0] else "none: nothing was encrypted"
