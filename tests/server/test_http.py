#!/usr/bin/env python3
"""The server's interface from outside, used well and used badly. test_http.py [CLASS]"""
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
from cli_case import png  # noqa: E402  (found through the line above)
from serve_case import PATIENCE, TESSERA, ServeCase, Server, colour  # noqa: E402
from ws_client import BINARY, PING, PONG, TEXT, RawSocket, Refused, frame  # noqa: E402

RED = png(8, 8, lambda x, y: (255, 0, 0))
BLUE = png(8, 8, lambda x, y: (0, 0, 255))


def form(*parts, boundary="bound"):
    """A multipart body of (name, value) or (name, value, filename), and its headers."""
    body = b""
    for name, value, *filename in parts:
        value = value if isinstance(value, bytes) else value.encode()
        named = f'; filename="{filename[0]}"' if filename else ""
        body += (f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + value + b"\r\n")
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


class HttpCase(ServeCase):
    def status(self, method, path, body=None, headers=None):
        return self.server.request(method, path, body, headers)[0]

    def upload(self, *parts, path="/upload/image"):
        status, data = self.server.request("POST", path, *form(*parts))
        return status, json.loads(data)

    def raw(self, data, wait=True):
        """What the server answers to bytes; b"" when it just closes."""
        with socket.create_connection((self.server.host, self.server.port), timeout=PATIENCE) as connection:
            connection.sendall(data)
            answer = b""
            try:
                while wait:
                    more = connection.recv(65536)
                    if not more:
                        break
                    answer += more
            except ConnectionError:
                pass
            return answer

    def metric(self, name):
        text = self.server.request("GET", "/metrics")[1].decode()
        return float(re.search(rf"^tessera_{name} (\S+)$", text, re.MULTILINE).group(1))

    def files(self, folder):
        return sorted(os.listdir(os.path.join(self.folder, folder)))

    def assert_alive(self):
        self.assertEqual(self.server.get("/health")["status"], "ok")


class Routes(HttpCase):
    def test_every_route_is_also_below_api(self):
        for path in ("/prompt", "/queue", "/history", "/system_stats", "/features", "/models", "/models/checkpoints",
                     "/embeddings", "/extensions", "/object_info", "/object_info/KSampler", "/health"):
            with self.subTest(path):
                plain, below = self.server.request("GET", path), self.server.request("GET", "/api" + path)
                self.assertEqual(plain[0], 200)
                if path != "/system_stats":  # its free memory changes
                    self.assertEqual(plain, below)

    def test_what_clients_read_of_the_machine(self):
        stats = self.server.get("/system_stats")
        self.assertEqual(stats["system"]["comfyui_version"], "0.8.0")
        self.assertEqual(stats["devices"][0]["type"], "cpu")
        self.assertGreater(stats["devices"][0]["vram_total"], 1 << 20)
        self.assertEqual(self.server.get("/features")["max_upload_size"], 100 << 20)
        self.assertIs(self.server.get("/features")["supports_preview_metadata"], True)

    def test_nodes_and_models(self):
        everything = self.server.get("/object_info")
        one = self.server.get("/object_info/KSampler")
        self.assertEqual(one["KSampler"], everything["KSampler"])
        self.assertIn("RegionalSampler", everything)
        self.assertEqual(self.server.get("/object_info/NoSuchNode"), {})
        self.assertEqual(self.server.get("/models/checkpoints"), ["tessera-demo.safetensors"])
        self.assertEqual(self.status("GET", "/models/nonsense"), 404)
        metadata = self.server.get("/view_metadata/checkpoints?filename=tessera-demo.safetensors")
        self.assertEqual(metadata["format"], "pt")
        for name in ("nothing.safetensors", "../models/tessera-demo.safetensors", "README.md"):
            self.assertEqual(self.status("GET", "/view_metadata/checkpoints?filename=" + name), 404)

    def test_embeddings_are_listed_by_name(self):
        self.assertEqual(self.server.get("/embeddings"), [])
        with tempfile.TemporaryDirectory() as folder:
            os.makedirs(os.path.join(folder, "models", "embeddings", "hands"))
            for name in ("bad.v2.safetensors", "hands/old.pt", "notes.txt"):
                open(os.path.join(folder, "models", "embeddings", name), "wb").close()
            server = Server(folder, "--models", os.path.join(folder, "models"))
            try:
                self.assertEqual(server.get("/embeddings"), ["bad.v2", "hands/old"])
                self.assertEqual(server.get("/models/embeddings"), ["bad.v2.safetensors", "hands/old.pt"])
            finally:
                server.stop()

    def test_an_uploaded_picture_appears_among_the_choices(self):
        choices = self.server.get("/object_info/LoadImage")["LoadImage"]["input"]["required"]["image"][0]
        self.assertNotIn("late.png", choices)
        self.server.get("/object_info")  # the whole text is kept
        self.upload(("image", RED, "late.png"))
        everything = self.server.get("/object_info")
        self.assertIn("late.png", everything["LoadImage"]["input"]["required"]["image"][0])

    def test_unknown_routes_are_404_without_noise(self):
        for path in ("/nothing", "/api/nothing", "/manager/default_ui", "/customnode/getlist", "/internal/logs/raw"):
            status, data = self.server.request("GET", path)
            self.assertEqual((status, json.loads(data)), (404, {"error": "not found"}))
        self.assertEqual(self.status("PATCH", "/internal/logs/subscribe", {}), 404)
        self.assertNotIn("nothing", self.server.log_text())
        self.assertEqual(self.status("GET", "/jobs"), 404)  # only below /api
        self.assertEqual(self.status("DELETE", "/queue"), 405)

    def test_head_has_no_body(self):
        status, data = self.server.request("HEAD", "/system_stats")
        self.assertEqual((status, data), (200, b""))

    def test_a_connection_is_kept(self):
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=PATIENCE)
        connection.request("GET", "/queue")
        connection.getresponse().read()
        first = connection.sock
        for _ in range(5):
            connection.request("GET", "/prompt")
            self.assertEqual(connection.getresponse().read(), b'{"exec_info":{"queue_remaining":0}}')
        self.assertIs(connection.sock, first)
        self.assertIsNotNone(first)
        connection.close()

    def test_metrics_count(self):
        before = self.metric("jobs_added_total")
        job = self.server.submit(colour(3))
        self.server.wait_for(job)
        self.assertEqual(self.metric("jobs_added_total"), before + 1)
        self.assertGreater(self.metric("memory_bytes"), 1 << 20)
        self.assertEqual(self.metric("queue_jobs"), 0)


