"""A TCP relay that stands for a slower network: every byte waits for its turn on the line and for the way it has to go."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
import struct

from private_lora.core.errors import UserError

# What one read takes, what an idle line saves up, and how far reading runs ahead of the line. The longer, the fewer turns of
# the loop; the shorter, the finer the steps in which bytes arrive. Timers are late by up to a millisecond.
_TICK_S = 0.005
_SMALLEST_READ, _LARGEST_READ = 2**10, 2**18
# Bytes of one connection and direction on their way or waiting for a slow reader; then nothing more is read.
_LARGEST_QUEUE = 2**26
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: the other end learns that the connection broke, instead of that it ended


class Line:
    """One direction of a link: a token bucket for all connections together, kept as the time when all that it took is sent.

    bandwidth: bits per second of payload; headers are not counted. delay: seconds between leaving and arriving. carried: bytes
    that arrived.
    """

    def __init__(self, bandwidth: float, delay: float):
        self.carried = 0
        self.delay, self._bytes_per_second, self._free_at = delay, bandwidth / 8, -math.inf
        self.read_bytes = int(min(max(self._bytes_per_second * _TICK_S, _SMALLEST_READ), _LARGEST_READ))
        self.largest_queue = _LARGEST_QUEUE // self.read_bytes

    def arrival(self, count: int, now: float) -> float:
        """When the last of `count` bytes, which take their turn on the line now, will be at the other end."""
        self._free_at = max(self._free_at, now - _TICK_S) + count / self._bytes_per_second
        return max(self._free_at, now) + self.delay

    def busy(self, now: float) -> float:
        """Seconds until more bytes should be read; not positive when they may be right away."""
        return self._free_at - now - _TICK_S


class Link:
    """Relays TCP connections from `listen` to `target`, each a host and a port; port 0 takes a free one.

    bandwidth: bits per second in each direction, for all connections together. latency: seconds there and back, half of it each
    way. Bytes in flight do not hold up those behind them. Setting up a connection takes no time on the line. An end of stream
    and a broken connection are passed on, the one after the bytes before it, the other at once.

    there, back: the two lines, whose `carried` counts bytes. Raises UserError when bandwidth or latency cannot be.
    """

    def __init__(self, listen: tuple[str, int], target: tuple[str, int], bandwidth: float = math.inf, latency: float = 0.0):
        if not bandwidth > 0:
            raise UserError(f"a link of {bandwidth} bit/s carries nothing: give a positive bandwidth")
        if not 0 <= latency < math.inf:
            raise UserError(f"a latency of {latency} s is not possible: give a number of seconds from 0 on")
        self.there, self.back = Line(bandwidth, latency / 2), Line(bandwidth, latency / 2)
        self._listen, self._target = listen, target
        self._tasks: set[asyncio.Task] = set()

    async def start(self) -> tuple[str, int]:
        """Accept connections from now on; host and port where. Raises UserError when that address cannot be listened on."""
        family = socket.AF_INET6 if ":" in self._listen[0] else socket.AF_INET
        try:
            listener = socket.create_server(self._listen, family=family)
        except OSError as error:
            host, port = self._listen
            raise UserError(f"cannot listen on {host} port {port} ({error.strerror}): name another address") from None
        listener.setblocking(False)
        self._start(self._accept(listener))
        return listener.getsockname()[:2]

    async def stop(self) -> None:
        """Accept nothing more and break the connections that are left."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        with listener:
            while True:
                try:
                    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                except OSError:  # out of file descriptors, or given up by the other side meanwhile
                    await asyncio.sleep(0.1)
                else:
                    self._start(self._relay(connection))

    async def _relay(self, client: socket.socket) -> None:
        """Carry both directions until both have ended; when one breaks or the target cannot be reached, all is broken."""
        ends, ended = [client], False
        try:
            ends.append(await self._connect())
            for end in ends:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.TaskGroup() as tasks:
                for line, source, sink in ((self.there, *ends), (self.back, *reversed(ends))):
                    queue = asyncio.Queue(line.largest_queue)
                    tasks.create_task(_read(line, source, queue))
                    tasks.create_task(_write(line, queue, sink))
            ended = True
        except* OSError:
            pass  # the other end learns of it below
        finally:
            for end in ends:
                if not ended:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                end.close()

    async def _connect(self) -> socket.socket:
        """A connection to the target; raises OSError when none of its addresses takes one."""
        loop = asyncio.get_running_loop()
        failure = None
        for family, kind, protocol, _, address in await loop.getaddrinfo(*self._target, type=socket.SOCK_STREAM):
            end = socket.socket(family, kind, protocol)
            end.setblocking(False)
            try:
                await loop.sock_connect(end, address)
                return end
            except BaseException as error:
                end.close()
                if not isinstance(error, OSError):
                    raise
                failure = error
        raise failure


async def _read(line: Line, source: socket.socket, queue: asyncio.Queue) -> None:
    """Queue what comes, with the time at which it is due, as fast as the line takes it; no bytes stand for the end."""
    loop = asyncio.get_running_loop()
    data = b"-"
    while data:
        data = await loop.sock_recv(source, line.read_bytes)
        await queue.put((line.arrival(len(data), loop.time()), data))
        await asyncio.sleep(0)  # neither receiving nor queueing lets others run while there is more
        while (seconds := line.busy(loop.time())) > 0:
            await asyncio.sleep(seconds)


async def _write(line: Line, queue: asyncio.Queue, sink: socket.socket) -> None:
    """Pass on what is queued when it is due, the end included."""
    loop = asyncio.get_running_loop()
    while True:
        due, data = await queue.get()
        if due > loop.time():
            await asyncio.sleep(due - loop.time())
        if not data:
            sink.shutdown(socket.SHUT_WR)
            return
        await loop.sock_sendall(sink, data)
        line.carried += len(data)


async def serve(link: Link) -> None:
    """Relay until SIGTERM or SIGINT; prints the address first and what was carried last."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    host, port = await link.start()
    print(f"listening on {f'[{host}]' if ':' in host else host}:{port}", flush=True)
    await stopped.wait()
    await link.stop()
    print(f"carried {link.there.carried} bytes there and {link.back.carried} back", flush=True)
