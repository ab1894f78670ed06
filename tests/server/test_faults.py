#!/usr/bin/env python3
"""What a machine and its clients can do to the server: full disks, a held database, clients that stall. test_faults.py [CLASS]"""
import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
from cli_case import png  # noqa: E402  (found through the line above)
from serve_case import PATIENCE, TESSERA, ServeCase, Server, colour, painting  # noqa: E402
from test_http import HttpCase, form  # noqa: E402
from ws_client import RawSocket  # noqa: E402

STALLED = 20  # clients of each kind


class Disks(HttpCase):
    """Output and data are file systems of their own, which become full."""

    @classmethod
    def setUpClass(cls):
        cls.mounts = []
        make = tempfile.mkdtemp

        def with_mounts(**options):
            folder = make(**options)
            for name, size in (("output", "256k"), ("data", "2m")):
                path = os.path.join(folder, name)
                os.mkdir(path)
                if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True,
                                  check=False).returncode:
                    for done in cls.mounts:
                        subprocess.run(["umount", done], check=True)
                    raise unittest.SkipTest("a small file system cannot be mounted here: that needs to be root")
                cls.mounts.append(path)
            os.mkdir(os.path.join(folder, "input"))
            return folder
        cls.folder = with_mounts(prefix="tessera-disks-")
        cls.addClassCleanup(cls.remove)
        cls.server = Server(cls.folder)
        cls.addClassCleanup(cls.stop_server)

    @classmethod
    def remove(cls):
        for path in cls.mounts:
            subprocess.run(["umount", path], check=True)
        subprocess.run(["rm", "-r", cls.folder], check=True)

    def fill(self, name):
        """A function that makes room again."""
        path = os.path.join(self.folder, name, "filler")
        with open(path, "wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        self.addCleanup(lambda: os.path.exists(path) and os.remove(path))
        return lambda: os.remove(path)

    def test_a_full_output_folder_fails_the_job_and_no_more(self):
        make_room = self.fill("output")
        before = self.files("output")
        entry = self.server.wait_for(self.server.submit(colour(1)))
        self.assertEqual(entry["status"]["status_str"], "error")
        self.assertIn("No space left", json.dumps(entry["status"]["messages"][-1]))
        self.assertEqual(self.files("output"), before)  # no half of a picture
        make_room()
        entry = self.server.wait_for(self.server.submit(colour(1)))
        self.assertEqual(entry["status"]["status_str"], "success")

    def test_a_full_data_folder_refuses_and_loses_nothing(self):
        known = self.server.submit(colour(2, "known"))
        self.server.wait_for(known)
        running = self.server.submit(painting(3, steps=40, prefix="running"))
        make_room = self.fill("data")
        accepted, refused = [], None
        for i in range(400):  # the log of the database has some room of its own
            status, data = self.server.request("POST", "/prompt", {"prompt": colour(10 + i, "accepted")})
            if status != 200:
                refused = status, json.loads(data)["error"]["type"]
                break
            accepted.append(json.loads(data)["prompt_id"])
        self.assertEqual(refused, (503, "store_failed"))
        self.assertIn(known, self.server.get("/history"))
        self.assertEqual(self.status("GET", "/queue"), 200)
        picture, headers = form(("image", png(256, 256, lambda x, y: (x, y, x * y % 251)), "full.png"))
        self.assertIn(self.status("POST", "/upload/image", picture + b" " * 100000, headers), (400, 507))
        self.assertNotIn("full.png", self.files("input"))
        make_room()
        for job in [running, *accepted]:
            self.assertEqual(self.server.wait_for(job)["status"]["status_str"], "success")
        self.assertEqual(len([name for name in self.files("output") if name.startswith("running")]), 1)
        self.assertEqual(len([name for name in self.files("output") if name.startswith("accepted")]), len(accepted))


class Busy(ServeCase):
    def test_an_end_waits_for_the_database(self):
        """Another process holds it for longer than SQLite waits, while a job ends."""
        watcher = self.socket("watcher")
        job = self.server.submit(painting(1, steps=20), client_id="watcher")
        watcher.wait_for(lambda t, d: t == "progress")
        database = sqlite3.connect(os.path.join(self.folder, "data", "jobs.sqlite"), isolation_level=None)
        self.addCleanup(database.close)
        database.execute("BEGIN IMMEDIATE")
        time.sleep(8)
        self.assertEqual(self.server.get("/history/" + job), {})
        self.assertEqual(watcher.of("execution_success", job), [])  # nobody hears of what is not stored
        database.execute("ROLLBACK")
        watcher.wait_end(job)
        self.assertEqual(self.server.get("/history/" + job)[job]["status"]["status_str"], "success")
        self.assertEqual(database.execute("SELECT state, attempt FROM jobs").fetchall(), [("success", 1)])
        self.assertEqual(len(os.listdir(os.path.join(self.folder, "output"))), 1)


class Stalled(HttpCase):
    """Clients that begin and do not go on. Each must be let go, and meanwhile nobody may notice."""
    options = ("--patience", "1", "--ping-seconds", "0.5")

    def connect(self, data=b"", receive_buffer=None):
        client = socket.socket()
        self.addCleanup(client.close)
        if receive_buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client.settimeout(PATIENCE)
        client.connect((self.server.host, self.server.port))
        client.sendall(data)
        return client

    def head(self, line, *headers):
        return "\r\n".join([line, f"Host: {self.server.host}:{self.server.port}", *headers, "", ""]).encode()

    def assert_let_go(self, clients, trickle=b""):
        """They are shut, while others are served; trickle: what each sends a byte of, five times a second."""
        end, sent = time.monotonic() + 30, 0
        waiting = list(clients)
        while waiting:
            self.assertLess(time.monotonic(), end, f"{len(waiting)} of {len(clients)} are held still")
            begun = time.monotonic()
            self.assert_alive()
            self.assertLess(time.monotonic() - begun, 10)
            for client in list(waiting):
                client.setblocking(False)
                try:
                    if trickle:
                        client.send(trickle[sent % len(trickle):][:1])
                    if client.recv(65536) == b"":
                        waiting.remove(client)
                except BlockingIOError:
                    pass
                except ConnectionError:
                    waiting.remove(client)
            sent += 1
            time.sleep(0.2)

    def test_those_that_say_nothing(self):
        self.assert_let_go([self.connect() for _ in range(STALLED)])

    def test_half_a_handshake(self):
        head = self.head("GET /ws HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade")[:-4]
        self.assert_let_go([self.connect(head) for _ in range(STALLED)])

    def test_a_head_that_comes_byte_by_byte(self):
        self.assert_let_go([self.connect(b"GET /queue HTTP/1.1\r\nX: ") for _ in range(STALLED)], trickle=b"a")

    def test_a_body_that_comes_byte_by_byte(self):
        head = self.head("POST /prompt HTTP/1.1", "Content-Length: 1000000")
        self.assert_let_go([self.connect(head) for _ in range(STALLED)], trickle=b" ")

    def test_chunks_that_come_byte_by_byte(self):
        head = self.head("POST /upload/image HTTP/1.1", "Transfer-Encoding: chunked")
        self.assert_let_go([self.connect(head) for _ in range(STALLED)], trickle=b"1\r\nx\r\n")

    def test_an_upload_that_comes_byte_by_byte(self):
        before = self.files("data")
        head = self.head("POST /upload/image HTTP/1.1", "Content-Length: 90000000",
                         "Content-Type: multipart/form-data; boundary=bound")
        self.assert_let_go([self.connect(head) for _ in range(STALLED)], trickle=b"-")
        self.assertEqual(self.files("data"), before)

    def test_half_a_frame(self):
        clients = [RawSocket(self.server, f"/ws?clientId=half{i}") for i in range(STALLED)]
        for client in clients:
            self.addCleanup(client.close)
            client.socket.sendall(b"\x81\xfe\x10")
        self.assert_let_go([client.socket for client in clients])

    def test_those_that_do_not_take_their_answer(self):
        size = len(self.server.request("GET", "/object_info")[1])
        asked = self.head("GET /object_info HTTP/1.1") * (16 * (1 << 20) // size)
        clients = [self.connect(asked, receive_buffer=4096) for _ in range(STALLED)]
        end = time.monotonic() + 60
        while self.metric("connections") > 1:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.2)
        for client in clients:
            client.close()


class Backlog(HttpCase):
    options = ("--ping-seconds", "3600")  # silence is not what closes it

    def test_a_socket_that_does_not_read_is_closed_when_too_much_waits(self):
        stuck = RawSocket(self.server, "/ws?clientId=stuck", receive_buffer=4096)
        self.addCleanup(stuck.close)
        prompt = colour(5)  # every node tells the states of all before it
        source = ["1", 0]
        for i in range(700):
            prompt[f"n{i}"] = {"class_type": "InvertMask", "inputs": {"mask": source}}
            source = [f"n{i}", 0]
        prompt["8"]["inputs"]["mask"] = source
        reading = RawSocket(self.server, "/ws?clientId=reading")
        self.addCleanup(reading.close)
        job = self.server.submit(prompt)
        self.server.wait_for(job)
        self.assertGreater(self.events_lost(stuck), 0)

    def events_lost(self, stuck):
        """1 when the stream ends before the job's last event."""
        try:
            while True:
                got = stuck.receive()
                if got is None or got[0] == 8:
                    return 1
        except ConnectionError:
            return 1


class Loopback(HttpCase):
    """Names and origins on the wire, beside test_guard.c."""

    def test_host_variants(self):
        port = self.server.port
        good = (f"127.0.0.1:{port}", f"LOCALHOST:{port}", f"localhost.:{port}", f"[::1]:{port}", f"127.9.9.9:{port}")
        bad = ("", " ", f"localhost.evil.example:{port}", f"127.0.0.1.evil.example:{port}", f"evil.example.:{port}",
               f"[::1].evil.example:{port}", f"[::2]:{port}", f"[::ffff:127.0.0.1]:{port}", "[::1]", f"::1:{port}",
               f"127.0.0.1:{port}0", f"127.0.0.1:0{port}", f"127.0.0.1:{port}@evil.example", f"evil.example#127.0.0.1:{port}",
               f"0.0.0.0:{port}", f"127.1:{port}", f"2130706433:{port}", f"0x7f.0.0.1:{port}", f"127.0.0.256:{port}",
               f"localhost:{port}, evil.example", f"%6cocalhost:{port}", f"localhost:{port}\t.evil")
        for names, wanted in ((good, (200,)), (bad, (403, 400))):
            for name in names:
                answer = self.raw(f"GET /queue HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
                self.assertIn(int(answer.split()[1]), wanted, name)
        answer = self.raw(b"GET /queue HTTP/1.0\r\n\r\n")
        self.assertNotIn(b" 200 ", answer[:20])

    def test_origin_variants(self):
        port = self.server.port
        for origin, status in ((f"http://127.0.0.1:{port}", 200), (f"HTTP://127.0.0.1:{port}", 200), ("null", 403), ("", 403),
                               (f"http://127.0.0.1:{port}.evil.example", 403), (f"http://127.0.0.1:{port}@evil.example", 403),
                               (f"http://evil.example:{port}", 403), (f"http://localhost:{port}", 403),
                               (f"http://127.0.0.1:{port}/", 403), (f"ws://127.0.0.1:{port}", 403), ("http://127.0.0.1", 403),
                               (f"file://127.0.0.1:{port}", 403), (f"http://127.0.0.1:{port} http://evil.example", 403)):
            self.assertEqual(self.status("POST", "/interrupt", headers={"Origin": origin}), status, origin)


class Words(unittest.TestCase):
    """What is said at the start and at the end."""

    def test_a_folder_that_cannot_be_written_to_is_refused(self):
        user = {"user": 65534} if os.geteuid() == 0 else {}
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            for name in ("input", "output", "data"):
                os.mkdir(os.path.join(folder, name), 0o777)
                os.chmod(os.path.join(folder, name), 0o777)
            for name in ("output", "data"):
                os.chmod(os.path.join(folder, name), 0o555)
                result = subprocess.run([TESSERA, "serve", "--port", "0", "--data", "data", "--temp", "data" if name == "data" else "output"],
                                        cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False,
                                        **(user if os.access(TESSERA, os.X_OK) else {}))
                self.assertEqual(result.returncode, 1)
                self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
                self.assertRegex(result.stderr, "(cannot be written to|cannot make this folder): Permission denied")
                os.chmod(os.path.join(folder, name), 0o777)

    def test_no_models_is_told(self):
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(os.path.join(folder, "models"))
            server = Server(folder, "--models", os.path.join(folder, "models"))
            self.assertEqual(server.stop(), 0)
            self.assertIn("no model to paint with", server.log_text())

    def test_a_taken_port_is_told(self):
        with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as taken:
            with self.assertRaisesRegex(RuntimeError, "Address already in use; .*--port N takes another"):
                Server(folder, "--port", str(taken.getsockname()[1]))

    def test_a_stop_during_a_job_says_that_it_goes_on(self):
        with tempfile.TemporaryDirectory() as folder:
            server = Server(folder)
            job = server.submit(painting(1, steps=10000))
            while not server.get("/queue")["queue_running"]:
                time.sleep(0.02)
            self.assertEqual(server.stop(), 0)
            self.assertRegex(server.log_text(), f"job_waits job={job} reason=[^\n]* starts again")


if __name__ == "__main__":
    unittest.main(verbosity=2)