class Guarded(HttpCase):
    def test_names_of_other_servers_are_refused(self):
        for name in ("evil.example", f"evil.example:{self.server.port}", "localhost:1", "127.0.0.1"):
            self.assertEqual(self.status("GET", "/queue", headers={"Host": name}), 403, name)
        self.assertEqual(self.status("GET", "/queue", headers={"Host": f"localhost:{self.server.port}"}), 200)

    def test_pages_of_other_sites_are_refused(self):
        own = f"http://127.0.0.1:{self.server.port}"
        self.assertEqual(self.status("POST", "/interrupt", headers={"Origin": own}), 200)
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
            self.assertEqual(self.status("POST", "/interrupt", headers={"Origin": origin}), 403, origin)
        self.assertEqual(self.status("POST", "/interrupt", headers={"Sec-Fetch-Site": "cross-site"}), 403)
        with self.assertRaises(Refused) as refused:
            RawSocket(self.server, headers=["Origin: http://evil.example"])
        self.assertEqual(refused.exception.args[0], 403)
        RawSocket(self.server, headers=[f"Origin: {own}"]).close()


class Tokens(HttpCase):
    token = "correct-horse-battery-staple"
    options = ("--listen", "0.0.0.0", "--token-file", "token")

    @classmethod
    def setUpClass(cls):
        start = Server.__init__

        def with_token(self, folder, *options):
            with open(os.path.join(folder, "token"), "w", encoding="ascii") as file:
                file.write(cls.token + "\n")
            start(self, folder, *options)
        Server.__init__ = with_token
        try:
            super().setUpClass()
        finally:
            Server.__init__ = start

    def test_nothing_is_told_without_the_token(self):
        for method, path in (("GET", "/"), ("GET", "/queue"), ("POST", "/prompt"), ("GET", "/nothing"), ("GET", "/metrics")):
            self.assertEqual(self.status(method, path), 401)
        self.assertEqual(self.status("GET", "/health"), 200)
        for wrong in (self.token[:-1], self.token + "x", "", self.token.upper()):
            self.assertEqual(self.status("GET", "/queue", headers={"Authorization": "Bearer " + wrong}), 401)
        with self.assertRaises(Refused) as refused:
            RawSocket(self.server)
        self.assertEqual(refused.exception.args[0], 401)

    def test_three_ways_to_show_it(self):
        self.assertEqual(self.status("GET", "/queue", headers={"Authorization": "Bearer " + self.token}), 200)
        self.assertEqual(self.status("GET", "/queue?token=" + self.token), 200)
        self.assertEqual(self.status("GET", "/queue", headers={"Cookie": "tessera_token=" + self.token}), 200)
        RawSocket(self.server, path="/ws?clientId=a&token=" + self.token).close()

    def test_the_page_turns_it_into_a_cookie(self):
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=PATIENCE)
        connection.request("GET", "/?token=" + self.token)
        answer = connection.getresponse()
        answer.read()
        self.assertEqual((answer.status, answer.getheader("Location")), (303, "/"))
        cookie = answer.getheader("Set-Cookie")
        self.assertIn("HttpOnly", cookie)
        self.assertIn("SameSite=Strict", cookie)
        connection.request("GET", "/", headers={"Cookie": cookie.split(";")[0]})
        self.assertEqual(connection.getresponse().status, 200)
        connection.close()

    def test_it_is_never_logged(self):
        self.status("GET", "/queue?token=" + self.token)
        self.assertNotIn(self.token, self.server.log_text())


