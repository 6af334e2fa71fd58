"""The shaped link: bytes arrive unchanged, never sooner than bandwidth and delay allow; ends and breaks are passed on."""

import asyncio
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from private_lora.core.errors import UserError
from private_lora.network.tools.link import Line, Link, _read

LOCAL = ("127.0.0.1", 0)


async def serving(handler):
    """A server on a free port and its address."""
    server = await asyncio.start_server(handler, *LOCAL)
    return server, server.sockets[0].getsockname()


async def echo(reader, writer):
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def sent_through(link_options, pieces, handler=echo):
    """What comes back for `pieces`, sent one by one and then ended; the seconds it took; the stopped link."""
    server, address = await serving(handler)
    link = Link(LOCAL, address, **link_options)
    reader, writer = await asyncio.open_connection(*await link.start())
    start = time.monotonic()

    async def send():
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.write_eof()

    answer, _ = await asyncio.gather(reader.read(), send())
    seconds = time.monotonic() - start
    writer.close()
    await link.stop()
    server.close()
    return answer, seconds, link


def run(work):
    """The result of a coroutine that must not hang."""
    return asyncio.run(asyncio.wait_for(work, 30))


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 200_000), min_size=1, max_size=8),
    st.sampled_from([{}, {"latency": 0.004}, {"bandwidth": 4e8}, {"bandwidth": 4e8, "latency": 0.002}]),
)
@settings(max_examples=30)
def test_bytes_arrive_unchanged_and_are_counted(seed, sizes, options):
    pieces = [random.Random(seed + i).randbytes(size) for i, size in enumerate(sizes)]
    answer, _, link = run(sent_through(options, pieces))
    assert answer == b"".join(pieces)
    assert (link.there.carried, link.back.carried) == (sum(sizes), sum(sizes))


def test_directions_are_counted_apart():
    async def short_answer(reader, writer):
        await reader.read()
        writer.write(b"thanks")
        writer.close()

    answer, _, link = run(sent_through({}, [bytes(300_000)], short_answer))
    assert answer == b"thanks"
    assert (link.there.carried, link.back.carried) == (300_000, 6)


def test_no_more_passes_than_the_bandwidth():
    """1 MB at 20 Mbit/s are 0.4 s; an idle line saved up 5 ms."""
    payload = os.urandom(1_000_000)
    answer, seconds, _ = run(sent_through({"bandwidth": 2e7}, [payload]))
    assert answer == payload
    assert seconds >= 0.4 - 0.005


def test_connections_share_the_bandwidth():
    async def work():
        server, address = await serving(echo)
        link = Link(LOCAL, address, bandwidth=2e7)
        host, port = await link.start()

        async def ask():
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(bytes(250_000))
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            return len(answer)

        start = time.monotonic()
        assert await asyncio.gather(*(ask() for _ in range(4))) == [250_000] * 4
        seconds = time.monotonic() - start
        await link.stop()
        server.close()
        return seconds, link

    seconds, link = run(work())
    assert seconds >= 0.4 - 0.005
    assert link.there.carried == link.back.carried == 1_000_000


def test_an_answer_takes_the_latency():
    answer, seconds, _ = run(sent_through({"latency": 0.3}, [b"x"]))
    assert answer == b"x"
    assert seconds >= 0.3


def test_bytes_on_their_way_do_not_hold_up_those_behind():
    """All is read, and due one delay after its turn on the line, before anything has arrived."""

    async def work():
        line, queue = Line(8e8, 1000.0), asyncio.Queue()
        source, sender = socket.socketpair(socket.AF_UNIX)
        with source, sender:
            source.setblocking(False)
            sender.setblocking(False)
            start = asyncio.get_running_loop().time()
            sending = asyncio.get_running_loop().sock_sendall(sender, bytes(3_000_000))
            reading = asyncio.create_task(_read(line, source, queue))
            await sending
            sender.shutdown(socket.SHUT_WR)
            await reading
        return start, [queue.get_nowait() for _ in range(queue.qsize())]

    start, queued = run(work())
    assert sum(len(data) for _, data in queued) == 3_000_000
    assert queued[-1][1] == b""
    dues = [due for due, _ in queued]
    assert dues == sorted(dues)
    assert start + 1000 + 0.03 - 0.005 <= dues[-1] < start + 2000


