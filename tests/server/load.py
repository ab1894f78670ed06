#!/usr/bin/env python3
"""Many clients at once, and what they cost the one that paints.

    load.py [--seconds 120] [--pace 1] [--pairs 12] [--steps 20] [--size 256] [--history PATH] [--loose]

1. For so many seconds 64 clients ask for /queue and for the history, each once every 1/PACE seconds, and 16 WebSockets
   listen, while jobs run: paintings of the shipped model and light ones, whose events go to every socket. Prints how
   long the answers took. Any wrong answer, lost connection or failed job is an error.
2. Equal paintings, in pairs with and without that load, in turn first. Prints how much slower those under load are: of the
   shortest of each kind, and the median of the pairs.

Exits with 1 after an error, when the 99th percentile of a path is over 50 ms, or when paintings are slower by 5 %. The
client runs beside the server, so what it takes of the processors counts as the server's. --loose, for the test suite on a
busy machine, looks for errors and answers of over 10 s only.
"""
import argparse
import heapq
import json
import multiprocessing
import os
import select
import shutil
import socket
import statistics
import sys
import tempfile
import threading
import time

from serve_case import Server, colour, painting
from ws_client import RawSocket

CLIENTS, SOCKETS = 64, 16
WORST, SLOWDOWN, LOOSE_WORST = 0.050, 0.05, 10.0
WAITING = 4  # jobs in the queue


class Poller:
    """One client: a connection that is kept, and asks for two paths in turn."""

    def __init__(self, number, server, paths):
        self.connection = socket.create_connection((server.host, server.port))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests = [f"GET {path} HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n\r\n".encode() for path in paths]
        self.number, self.turn = number, number % len(paths)
        self.sent, self.asking, self.parts, self.body = 0, False, b"", b""

    def ask(self):
        self.turn = (self.turn + 1) % len(self.requests)
        self.sent, self.asking = time.monotonic(), True
        self.connection.sendall(self.requests[self.turn])

    def hear(self):
        """Whether the answer is whole."""
        more = self.connection.recv(1 << 20)
        if not more:
            raise ConnectionError("the server closed a connection")
        self.parts += more
        end = self.parts.find(b"\r\n\r\n") + 4
        if end < 4:
            return False
        if not self.parts.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(self.parts[:100])
        at = self.parts.index(b"Content-Length: ", 0, end) + 16
        if len(self.parts) < end + int(self.parts[at:self.parts.index(b"\r", at)]):
            return False
        self.asking, self.body, self.parts = False, self.parts[end:], b""
        return True


class Listener:
    """One WebSocket. What comes is read at once and looked at later, so that looking costs little."""

    def __init__(self, number, server):
        self.raw = RawSocket(server, f"/ws?clientId=load{number}")
        self.connection = self.raw.socket
        self.frames, self.parts = 0, []

    def hear(self):
        more = self.connection.recv(1 << 16)
        if not more:
            raise ConnectionError("the server closed a WebSocket")
        self.parts.append(more)

    def look(self):
        data, at = b"".join(self.parts), 0
        while at + 10 <= len(data):  # no frame of the server's is shorter, but for pings
            size, head = data[at + 1], 2
            if size >= 126:
                head = 4 if size == 126 else 10
                size = int.from_bytes(data[at + 2:at + head], "big")
            if at + head + size > len(data):
                break
            if data[at] not in (0x81, 0x82, 0x89):
                raise ConnectionError(f"a WebSocket's frame starts with {data[at]:#x}")
            self.frames += 1
            at += head + size
        self.parts = [data[at:]]


def check(pollers, listeners, now):
    """Now and then: everybody is answered, and with what they asked for."""
    for one in listeners:
        one.look()
    for one in pollers[::16]:
        if one.body:
            json.loads(one.body)
    return [f"no answer within {LOOSE_WORST} s" for one in pollers if one.asking and now - one.sent > LOOSE_WORST]


def poll(server, paths, pace, pipe):
    """A process: loads the server until told to stop, then reports."""
    taken, errors = [[] for _ in paths], []
    pollers = [Poller(i, server, paths) for i in range(CLIENTS)]
    listeners = [Listener(i, server) for i in range(SOCKETS)]
    epoll, everyone = select.epoll(), {}
    for one in pollers + listeners:
        epoll.register(one.connection, select.EPOLLIN)
        everyone[one.connection.fileno()] = one
    period = 1.0 / (pace * len(paths))
    start, now = time.process_time(), time.monotonic()
    due = [(now + period * i / CLIENTS, i) for i in range(CLIENTS)]
    looked = now
    pipe.send("ready")
    while not errors:
        try:
            now = time.monotonic()
            while due and due[0][0] <= now:
                pollers[heapq.heappop(due)[1]].ask()
            if now - looked > 0.5:
                looked = now
                errors += check(pollers, listeners, now)
                if pipe.poll():
                    break
            for number, _ in epoll.poll(min(due[0][0] - now, 0.5) if due else 0.5):
                one = everyone[number]
                if one.hear():
                    now = time.monotonic()
                    taken[one.turn].append(now - one.sent)
                    heapq.heappush(due, (max(one.sent + period, now), one.number))
        except (OSError, ValueError) as error:
            errors.append(f"{type(error).__name__}: {error}")
    pipe.send((taken, errors, sum(one.frames for one in listeners), time.process_time() - start))