class Uploads(HttpCase):
    def test_a_picture_is_stored_once(self):
        self.assertEqual(self.upload(("image", RED, "once.png")),
                         (200, {"name": "once.png", "subfolder": "", "type": "input"}))
        self.assertEqual(self.upload(("image", RED, "once.png"))[1]["name"], "once.png")
        self.assertEqual(self.upload(("image", BLUE, "once.png"))[1]["name"], "once (1).png")
        self.assertEqual(self.upload(("image", BLUE, "once.png"))[1]["name"], "once (1).png")
        self.assertEqual(self.upload(("image", BLUE, "once.png"), ("overwrite", "true"))[1]["name"], "once.png")
        with open(os.path.join(self.folder, "input", "once.png"), "rb") as file:
            self.assertEqual(file.read(), BLUE)

    def test_it_goes_where_it_is_told(self):
        status, answer = self.upload(("image", RED, "deep.png"), ("subfolder", "a/b"), ("type", "temp"))
        self.assertEqual((status, answer), (200, {"name": "deep.png", "subfolder": "a/b", "type": "temp"}))
        self.assertEqual(self.server.request("GET", "/view?filename=deep.png&subfolder=a/b&type=temp"), (200, RED))

    def test_a_name_that_says_nothing_gets_an_ending(self):
        self.assertEqual(self.upload(("image", RED, "blob"))[1]["name"], "blob.png")
        self.assertEqual(self.upload(("image", RED, "page.html"))[1]["name"], "page.html.png")

    def test_only_pictures(self):
        before = self.files("input")
        for data in (b"", b"<html></html>", RED[:-20], b"\x89PNG\r\n\x1a\n" + b"\0" * 100):
            self.assertEqual(self.upload(("image", data, "x.png"))[0], 400)
        self.assertEqual(self.files("input"), before)

    def test_names_cannot_leave_the_folder(self):
        before = self.files("")
        for name in ("../x.png", "/tmp/tessera-escape.png", "..\\\\x.png", "a/b.png", ".hidden.png", "x\x01.png", "y" * 300 + ".png", ".."):
            self.assertEqual(self.upload(("image", RED, name))[0], 400, name)
        escape = ("image", RED, "tessera-escape.png")
        for subfolder in ("..", "../..", "/tmp", "a/../..", ".git", "a\\b", "a//b", "\x01", "d/" * 40):
            self.assertEqual(self.upload(escape, ("subfolder", subfolder))[0], 400, subfolder)
        self.assertEqual(self.upload(("image", RED, "x.png"), ("type", "models"))[0], 400)
        os.symlink("/tmp", os.path.join(self.folder, "input", "way-out"))
        self.assertEqual(self.upload(escape, ("subfolder", "way-out"))[0], 403)
        self.assertFalse(os.path.exists("/tmp/tessera-escape.png"))
        self.assertEqual(self.files(""), before)

    def test_a_mask_keeps_colours_and_texts(self):
        job = self.server.submit(colour(0x336699, prefix="masked"))
        item, = self.outputs(self.server.wait_for(job))
        reference = json.dumps(item)
        mask = png(64, 64, lambda x, y: (0, 0, 0))
        status, answer = self.upload(("image", mask, "mask.png"), ("original_ref", reference), path="/upload/mask")
        self.assertEqual((status, answer["type"]), (200, "input"))
        data = self.server.request("GET", "/view?type=input&filename=" + answer["name"])[1]
        self.assertEqual(data[25], 6)  # PNG's colour type: RGBA
        self.assertIn(b"class_type", data)
        wrong = png(8, 8, lambda x, y: (0, 0, 0))
        self.assertEqual(self.upload(("image", wrong, "m.png"), ("original_ref", reference), path="/upload/mask")[0], 400)
        for bad in ("{}", "nonsense", json.dumps(dict(item, filename="../x.png")), json.dumps(dict(item, type="x"))):
            self.assertEqual(self.upload(("image", mask, "m.png"), ("original_ref", bad), path="/upload/mask")[0], 400, bad)
        gone = json.dumps(dict(item, filename="gone.png"))
        self.assertEqual(self.upload(("image", mask, "m.png"), ("original_ref", gone), path="/upload/mask")[0], 404)

    def test_malformed_forms(self):
        good, headers = form(("image", RED, "x.png"))
        for body in (b"", b"nonsense", good[:-4], good[:40], good.replace(b"\r\n\r\n", b"\r\n", 1), b"--bound--\r\n",
                     good.replace(b"name=", b"nome="), good.replace(b"image", b"other")):
            self.assertEqual(self.status("POST", "/upload/image", body, headers), 400, body[:60])
        self.assertEqual(self.status("POST", "/upload/image", good), 200)  # no Content-Type at all
        self.assert_alive()