def test_the_line_takes_its_time_for_every_byte():
    line = Line(8_000.0, 2.0)  # 1000 bytes a second
    assert line.arrival(1000, 10.0) == pytest.approx(13.0 - 0.005)
    assert line.arrival(500, 10.1) == pytest.approx(13.5 - 0.005)
    assert line.busy(10.1) == pytest.approx(11.5 - 0.005 - 10.1 - 0.005)
    assert line.arrival(0, 20.0) == pytest.approx(22.0)
    assert line.busy(20.0) < 0


def test_each_side_may_end_before_the_other():
    async def answer_after_the_end(reader, writer):
        question = await reader.read()
        writer.write(question[::-1])
        writer.close()

    answer, _, _ = run(sent_through({"latency": 0.01}, [b"abc"], answer_after_the_end))
    assert answer == b"cba"


def test_a_refused_connection_is_closed():
    async def work():
        with socket.create_server(LOCAL) as unused:
            nobody = unused.getsockname()
        link = Link(LOCAL, nobody)
        reader, writer = await asyncio.open_connection(*await link.start())
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        await link.stop()

    run(work())


def break_off(writer):
    """Close so that the other end gets a reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def test_a_break_is_passed_on_either_way_and_others_go_on():
    async def work():
        broken = asyncio.Event()

        async def handler(reader, writer):
            try:
                if await reader.readexactly(1) == b"!":
                    break_off(writer)
                    return
                writer.write(b"ok")
                await reader.read()
                writer.close()
            except ConnectionResetError:
                broken.set()

        server, address = await serving(handler)
        link = Link(LOCAL, address, latency=0.002)
        here = await link.start()
        reader, writer = await asyncio.open_connection(*here)
        writer.write(b"!")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        _, writer = await asyncio.open_connection(*here)
        writer.write(b"?")
        await asyncio.sleep(0.05)
        break_off(writer)
        await broken.wait()
        reader, writer = await asyncio.open_connection(*here)
        writer.write(b"?")
        assert await reader.readexactly(2) == b"ok"
        await link.stop()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        server.close()

    run(work())


def test_a_reader_that_waits_keeps_the_sender_waiting(monkeypatch):
    """With the queue cut to 1 MiB, a sender of 64 MB cannot be done before anybody reads; nothing is lost."""
    monkeypatch.setattr("private_lora.network.tools.link._LARGEST_QUEUE", 2**20)
    payload = bytes(2**26)

    async def work():
        may_read, received = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def handler(reader, writer):
            await may_read.wait()
            received.set_result(len(await reader.read()))
            writer.close()

        server, address = await serving(handler)
        link = Link(LOCAL, address)
        _, writer = await asyncio.open_connection(*await link.start())
        writer.write(payload)
        writer.write_eof()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(writer.drain()), 0.5)
        may_read.set()
        assert await received == len(payload)
        await link.stop()
        server.close()

    run(work())


@pytest.mark.parametrize(
    "options", [{"bandwidth": 0.0}, {"bandwidth": float("nan")}, {"latency": -1.0}, {"latency": float("inf")}]
)
def test_impossible_links_are_refused(options):
    with pytest.raises(UserError, match="give a"):
        Link(LOCAL, LOCAL, **options)


def test_an_address_in_use_is_named():
    with socket.create_server(LOCAL) as taken, pytest.raises(UserError, match="cannot listen on 127"):
        asyncio.run(Link(taken.getsockname(), LOCAL).start())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_where_it_listens_and_what_it_carried(number):
    with socket.create_server(LOCAL) as target:
        to = f"127.0.0.1:{target.getsockname()[1]}"
        command = [sys.executable, "-m", "private_lora", "link", "--listen", "127.0.0.1:0", "--to", to, "--bandwidth", "1e8"]
        with subprocess.Popen([*command, "--latency", "0.01"], stdout=subprocess.PIPE, text=True) as process:
            port = int(process.stdout.readline().removeprefix("listening on 127.0.0.1:"))
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                server, _ = target.accept()
                with server:
                    client.sendall(b"question")
                    assert server.recv(8, socket.MSG_WAITALL) == b"question"
                    server.sendall(b"answer")
                    assert client.recv(6, socket.MSG_WAITALL) == b"answer"
                process.send_signal(number)
                assert process.stdout.readline() == "carried 8 bytes there and 6 back\n"
        assert process.returncode == 0
