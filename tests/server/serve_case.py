"""What the tests of `tessera serve` share: a server in a folder of its own, a client, a WebSocket. Standard library only."""
import base64
import http.client
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest

SOURCE = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
TESSERA = os.environ.get("TESSERA", os.path.join(SOURCE, "build", "release", "apps", "tessera"))
PATIENCE = float(os.environ.get("TESSERA_TEST_PATIENCE", "120"))  # seconds; sanitizers are slow


class Server:
    """The command, on a free port. Its folders outlive it, so that another one may go on with them."""

    def __init__(self, folder, *options):
        self.folder = folder
        environment = {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "0", **os.environ}
        environment.pop("TESSERA_MODEL", None)
        self.log = open(os.path.join(folder, "server.log"), "ab")
        self.process = subprocess.Popen(
            [TESSERA, "serve", "--port", "0", "--data", os.path.join(folder, "data"), "--input",
             os.path.join(folder, "input"), "--output", os.path.join(folder, "output"), *options],
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=self.log)
        line = self.process.stdout.readline().decode()
        found = re.search(r"http://([^:/]+):(\d+)/", line)
        if not found:
            self.process.wait()
            self.close()
            raise RuntimeError(f"the server did not start: {self.log_text()}")
        self.host, self.port = found.group(1), int(found.group(2))

    def log_text(self):
        with open(os.path.join(self.folder, "server.log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def request(self, method, path, body=None, headers=None):
        """(status, bytes)"""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def get(self, path):
        status, data = self.request("GET", path)
        if status != 200:
            raise RuntimeError(f"GET {path}: {status} {data[:500]}")
        return json.loads(data)

    def post(self, path, body=None):
        status, data = self.request("POST", path, body)
        if status != 200:
            raise RuntimeError(f"POST {path}: {status} {data[:500]}")
        return json.loads(data) if data else None

    def submit(self, prompt, **more):
        return self.post("/prompt", dict(prompt=prompt, **more))["prompt_id"]

    def wait_for(self, job):
        """The job's entry in the history, as soon as there is one."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            entry = self.get("/history/" + job).get(job)
            if entry:
                return entry
            time.sleep(0.02)
        raise RuntimeError(f"job {job} did not end: {self.log_text()[-2000:]}")

    def stop(self, signal_number=signal.SIGTERM):
        self.process.send_signal(signal_number)
        status = self.process.wait(timeout=PATIENCE)
        self.close()
        return status

    def close(self):
        self.process.stdout.close()
        self.log.close()


class Socket:
    """A WebSocket whose frames a thread collects: events has (type, data), binary has bytes."""

    def __init__(self, server, client, hello=None):
        self.events, self.binary, self.order = [], [], []
        self.changed = threading.Condition()
        self.socket = socket.create_connection((server.host, server.port), timeout=PATIENCE)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET /ws?clientId={client} HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n"
                             "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                             f"Sec-WebSocket-Key: {key}\r\n\r\n").encode())
        self.file = self.socket.makefile("rb")
        line = self.file.readline()
        if b" 101 " not in line:
            raise RuntimeError(f"no WebSocket: {line}")
        while self.file.readline().strip():
            pass
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        if hello is not None:
            self.send(json.dumps(hello))

    def send(self, text):
        data, mask = text.encode(), os.urandom(4)
        size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
        self.socket.sendall(b"\x81" + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def _read(self):
        try:
            while True:
                head = self.file.read(2)
                if len(head) < 2:
                    return
                size = head[1] & 0x7f
                if size >= 126:
                    size = int.from_bytes(self.file.read(2 if size == 126 else 8), "big")
                data = self.file.read(size)
                kind = head[0] & 0x0f
                with self.changed:
                    if kind == 1:
                        event = json.loads(data)
                        self.events.append((event["type"], event["data"]))
                        self.order.append(event["type"])
                    elif kind == 2:
                        self.binary.append(data)
                        self.order.append("preview")
                    self.changed.notify_all()
        except (OSError, ValueError):
            return

    def wait_for(self, test):
        """The first event (type, data) that passes."""
        with self.changed:
            if not self.changed.wait_for(lambda: any(test(t, d) for t, d in self.events), PATIENCE):
                raise RuntimeError(f"the event did not come; these did: {self.order}")
            return next((t, d) for t, d in self.events if test(t, d))

    def wait_end(self, job):
        self.wait_for(lambda t, d: t == "executing" and d["node"] is None and d["prompt_id"] == job)

    def of(self, kind, job=None):
        with self.changed:
            return [d for t, d in self.events if t == kind and (job is None or d.get("prompt_id") == job)]

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.thread.join()
        self.file.close()
        self.socket.close()


def colour(value, prefix="colour", size=64):
    """A job that needs no model."""
    return {"1": {"class_type": "SolidMask", "inputs": {"value": value % 1000 / 1000, "width": size, "height": size}},
            "8": {"class_type": "MaskToImage", "inputs": {"mask": ["1", 0]}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": prefix}}}


def painting(seed, steps=2, size=64, prefix="painting"):
    """A job for the shipped model."""
    return {"1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "tessera-demo.safetensors"}},
            "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a red square"}},
            "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
            "4": {"class_type": "EmptyLatentImage", "inputs": {"width": size, "height": size, "batch_size": 1}},
            "5": {"class_type": "KSampler",
                  "inputs": {"model": ["1", 0], "seed": seed, "steps": steps, "cfg": 3.0, "sampler_name": "euler",
                             "scheduler": "normal", "positive": ["2", 0], "negative": ["3", 0], "latent_image": ["4", 0],
                             "denoise": 1.0}},
            "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
            "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": prefix}}}


class ServeCase(unittest.TestCase):
    """One server for the tests of a class."""
    options = ()

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="tessera-serve-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        for name in ("input", "output"):
            os.mkdir(os.path.join(cls.folder, name))
        cls.server = Server(cls.folder, *cls.options)
        cls.addClassCleanup(cls.stop_server)

    @classmethod
    def stop_server(cls):
        if cls.server.process.poll() is None and cls.server.stop() != 0:
            raise RuntimeError(f"the server did not end well: {cls.server.log_text()[-4000:]}")

    def socket(self, client, hello=None):
        socket_ = Socket(self.server, client, hello)
        self.addCleanup(socket_.close)
        socket_.wait_for(lambda t, d: t == "status")
        return socket_

    def outputs(self, entry):
        return [item for node in entry["outputs"].values() for items in node.values() for item in items]

    def path_of(self, item):
        return os.path.join(self.folder, item["type"], item["subfolder"], item["filename"])