class Views(HttpCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name, data in (("red.png", RED), ("page.html", b"<script>"), ("sub/x.png", BLUE), (".secret.png", RED)):
            path = os.path.join(cls.folder, "output", name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(data)
        os.symlink("/etc/passwd", os.path.join(cls.folder, "output", "passwd.png"))
        os.symlink("/etc", os.path.join(cls.folder, "output", "etc"))

    def headers(self, path, headers=None):
        connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=PATIENCE)
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer, data

    def test_files_are_sent_as_they_are(self):
        answer, data = self.headers("/view?filename=red.png")
        self.assertEqual((answer.status, data), (200, RED))
        self.assertEqual(answer.getheader("Content-Type"), "image/png")
        self.assertEqual(answer.getheader("Content-Disposition"), 'filename="red.png"')
        self.assertEqual(answer.getheader("X-Content-Type-Options"), "nosniff")
        again, data = self.headers("/view?filename=red.png", {"If-None-Match": answer.getheader("ETag")})
        self.assertEqual((again.status, data), (304, b""))
        self.assertEqual(self.headers("/view?filename=x.png&subfolder=sub")[1], BLUE)
        self.assertEqual(self.headers("/view?filename=red.png%20%5Boutput%5D&type=input")[1], RED)

    def test_nothing_runs_as_a_page(self):
        answer, _ = self.headers("/view?filename=page.html")
        self.assertEqual(answer.getheader("Content-Type"), "application/octet-stream")
        self.assertTrue(answer.getheader("Content-Disposition").startswith("attachment"))

    def test_previews_and_channels(self):
        answer, data = self.headers("/view?filename=red.png&preview=webp;80")
        self.assertEqual((answer.getheader("Content-Type"), data[8:12]), ("image/webp", b"WEBP"))
        answer, data = self.headers("/view?filename=red.png&preview=jpeg;50")
        self.assertEqual((answer.getheader("Content-Type"), data[:2]), ("image/jpeg", b"\xff\xd8"))
        self.assertEqual(self.headers("/view?filename=red.png&channel=rgb")[1][25], 2)
        self.assertEqual(self.headers("/view?filename=red.png&channel=a")[1][25], 6)
        self.assertEqual(self.headers("/view?filename=red.png&channel=rgba")[1], RED)
        self.assertEqual(self.status("GET", "/view?filename=page.html&preview=webp"), 400)
        self.assertEqual(self.status("GET", "/view?filename=red.png&preview=gif"), 400)
        self.assertEqual(self.status("GET", "/view?filename=red.png&channel=x"), 400)

    def test_paths_cannot_leave_the_folder(self):
        for query, status in (("filename=../server.log", 400), ("filename=..%2Fserver.log", 400), ("filename=/etc/passwd", 400),
                              ("filename=red.png%00.html", 400), ("filename=..%5Cserver.log", 400), ("filename=", 400),
                              ("filename=%252e%252e%252fserver.log", 404), ("filename=server.log&subfolder=..", 400),
                              ("filename=passwd&subfolder=/etc", 400), ("filename=passwd&subfolder=etc", 403),
                              ("filename=passwd.png", 403), ("filename=.secret.png", 400), ("filename=sub", 404),
                              ("filename=x.png&subfolder=sub/../sub", 400), ("filename=" + "a" * 300, 400),
                              ("filename=red.png&type=data", 400), ("filename=red.png&type=../data", 400),
                              ("filename=%c0%ae%c0%ae%c0%af", 400), ("filename=gone.png", 404), ("", 400)):
            self.assertEqual(self.status("GET", "/view?" + query), status, query)
        for path in ("/view/../../etc/passwd", "/%2e%2e/etc/passwd", "//etc/passwd", "/..%5c..%5cetc/passwd"):
            self.assertIn(self.status("GET", path), (400, 404), path)


class Sockets(HttpCase):
    options = ("--ping-seconds", "0.3", "--max-sockets", "4")

    def test_the_sid_is_the_clients_or_a_new_one(self):
        for path, wanted in (("/ws?clientId=me", r"me"), ("/api/ws", r"[0-9a-f]{32}")):
            client = RawSocket(self.server, path)
            event = json.loads(client.receive_until(TEXT))
            self.assertEqual((event["type"], event["data"]["status"]), ("status", {"exec_info": {"queue_remaining": 0}}))
            self.assertRegex(event["data"]["sid"], f"^{wanted}$")
            client.close()
        with self.assertRaises(Refused):
            RawSocket(self.server, "/ws?clientId=" + "x" * 200)

    def test_features_are_told_to_those_who_ask_first(self):
        hello = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}).encode()
        client = RawSocket(self.server)
        client.receive_until(TEXT)
        client.send(TEXT, hello)
        self.assertEqual(json.loads(client.receive_until(TEXT))["type"], "feature_flags")
        client.close()
        late = RawSocket(self.server)
        late.receive_until(TEXT)
        late.send(TEXT, b"{}")
        late.send(TEXT, hello)
        late.send(PING, b"after")
        while True:
            opcode, data = late.receive()
            self.assertNotEqual(opcode, TEXT)
            if opcode == PONG:
                break
        self.assertEqual(data, b"after")
        late.close()

    def test_a_newer_socket_takes_the_clients_place(self):
        older, newer = RawSocket(self.server, "/ws?clientId=twice"), RawSocket(self.server, "/ws?clientId=twice")
        job = self.server.submit(colour(21), client_id="twice")
        seen = []
        while not seen or seen[-1]["data"].get("node", 1) is not None:
            seen.append(json.loads(newer.receive_until(TEXT)))
        self.assertIn("execution_success", [event["type"] for event in seen])
        self.assertEqual(seen[-1]["data"]["prompt_id"], job)
        older.send(PING, b"still")
        kinds = []
        while True:
            opcode, data = older.receive()
            if opcode == PONG:
                break
            if opcode == TEXT:
                kinds.append(json.loads(data)["type"])
        self.assertNotIn("execution_success", kinds)
        older.close()
        newer.close()

    def test_there_is_room_for_so_many(self):
        clients = [RawSocket(self.server, f"/ws?clientId=c{i}") for i in range(4)]
        with self.assertRaises(Refused) as refused:
            RawSocket(self.server, "/ws?clientId=c5")
        self.assertEqual(refused.exception.args[0], 503)
        clients[0].close()
        end = time.monotonic() + PATIENCE
        while self.metric("websockets") > 3 and time.monotonic() < end:
            time.sleep(0.02)
        RawSocket(self.server, "/ws?clientId=c5").close()
        for client in clients[1:]:
            client.close()

    def test_bad_frames_close_the_socket(self):
        for data, code in ((frame(TEXT, b"hello", masked=False), 1002), (frame(3), 1002), (frame(TEXT, b"x", reserved=4), 1002),
                           (frame(0, b"x"), 1002), (frame(PING, b"x" * 126), 1002), (frame(PING, b"x", final=False), 1002),
                           (frame(TEXT, b"\xff\xfe"), 1007), (frame(BINARY, b"", announced=1 << 40), 1009),
                           (frame(BINARY, b"", announced=1 << 20), 1009), (frame(8, b"\x03\xe8"), 1000),
                           (os.urandom(4).join([b"\xff"] * 8), 1002)):
            client = RawSocket(self.server, "/ws?clientId=bad")
            client.socket.sendall(data)
            self.assertEqual(client.close_code(), code, data[:16])
            client.close()
        self.assert_alive()

    def test_a_silent_client_is_let_go(self):
        client = RawSocket(self.server, "/ws?clientId=silent")  # it never answers a ping
        start = time.monotonic()
        pings = 0
        while True:
            got = client.receive()
            if got is None or got[0] == 8:
                break
            pings += got[0] == PING
        client.close()
        self.assertEqual(pings, 4)
        self.assertLess(time.monotonic() - start, PATIENCE / 2)
        lively = RawSocket(self.server, "/ws?clientId=lively")
        for _ in range(8):
            self.assertIsNotNone(lively.receive_until(PING))
            lively.send(PONG)
        lively.close()

    def test_no_handshake_no_socket(self):
        for headers in ({}, {"Upgrade": "websocket"}, {"Upgrade": "websocket", "Connection": "Upgrade"},
                        {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "8",
                         "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="},
                        {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                         "Sec-WebSocket-Key": "short"}):
            self.assertIn(self.status("GET", "/ws", headers=headers), (400, 426))


