"""What a script holds while its model is private: counters, times, what is where, and the end of it all."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from private_lora.api.layers import Layers
from private_lora.backends.contract import Counters
from private_lora.core.errors import UserError
from private_lora.results.provenance import Start
from private_lora.specs.backends import BACKENDS
from private_lora.specs.split import SplitSpec
from private_lora.split.session import Session, Timings
from private_lora.training.exactness import exactness
from private_lora.training.preparation import check_encrypted


class PrivateSession:
    """A model's remote layers: what they did, and how to end them. Made by `make_private`.

    As a context manager it closes itself. spec: the settings, as plain data.
    """

    def __init__(self, spec: SplitSpec, session: Session, layers: Layers, started: Start):
        self.spec = spec
        self._session, self._place, self._started = session, session.place, started
        self._begin, self._seconds = time.perf_counter(), None
        self._layers = {"remote": len(layers.remote), "local": len(layers.local), "local_names": layers.local}
        self._of_backend: dict | None = None

    @property
    def counters(self) -> Counters:
        """Products, those that were encrypted, bytes of ciphertexts and of messages, round trips, retries, wrong answers."""
        return self._session.counters

    @property
    def times(self) -> Timings:
        """Seconds of each operation of the remote products."""
        return self._session.timings

    @property
    def is_encrypted(self) -> bool:
        """Whether products were computed, and every one of them was encrypted, by the count of who computed them."""
        return 0 < self.counters.products == self.counters.encrypted_products

    def report(self) -> dict:
        """Everything there is to tell, fit for JSON: settings, layers with their parameters, counters, times, machine."""
        session = self._session
        return {
            "spec": self.spec.to_dict(),
            "claims_encryption": BACKENDS[self.spec.backend].encrypted,
            "is_encrypted": self.is_encrypted,
            "layers": self._layers,
            "counters": asdict(self.counters),
            "exactness": exactness(session),
            "times": asdict(self.times),
            "seconds": self._seconds or time.perf_counter() - self._begin,
            "backend": session.backend.report() | (self._of_backend or self._metrics()),
            "place": self._place.report(),
            "products": {p.name: p.plan.report() for p in session.products},
            "environment": self._started.environment(),
        }

    def summary(self) -> str:
        """The report in a few lines."""
        counters, times, layers = self.counters, self.times, self._layers
        bits = f" at {self.spec.weight_bits} bits" if self.spec.weight_bits else ""
        lines = [
            f"{self.spec.backend}{bits}: {layers['remote']} frozen linear layers elsewhere, {layers['local']} here",
            f"{counters.products} remote products, {counters.encrypted_products} of them encrypted{self._warning()}",
            f"{_megabytes(counters.upload_ciphertext_bytes)} of ciphertexts up, "
            f"{_megabytes(counters.download_ciphertext_bytes)} down",
            f"encrypting {times.encrypt_s:.1f} s, products {times.matmul_s:.1f} s, decrypting {times.decrypt_s:.1f} s",
        ]
        if counters.round_trips:
            lines.append(
                f"{counters.round_trips} round trips, {counters.retries} retries, {counters.rejected_answers} wrong answers; "
                f"{_megabytes(counters.sent_bytes)} sent, {_megabytes(counters.received_bytes)} received"
            )
        return "\n".join(lines)

    def close(self) -> None:
        """End the session: say goodbye to workers, let go of keys and masks; the model's remote layers cannot be called again.

        Raises RuntimeError if the backend claims encryption and no product was encrypted.
        """
        if self._seconds is None:
            self._end()
            check_encrypted(self.spec, self.counters.encrypted_products)

    def __enter__(self) -> PrivateSession:
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.close()
        elif self._seconds is None:
            self._end()  # what went wrong before is told, not what is wrong with the count because of it

    def _end(self) -> None:
        session = self._session
        self._seconds = time.perf_counter() - self._begin
        self._of_backend = self._metrics()
        counters = session.place.counters
        close_place(session.place)
        session.place, session.keys = _Closed(counters), None
        for product in session.products:
            product.client, product.server = _Ended(product.client.counters), _Ended(product.server.counters)

    def _metrics(self) -> dict:
        return {name: value for name, (value, _) in self._session.backend.metrics(self._session.keys).items()}

    def _warning(self) -> str:
        if self.is_encrypted or not BACKENDS[self.spec.backend].encrypted:
            return ""
        return f": NOT what {self.spec.backend} promises"


def close_place(place) -> None:
    """End the sessions with workers, if that is where products are computed."""
    if not place.is_local:
        place.close()


@dataclass
class _Ended:
    """What stays of a client or a server."""

    counters: Counters


class _Closed:
    """Where products of a closed session are not computed any more."""

    is_local = True

    def __init__(self, counters: Counters):
        self.counters = counters

    def product(self, *_):
        raise UserError(
            "the session of this model is closed and its frozen weights are not here: load the base model and the adapter again"
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
