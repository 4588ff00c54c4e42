"""What `samlet serve` promises under load, measured over loopback.

python -m benchmarks.serving mixed --clients 50 --clicks 1000    answers equal to a serial run's, on the fake backend
python -m benchmarks.serving nominal --users 20 --requests 10000 all 200, on the fake backend
python -m benchmarks.serving overload --minutes 10               twice the capacity: 200, 429 or 503; p99; memory
python -m benchmarks.serving rate --rounds 5                     clicks a second, served and bare, with nano
"""

import argparse
import asyncio
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

import numpy as np

from benchmarks.http_client import Connection, Reply
from benchmarks.serving_process import Served, fake_model, picture, served
from samlet.embedding import Embedding
from samlet.model import Model

WARM_UP_SECONDS = 60.0


async def patiently(ask: Callable[[], Awaitable[Reply]]) -> Reply:
    """Come back when told to, as polite clients do."""
    reply = await ask()
    while reply.status in (429, 503):
        await asyncio.sleep(0.05)
        reply = await ask()
    return reply


async def embedded(connection: Connection, data: bytes) -> str:
    reply = await patiently(lambda: connection.ask("POST", "/v1/embeddings", data, "image/png"))
    assert reply.status == 201, reply.body
    return str(reply.json()["id"])


def click(number: int, step: int) -> list[float]:
    return [float((7 * step + 13 * number) % 128), float((5 * step + 3 * number) % 96)]


async def clicked(connection: Connection, name: str, point: list[float]) -> Reply:
    return await connection.post(f"/v1/embeddings/{name}/segment", {"points": [point]})


async def mixed(clients: int, clicks: int) -> None:
    model = fake_model()
    pictures = [picture(number) for number in range(clients)]
    views = [model.embed(each) for each in pictures]

    async def client(port: int, number: int) -> list[tuple[int, str]]:
        connection = Connection(port)
        name = await embedded(connection, pictures[number])
        found = []
        for step in range(clicks):
            reply = await patiently(partial(clicked, connection, name, click(number, step)))
            mask = reply.json()["masks"][0]
            found.append((reply.status, mask["rle"]["counts"]))
        await connection.close()
        return found

    with served() as server:
        started = time.perf_counter()
        answers = await asyncio.gather(*(client(server.port, number) for number in range(clients)))
        seconds = time.perf_counter() - started
    wrong = statuses = 0
    for number, found in enumerate(answers):
        for step, (status, counts) in enumerate(found):
            truth = model.segment(views[number], points=click(number, step)).to_rle()[0]["counts"]
            wrong += counts != truth
            statuses += status != 200
    different = len({answer for found in answers for _, answer in found})
    print(
        f"{clients} clients x {clicks:,} clicks in {seconds:.0f} s: {wrong} answers differ from the serial run, "
        f"{statuses} not 200; {different:,} different masks"
    )


async def nominal(users: int, requests: int) -> None:
    async def user(port: int, number: int) -> list[Reply]:
        connection = Connection(port)
        name = await embedded(connection, picture(number))
        replies = []
        for step in range(requests):
            reply = await clicked(connection, name, click(number, step))
            reply.body = b""
            replies.append(reply)
        await connection.close()
        return replies

    with served() as server:
        before = server.rss()
        started = time.perf_counter()
        found = await asyncio.gather(*(user(server.port, number) for number in range(users)))
        seconds = time.perf_counter() - started
        after = server.rss()
    replies = [reply for each in found for reply in each]
    times = np.array([reply.seconds for reply in replies]) * 1000
    print(
        f"{users} users x {requests:,} requests in {seconds:.0f} s ({len(replies) / seconds:.0f} a second): "
        f"{dict(Counter(reply.status for reply in replies))}; median {np.median(times):.1f} ms, p99 "
        f"{np.percentile(times, 99):.1f} ms; RSS {before / 2**20:.0f} to {after / 2**20:.0f} MiB"
    )