class Slow(HttpCase):
    def test_a_client_that_does_not_read_holds_nobody_up(self):
        stuck = RawSocket(self.server, "/ws?clientId=stuck", receive_buffer=4096)
        reading = self.socket("reading")
        for i in range(40):
            job = self.server.submit(colour(i, size=64), client_id="reading")
        reading.wait_end(job)
        self.assert_alive()
        stuck.close()


class Hostile(HttpCase):
    def test_malformed_requests(self):
        host = f"Host: 127.0.0.1:{self.server.port}\r\n".encode()
        for data in (b"nonsense\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n" + host + b"\r\n",
                     b"GET /\0 HTTP/1.1\r\n" + host + b"\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64 + b"\r\n\r\n",
                     b"GET /%00 HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n",
                     b"GET /../../etc/passwd HTTP/1.1\r\n" + host + b"Connection: close\r\n\r\n",
                     b"GET http://evil.example/queue HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
                     b"POST /prompt HTTP/1.1\r\n" + host + b"Content-Length: -5\r\n\r\n",
                     b"POST /prompt HTTP/1.1\r\n" + host + b"Content-Length: x\r\n\r\n",
                     b"POST /prompt HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"
                     b"Connection: close\r\n\r\n0\r\n\r\n",
                     b"POST /prompt HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n",
                     b"POST /prompt HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                     b"ffffffffffffffff\r\nxx",
                     b"GET / HTTP/1.1\r\n" + host + b"X: " + b"a" * 40000 + b"\r\n\r\n",
                     b"GET / HTTP/1.1\r\n" + host + b"X: y\r\n" * 5000 + b"\r\n"):
            if b"ffffffff" in data:
                self.raw(data, wait=False)
                continue
            answer = self.raw(data)
            self.assertNotIn(b" 200 ", answer[:20], data[:60])
            self.assertNotIn(b"root:", answer)
        self.assert_alive()

    def test_malformed_json(self):
        for body in (b"{", b"[1,2", b'{"prompt":', b"\xff\xfe", b'{"a":"\xff"}', b"[" * 100000, b'{"a":' * 5000, b"nul", b'"x"', b"\0"):
            self.assertEqual(self.status("POST", "/prompt", body), 400, body[:20])
        self.assert_alive()

    def test_a_chunked_body_is_read(self):
        body = json.dumps({"prompt": colour(77)}).encode()
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 50]), body[i:i + 50]) for i in range(0, len(body), 50))
        answer = self.raw(f"POST /prompt HTTP/1.1\r\nHost: 127.0.0.1:{self.server.port}\r\nTransfer-Encoding: chunked\r\n"
                          "Connection: close\r\n\r\n".encode() + chunks + b"0\r\n\r\n")
        self.assertIn(b" 200 ", answer[:20])
        self.assertIn(b"prompt_id", answer)

    def test_a_client_that_expects_to_be_asked(self):
        body = json.dumps({"prompt": colour(78)}).encode()
        with socket.create_connection((self.server.host, self.server.port), timeout=PATIENCE) as connection:
            connection.sendall(f"POST /prompt HTTP/1.1\r\nHost: 127.0.0.1:{self.server.port}\r\nExpect: 100-continue\r\n"
                               f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode())
            self.assertTrue(connection.recv(100).startswith(b"HTTP/1.1 100 "))
            connection.sendall(body)
            self.assertIn(b" 200 ", connection.recv(100))

    def test_uploads_that_vanish_leave_nothing(self):
        before = [self.files(folder) for folder in ("input", "data")]
        body, _ = form(("image", RED * 2000, "vanish.png"))
        head = (f"POST /upload/image HTTP/1.1\r\nHost: 127.0.0.1:{self.server.port}\r\n"
                f"Content-Type: multipart/form-data; boundary=bound\r\nContent-Length: {len(body)}\r\n\r\n").encode()
        for part in (0, 1, 100, len(body) // 2, len(body) - 1):
            self.raw(head + body[:part], wait=False)
        end = time.monotonic() + PATIENCE
        open_now = self.metric("connections")
        while open_now > 1 and time.monotonic() < end:
            time.sleep(0.05)
            open_now = self.metric("connections")
        self.assertEqual(open_now, 1)  # asked once more, it may still count the one that asked before
        self.assertEqual([self.files(folder) for folder in ("input", "data")], before)
        self.assert_alive()

    def test_a_deep_graph_does_not_exhaust_the_stack(self):
        prompt = {"0": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 1}}}
        for i in range(1, 4000):
            prompt[str(i)] = {"class_type": "ImageInvert", "inputs": {"image": [str(i - 1), 0]}}
        prompt["save"] = {"class_type": "SaveImage", "inputs": {"images": ["3999", 0], "filename_prefix": "deep"}}
        self.assertIn(self.status("POST", "/prompt", {"prompt": prompt}), (200, 400))
        self.assert_alive()


