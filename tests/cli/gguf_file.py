"""A reader of GGUF files for the tests, written from the format's definition alone: header, pairs, tensors, and every block type
decoded element by element. Shares nothing with the library. Standard library only."""
import struct

TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
         7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
         13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 20: ("IQ4_NL", 32, 18), 23: ("IQ4_XS", 256, 136),
         26: ("I32", 1, 4), 27: ("I64", 1, 8), 30: ("BF16", 1, 2)}
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)


class Tensor:
    """shape in PyTorch's order, as the file has it; data: raw bytes"""
    def __init__(self, kind, shape, data):
        self.kind, self.shape, self.data = kind, shape, data

    def values(self):
        name, size = {t[0]: (t[0], t[2]) for t in TYPES.values()}[self.kind]
        count = len(self.data) // size
        if name in ("F32", "F16", "I32", "I64"):
            return list(struct.unpack(f"<{count}{dict(F32='f', F16='e', I32='i', I64='q')[name]}", self.data))
        if name == "BF16":
            wide = b"".join(b"\0\0" + self.data[i:i + 2] for i in range(0, len(self.data), 2))
            return list(struct.unpack(f"<{count}f", wide))
        decode = globals()["decode_" + name.lower()]
        result = []
        for i in range(count):
            result += decode(self.data[i * size:(i + 1) * size])
        return result


def read(path):
    """{name: Tensor} in the file's order, {key: value}"""
    with open(path, "rb") as file:
        data = file.read()
    at = 0

    def take(form):
        nonlocal at
        value = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return value[0]

    def text():
        nonlocal at
        size = take("Q")
        at += size
        return data[at - size:at].decode()

    def value(kind):
        if kind == 8:
            return text()
        if kind != 9:
            return take(SCALARS[kind])
        item, count = take("I"), take("Q")
        return [value(item) for _ in range(count)]

    assert data[:4] == b"GGUF"
    at = 4
    assert take("I") == 3
    count, pairs = take("Q"), take("Q")
    keys = {}
    for _ in range(pairs):
        key = text()
        assert key not in keys
        keys[key] = value(take("I"))
    found = []
    for _ in range(count):
        name = text()
        sides = [take("Q") for _ in range(take("I"))]
        found.append((name, sides[::-1], take("I"), take("Q")))
    start = -(-at // 32) * 32
    tensors, end = {}, 0
    for name, shape, kind, offset in found:
        title, block, size = TYPES[kind]
        number = 1
        for side in shape:
            number *= side
        assert offset % 32 == 0 and offset >= end and number % block == 0 and (not shape or shape[-1] % block == 0), name
        end = offset + number // block * size
        tensors[name] = Tensor(title, shape, data[start + offset:start + end])
    assert len(data) >= start + end and name not in ("",)
    return tensors, keys


def half(data, at):
    return struct.unpack_from("<e", data, at)[0]


def nibbles(data):
    """16 bytes: low halves, then high halves"""
    return [byte & 15 for byte in data] + [byte >> 4 for byte in data]


def bits(data):
    return [data[i // 8] >> (i % 8) & 1 for i in range(8 * len(data))]


def decode_q4_0(b):
    return [half(b, 0) * (q - 8) for q in nibbles(b[2:])]


def decode_q4_1(b):
    return [half(b, 0) * q + half(b, 2) for q in nibbles(b[4:])]


def decode_q5_0(b):
    return [half(b, 0) * (q + 16 * h - 16) for q, h in zip(nibbles(b[6:]), bits(b[2:6]))]


def decode_q5_1(b):
    return [half(b, 0) * (q + 16 * h) + half(b, 2) for q, h in zip(nibbles(b[8:]), bits(b[4:8]))]


def decode_q8_0(b):
    return [half(b, 0) * q for q in struct.unpack_from("32b", b, 2)]


def decode_iq4_nl(b):
    return [half(b, 0) * IQ4[q] for q in nibbles(b[2:])]


def decode_iq4_xs(b):
    result = []
    high = struct.unpack_from("<H", b, 2)[0]
    for group in range(8):
        scale = (b[4 + group // 2] >> (4 * (group % 2)) & 15) | (high >> (2 * group) & 3) << 4
        result += [half(b, 0) * (scale - 32) * IQ4[q] for q in nibbles(b[8 + 16 * group:24 + 16 * group])]
    return result


def decode_q2_k(b):
    """scales 16, qs 64, d, dmin: each half of 128 keeps 4 layers of 32 in the bit pairs of 32 bytes"""
    result = []
    for i in range(256):
        scale = b[i // 16]
        q = b[16 + 32 * (i // 128) + i % 32] >> (2 * (i % 128 // 32)) & 3
        result.append(half(b, 80) * (scale & 15) * q - half(b, 82) * (scale >> 4))
    return result


def decode_q3_k(b):
    """hmask 32, qs 64, scales 12, d"""
    low = [b[96 + k] & 15 for k in range(8)] + [b[96 + k] >> 4 for k in range(8)]
    high = [b[104 + k % 4] >> (2 * (k // 4)) & 3 for k in range(16)]
    result = []
    for i in range(256):
        q = b[32 + 32 * (i // 128) + i % 32] >> (2 * (i % 128 // 32)) & 3
        q -= 0 if b[i % 32] >> (i // 32) & 1 else 4
        result.append(half(b, 108) * ((low[i // 16] | high[i // 16] << 4) - 32) * q)
    return result


def k_scales(s):
    """12 bytes: 8 scales, 8 minima of 6 bits"""
    scales = [s[k] & 63 for k in range(4)] + [(s[8 + k] & 15) | (s[k] >> 6) << 4 for k in range(4)]
    minima = [s[4 + k] & 63 for k in range(4)] + [(s[8 + k] >> 4) | (s[4 + k] >> 6) << 4 for k in range(4)]
    return scales, minima


def decode_q45(b, qs, high):
    scales, minima = k_scales(b[4:16])
    result = []
    for i in range(256):
        byte = qs[32 * (i // 64) + i % 32]
        q = (byte >> 4 if i % 64 >= 32 else byte & 15) + (16 * (high[i % 32] >> (i // 32) & 1) if high else 0)
        result.append(half(b, 0) * scales[i // 32] * q - half(b, 2) * minima[i // 32])
    return result


def decode_q4_k(b):
    return decode_q45(b, b[16:144], None)


def decode_q5_k(b):
    return decode_q45(b, b[48:176], b[16:48])


def decode_q6_k(b):
    """ql 128, qh 64, scales 16 signed, d"""
    scales = struct.unpack_from("16b", b, 192)
    result = []
    for i in range(256):
        row = i % 128
        byte = b[64 * (i // 128) + row % 64]
        q = (byte >> 4 if row >= 64 else byte & 15) | (b[128 + 32 * (i // 128) + i % 32] >> (2 * (row // 32)) & 3) << 4
        result.append(half(b, 208) * scales[i // 16] * (q - 32))
    return result
