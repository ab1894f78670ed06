"""A WebSocket client that can also misbehave: frames byte by byte, on a raw socket. Standard library only."""
import base64
import hashlib
import os
import socket
import struct

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(opcode, data=b"", final=True, masked=True, reserved=0, announced=None):
    """One frame; announced: a length that differs from the data's."""
    size = len(data) if announced is None else announced
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    mark = 0x80 if masked else 0
    if size < 126:
        head += bytes([mark | size])
    elif size < 65536:
        head += bytes([mark | 126]) + struct.pack(">H", size)
    else:
        head += bytes([mark | 127]) + struct.pack(">Q", size)
    if not masked:
        return head + data
    mask = os.urandom(4)
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data))


class Refused(Exception):
    """The handshake was not answered with 101; args[0] is the status."""


class RawSocket:
    def __init__(self, server, path="/ws?clientId=raw", headers=(), timeout=30, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect((server.host, server.port))
        key = base64.b64encode(os.urandom(16))
        lines = [f"GET {path} HTTP/1.1", f"Host: {server.host}:{server.port}", "Upgrade: websocket",
                 "Connection: keep-alive, Upgrade", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key.decode()}",
                 *headers, "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        answer = {}
        for line in iter(lambda: self.file.readline().strip(), b""):
            name, _, value = line.partition(b": ")
            answer[name.lower()] = value
        if self.status != 101:
            self.close()
            raise Refused(self.status)
        wanted = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
        assert answer[b"sec-websocket-accept"] == wanted, answer

    def send(self, *arguments, **options):
        self.socket.sendall(frame(*arguments, **options))

    def receive(self):
        """(opcode, data), or None at the end of the stream."""
        head = self.file.read(2)
        if len(head) < 2:
            return None
        assert head[0] & 0x80 and not head[1] & 0x80, head
        size = head[1] & 0x7f
        if size >= 126:
            size = int.from_bytes(self.file.read(2 if size == 126 else 8), "big")
        data = self.file.read(size)
        return (head[0] & 0x0f, data) if len(data) == size else None

    def receive_until(self, opcode):
        """The data of the first frame of that kind; None when the stream ends before."""
        while True:
            got = self.receive()
            if got is None or got[0] == opcode:
                return got and got[1]

    def close_code(self):
        """The code the server closes with; None when it just ends."""
        try:
            data = self.receive_until(CLOSE)
        except ConnectionError:
            return None
        return int.from_bytes(data[:2], "big") if data else None

    def close(self):
        self.file.close()
        self.socket.close()