class Limits(HttpCase):
    options = ("--max-upload", "1", "--max-queue", "3")

    def test_a_large_upload_hears_why(self):
        body, headers = form(("image", b"x" * (3 << 20), "x.png"))
        status, data = self.server.request("POST", "/upload/image", body, headers)
        self.assertEqual(status, 413)
        self.assertEqual(json.loads(data)["error"]["type"], "request_too_large")
        self.assertEqual(self.status("GET", "/features"), 200)

    def test_so_does_one_in_chunks(self):
        head = (f"POST /upload/image HTTP/1.1\r\nHost: 127.0.0.1:{self.server.port}\r\n"
                "Transfer-Encoding: chunked\r\n\r\n").encode()
        self.assertIn(b" 413 ", self.raw(head + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 48)[:20])

    def test_many_connections_at_once(self):
        idle = [socket.create_connection((self.server.host, self.server.port), timeout=PATIENCE) for _ in range(100)]
        self.assert_alive()
        for connection in idle:
            connection.close()
        self.assert_alive()


class Starts(unittest.TestCase):
    def test_what_cannot_be_started_says_why_in_a_line(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "short"), "w", encoding="ascii") as file:
                file.write("short\n")
            blocked = os.path.join(folder, "file")
            with open(blocked, "w", encoding="ascii"):
                pass
            taken = socket.create_server(("127.0.0.1", 0))
            port = str(taken.getsockname()[1])
            for options, word in ((["--listen", "0.0.0.0"], "--token-file"), (["--listen", "nonsense"], "--listen"),
                                  (["--listen", "0.0.0.0", "--token-file", os.path.join(folder, "short")], "token"),
                                  (["--listen", "0.0.0.0", "--token-file", os.path.join(folder, "gone")], "token"),
                                  (["--port", port], port), (["--port", "70000"], "--port"), (["--output", blocked], "folder"),
                                  (["--frobnicate"], "frobnicate"), (["--data"], "--data"), (["--quiet=1"], "--quiet"),
                                  (["--log-format", "xml"], "--log-format"), (["--models", "/nonexistent"], "nonexistent")):
                result = subprocess.run([TESSERA, "serve", "--port", "0", "--data", os.path.join(folder, "data"),
                                         *options], cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
                self.assertNotEqual(result.returncode, 0, options)
                self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
                self.assertIn(word, result.stderr)
            taken.close()

    def test_help_names_every_option(self):
        result = subprocess.run([TESSERA, "serve", "--help"], capture_output=True, text=True, check=True)
        for name in ("--listen", "--token-file", "--max-queue", "--preview-seconds", "--quiet"):
            self.assertIn(name, result.stdout)


if __name__ == "__main__":
    unittest.main()