class Load:
    """`with Load(...) as load:` the server is asked; afterwards load.report()."""

    def __init__(self, server, options):
        self.paths = ["/queue", options.history]
        self.ours, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=poll, args=(server, self.paths, options.pace, theirs))

    def __enter__(self):
        self.start = time.monotonic()
        self.process.start()
        self.ours.recv()
        return self

    def __exit__(self, *_):
        self.ours.send("stop")
        self.taken, self.errors, self.frames, self.cpu = self.ours.recv()
        self.process.join()
        self.seconds = time.monotonic() - self.start


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def keep_busy(server, stop, options, jobs):
    """Keeps jobs waiting, every third of them a painting."""
    number = 0
    while not stop.is_set():
        if server.get("/prompt")["exec_info"]["queue_remaining"] < WAITING:
            number += 1
            jobs.append(server.submit(painting(number, options.steps, options.size) if number % 3 == 0 else colour(number)))
        else:
            time.sleep(0.05)


def answer_times(server, options, faults):
    jobs, stop = [], threading.Event()
    busy = threading.Thread(target=keep_busy, args=(server, stop, options, jobs))
    busy.start()
    with Load(server, options) as load:
        time.sleep(options.seconds)
    stop.set()
    busy.join()
    for job in jobs:
        entry = server.wait_for(job)
        if entry["status"]["status_str"] != "success":
            faults.append(f"job {job}: {entry['status']}")
    faults += load.errors
    total = sum(len(taken) for taken in load.taken)
    print(f"{options.seconds:.0f} s: {CLIENTS} clients, {total} answers ({total / load.seconds:.0f} a second), {SOCKETS} "
          f"WebSockets, {load.frames} frames, {len(jobs)} jobs, {len(load.errors)} errors, client's processor time "
          f"{100 * load.cpu / load.seconds:.1f} % of a core")
    for path, taken in zip(load.paths, load.taken):
        worst = percentile(taken, 0.99)
        print(f"  {path}: median {1e3 * percentile(taken, 0.5):.1f} ms, p99 {1e3 * worst:.1f} ms, "
              f"longest {1e3 * percentile(taken, 1):.1f} ms")
        if not worst < (LOOSE_WORST if options.loose else WORST):
            faults.append(f"p99 of {path} is {1e3 * worst:.1f} ms")
    if load.frames < SOCKETS * len(jobs):
        faults.append(f"the WebSockets heard {load.frames} frames only")


def paint(server, seed, steps, size):
    """Seconds between the messages that it starts and that it has succeeded."""
    messages = dict(server.wait_for(server.submit(painting(seed, steps, size)))["status"]["messages"])
    return (messages["execution_success"]["timestamp"] - messages["execution_start"]["timestamp"]) / 1000


def slowdown(server, options, faults):
    alone, loaded = [], []
    for pair in range(options.pairs):
        for under_load in ((False, True) if pair % 2 else (True, False)):
            seed = 1_000_000 + 10 * pair + under_load
            if not under_load:
                alone.append(paint(server, seed, options.steps, options.size))
                continue
            with Load(server, options) as load:
                loaded.append(paint(server, seed, options.steps, options.size))
            faults += load.errors
    best = min(loaded) / min(alone) - 1
    pairs = statistics.median(b / a for a, b in zip(alone, loaded)) - 1
    print(f"{options.pairs} pairs of {options.steps} steps: alone {min(alone):.3f} s at best, under load {min(loaded):.3f} s "
          f"({100 * best:+.1f} %); median of the pairs {100 * pairs:+.1f} %")
    if not options.loose and best >= SLOWDOWN:
        faults.append(f"paintings are slower by {100 * best:.1f} %")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--pace", type=float, default=1)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--history", default="/history?max_items=64")
    parser.add_argument("--loose", action="store_true")
    options, faults = parser.parse_args(), []
    folder = tempfile.mkdtemp(prefix="tessera-load-")
    for name in ("input", "output"):
        os.mkdir(os.path.join(folder, name))
    server = Server(folder)
    try:
        paint(server, 1, 1, options.size)  # opens the model
        for i in range(64):
            job = server.submit(colour(i))
        server.wait_for(job)
        answer_times(server, options, faults)
        if options.pairs:
            slowdown(server, options, faults)
    finally:
        server.stop()
    shutil.rmtree(folder)
    for fault in faults:
        print("fault:", fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
