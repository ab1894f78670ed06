#!/usr/bin/env python3
"""kill -9 at random moments under load, and a count of what came of it.

    kill_checker.py [ROUNDS] [SEED]

Every round starts the server on the same folder, submits jobs from three threads, and kills it after 0 to 1 s. In the end
the queue is left to run dry, and then every job whose acceptance a client has read must be in the history exactly once, as
a success; its one picture must be there; nothing that was seen as a success may have changed since, or run again; a job
whose answer was lost may be there or not, but not twice. No file is left over. Exits with 1 and says what is wrong.
"""
import http.client
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import uuid

from serve_case import PATIENCE, Server, colour, painting

MOST_WAITING = 40


class Ledger:
    """What clients know."""

    def __init__(self):
        self.lock = threading.Lock()
        self.count = 0
        self.accepted, self.unsure = {}, {}  # id -> prefix of its files
        self.succeeded = {}  # id -> entry of the history
        self.faults = []

    def next_job(self):
        with self.lock:
            self.count += 1
            number = self.count
        prefix = f"job{number}"
        prompt = painting(number, steps=1, prefix=prefix) if number % 9 == 0 else colour(number, prefix)
        return str(uuid.uuid4()), prefix, prompt

    def fault(self, text):
        with self.lock:
            self.faults.append(text)


def submit_until_death(server, ledger, stop):
    while not stop.is_set():
        job, prefix, prompt = ledger.next_job()
        try:
            if server.get("/prompt")["exec_info"]["queue_remaining"] > MOST_WAITING:
                time.sleep(0.01)
                continue
            with ledger.lock:
                ledger.unsure[job] = prefix
            status, data = server.request("POST", "/prompt", {"prompt": prompt, "prompt_id": job, "front": job < "2"})
        except (OSError, http.client.HTTPException, RuntimeError, ValueError):
            continue
        if status != 200:
            ledger.fault(f"job {job} was refused: {status} {data[:200]}")
        with ledger.lock:
            ledger.accepted[job] = ledger.unsure.pop(job)


def watch_history(server, ledger, stop):
    while not stop.is_set():
        try:
            history = server.get("/history?max_items=50")
        except (OSError, http.client.HTTPException, RuntimeError, ValueError):
            continue
        check_history(history, ledger)
        time.sleep(0.02)


def check_history(history, ledger):
    for job, entry in history.items():
        before = ledger.succeeded.setdefault(job, entry)
        if before != entry:
            ledger.fault(f"job {job} changed after it had succeeded")


def one_round(folder, ledger, rng):
    server = Server(folder)
    check_history(server.get("/history"), ledger)
    stop = threading.Event()
    threads = [threading.Thread(target=submit_until_death, args=(server, ledger, stop)) for _ in range(3)]
    threads.append(threading.Thread(target=watch_history, args=(server, ledger, stop)))
    for thread in threads:
        thread.start()
    time.sleep(rng.random())
    server.stop(signal.SIGKILL)
    stop.set()
    for thread in threads:
        thread.join()


def drain(folder, ledger):
    """Lets everything run; returns the whole history."""
    server = Server(folder)
    end = time.monotonic() + PATIENCE
    while server.get("/prompt")["exec_info"]["queue_remaining"]:
        if time.monotonic() > end:
            ledger.fault(f"the queue does not run dry: {server.get('/queue')}"[:500])
            break
        time.sleep(0.05)
    history = server.get("/history")
    check_history(history, ledger)
    server.stop()
    return history


def check_database(folder, ledger):
    database = sqlite3.connect(os.path.join(folder, "data", "jobs.sqlite"))
    rows = database.execute("SELECT id, state, attempt FROM jobs").fetchall()
    files = database.execute("SELECT count(*) FROM job_files").fetchone()[0]
    database.close()
    if len({row[0] for row in rows}) != len(rows):
        ledger.fault("an id is there twice")
    for job, state, _ in rows:
        if state != "success":
            ledger.fault(f"job {job} is {state}")
    if files:
        ledger.fault(f"{files} files of unfinished attempts are still recorded")
    return sum(row[2] > 1 for row in rows)


def check_files(folder, history, ledger):
    """Each job has its one picture; returns the pictures that belong to none."""
    known = dict(ledger.accepted)
    known.update(ledger.unsure)
    listed = set()
    for job, entry in history.items():
        names = [item["filename"] for node in entry["outputs"].values() for item in node["images"]]
        if len(names) != 1 or not names[0].startswith(known.get(job, "?") + "_"):
            ledger.fault(f"job {job} has the pictures {names}")
        listed.update(names)
        for name in names:
            path = os.path.join(folder, "output", name)
            if not os.path.isfile(path) or os.path.getsize(path) < 50:
                ledger.fault(f"the picture {name} of job {job} is not there")
    return sorted(set(os.listdir(os.path.join(folder, "output"))) - listed)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    rng, ledger = random.Random(seed), Ledger()
    folder = tempfile.mkdtemp(prefix="tessera-kill-")
    for name in ("input", "output"):
        os.mkdir(os.path.join(folder, name))
    for _ in range(rounds):
        one_round(folder, ledger, rng)
    history = drain(folder, ledger)
    for job in ledger.accepted:
        if history.get(job, {}).get("status", {}).get("status_str") != "success":
            ledger.fault(f"job {job} was accepted, and then lost: {json.dumps(history.get(job))[:300]}")
    for job in set(history) - set(ledger.accepted) - set(ledger.unsure):
        ledger.fault(f"job {job} was submitted by nobody")
    again = check_database(folder, ledger)
    left = check_files(folder, history, ledger)
    if left:
        ledger.fault(f"{len(left)} files are left over: {left[:5]}")
    lost_answers = sum(job in history for job in ledger.unsure)
    print(f"{rounds} kills (seed {seed}): {len(ledger.accepted)} jobs accepted, {len(history)} in the history, of them "
          f"{lost_answers} whose answer was lost and {again} that ran more than once; {len(left)} files left over")
    for fault in ledger.faults[:20]:
        print("fault:", fault)
    if ledger.faults:
        print("folder:", folder)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