async def overload(minutes: float, decode_ms: float) -> None:
    with served("--decode-ms", str(decode_ms)) as server:
        connections = [Connection(server.port) for _ in range(20)]
        names = [await embedded(each, picture(number)) for number, each in enumerate(connections)]
        times, capacity = await _closed_loop(connections, names, seconds=30)
        usual = float(np.percentile(times, 99))
        print(f"nominal, 20 users: {capacity:.0f} answers a second, p99 {usual * 1000:.0f} ms", flush=True)
        statuses, answered, memory = await _open_loop(server, names, rate=2 * capacity, seconds=minutes * 60)
        for each in connections:
            await each.close()
    p99 = float(np.percentile(answered, 99))
    warm = [rss for at, rss in memory if at >= min(WARM_UP_SECONDS, minutes * 20)]
    settled, last = warm[0], max(warm[-max(1, len(warm) // 10) :])
    print(
        f"twice the capacity for {minutes:g} minutes: {dict(statuses)}; p99 of answers {p99 * 1000:.0f} ms, "
        f"{p99 / usual:.2f} times nominal; RSS {settled / 2**20:.1f} MiB after warm-up, {last / 2**20:.1f} at the end "
        f"({100 * (last - settled) / settled:+.1f} %)"
    )


async def _closed_loop(
    connections: list[Connection], names: list[str], *, seconds: float
) -> tuple[list[float], float]:
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def user(number: int) -> None:
        step = 0
        while time.perf_counter() < end:
            reply = await clicked(connections[number], names[number], click(number, step))
            assert reply.status == 200, reply.body
            times.append(reply.seconds)
            step += 1

    await asyncio.gather(*(user(number) for number in range(len(names))))
    return times, len(times) / seconds


async def _open_loop(
    server: Served, names: list[str], *, rate: float, seconds: float
) -> tuple[Counter[int], list[float], list[tuple[float, int]]]:
    """Send at a rate, whatever comes back: each request on a connection that is free, or on a new one."""
    statuses: Counter[int] = Counter()
    answered: list[float] = []
    memory: list[tuple[float, int]] = []
    free: list[Connection] = []
    running: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        connection = free.pop() if free else Connection(server.port)
        name = names[number % len(names)]
        try:
            reply = await clicked(connection, name, click(number % len(names), number))
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            statuses[0] += 1
            await connection.close()
            return
        statuses[reply.status] += 1
        if reply.status == 200:
            answered.append(reply.seconds)
        free.append(connection)

    started = time.perf_counter()
    sent = 0
    while (passed := time.perf_counter() - started) < seconds:
        while sent < passed * rate:
            task = asyncio.create_task(one(sent))
            running.add(task)
            task.add_done_callback(running.discard)
            sent += 1
        if not memory or passed - memory[-1][0] >= 1:
            memory.append((passed, server.rss()))
        await asyncio.sleep(0.002)
    await asyncio.gather(*running)
    for connection in free:
        await connection.close()
    return statuses, answered, memory


async def rate(rounds: int, seconds: float, photo: str, threads: int, users: int) -> None:
    """Clicks a second on one embedded photograph, each answered by a full-size mask as run lengths, served and bare.

    Bare means calls of the library from as many threads as the server has workers. The client's processor time is
    the server's loss, since both share the machine: it is counted and printed, and nothing is subtracted for it.
    """
    from pathlib import Path

    from samlet.model import load

    data = Path(photo).read_bytes()
    model = load("nano", threads=threads)
    view = model.embed(data)
    height, width = view.frame.image_hw
    with served("--model", "nano", "--threads", str(threads)) as server:
        await _served_rate(server, data, view.frame.image_hw, seconds, users)
        _bare_rate(model, view, seconds, encode=True)
        table = []
        for _ in range(rounds):
            bare = (
                *_bare_rate(model, view, seconds, encode=False),
                *_bare_rate(model, view, seconds, encode=True),
            )
            table.append((*bare, *(await _served_rate(server, data, view.frame.image_hw, seconds, users))))
    masks, _, coded, coded_cpu, http, server_cpu, client_cpu = np.median(np.array(table), axis=0)
    shares = [row[4] / row[2] for row in table]
    print(f"{width} x {height}, clicks a second, medians of {rounds} interleaved rounds of {seconds:g} s:")
    print(f"  bare, full-size masks             {masks:6.1f}")
    print(f"  bare, run lengths, box and area   {coded:6.1f}   {coded_cpu:5.1f} ms of processor a click")
    print(
        f"  served to {users} clients               {http:6.1f}   {server_cpu:5.1f} ms, {client_cpu:.1f} ms for clients"
    )
    print(
        f"  served / bare with run lengths    {np.median(shares):.2f} (rounds {min(shares):.2f} to {max(shares):.2f})"
    )


def _spread(step: int, image_hw: tuple[int, int]) -> list[float]:
    return [float((37 * step) % image_hw[1]), float((23 * step) % image_hw[0])]


def _bare_rate(model: Model, view: Embedding, seconds: float, *, encode: bool) -> tuple[float, float]:
    """Clicks a second of two threads, and milliseconds of processor time a click."""
    from samlet.server.answers import describe

    counts = [0, 0]

    def work(number: int) -> None:
        while time.perf_counter() < started + seconds:
            point = _spread(2 * counts[number] + number, view.frame.image_hw)
            masks = model.segment(view, points=[point])
            list(describe(masks, "rle", 0.0)) if encode else masks.masks
            counts[number] += 1

    started, processor = time.perf_counter(), time.process_time()
    both = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    spent = time.process_time() - processor
    return sum(counts) / (time.perf_counter() - started), 1000 * spent / sum(counts)


async def _served_rate(
    server: Served, data: bytes, image_hw: tuple[int, int], seconds: float, users: int
) -> tuple[float, float, float]:
    """Clicks a second, and milliseconds of processor time a click of the server and of the clients."""
    connections = [Connection(server.port) for _ in range(users)]
    name = await embedded(connections[0], data)
    count = 0

    async def user(number: int) -> None:
        nonlocal count
        step = number
        while time.perf_counter() < started + seconds:
            reply = await clicked(connections[number], name, _spread(step, image_hw))
            assert reply.status == 200
            count += 1
            step += users

    started, client, spent = time.perf_counter(), time.process_time(), server.cpu_seconds()
    await asyncio.gather(*(user(number) for number in range(users)))
    passed = time.perf_counter() - started
    client, spent = time.process_time() - client, server.cpu_seconds() - spent
    for connection in connections:
        await connection.close()
    return count / passed, 1000 * spent / count, 1000 * client / count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("mixed")
    one.add_argument("--clients", type=int, default=50)
    one.add_argument("--clicks", type=int, default=1000)
    one = commands.add_parser("nominal")
    one.add_argument("--users", type=int, default=20)
    one.add_argument("--requests", type=int, default=10_000)
    one = commands.add_parser("overload")
    one.add_argument("--minutes", type=float, default=10)
    one.add_argument("--decode-ms", type=float, default=10)
    one = commands.add_parser("rate")
    one.add_argument("--rounds", type=int, default=5)
    one.add_argument("--seconds", type=float, default=5)
    one.add_argument("--photo", default="samples/astronaut.jpg")
    one.add_argument("--threads", type=int, default=1, help="of the runtime, for each of two workers")
    one.add_argument("--users", type=int, default=4)
    options = vars(parser.parse_args())
    run = {"mixed": mixed, "nominal": nominal, "overload": overload, "rate": rate}[options.pop("command")]
    asyncio.run(run(**options))


if __name__ == "__main__":
    main()
