#!/usr/bin/env python3
"""Writes fuzz/corpus/pth: tiny PyTorch files, good and hostile, from the format's definition (no PyTorch needed).

    python3 fuzz/make_pth_corpus.py fuzz/corpus/pth

The unit test test_pth_open.c names each file and says what must become of it.
"""
import io
import pathlib
import pickle
import struct
import sys
import zipfile


class Global:
    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """REDUCE of a global with arguments; items go in by SETITEMS, state by BUILD."""

    def __init__(self, callee, args, items=(), state=None):
        self.callee, self.args, self.items, self.state = callee, args, items, state


class Storage:
    def __init__(self, kind, key, count, module="torch"):
        self.id = ("storage", Global(module, kind), key, "cpu", count)


def text(value):
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value):
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if 0 <= value < 65536:
        return b"M" + struct.pack("<H", value)
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def body(value):
    """The opcodes that push value, protocol 2."""
    if value is None:
        return b"N"
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return number(value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, tuple):
        return b"(" + b"".join(map(body, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(body, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(body(k) + body(v) for k, v in value.items()) + b"u"
    if isinstance(value, Global):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Storage):
        return body(value.id) + b"Q"
    if isinstance(value, Call):
        out = body(value.callee) + body(tuple(value.args)) + b"R"
        if value.items:
            out += b"(" + b"".join(body(k) + body(v) for k, v in value.items) + b"u"
        if value.state is not None:
            out += body(value.state) + b"b"
        return out
    raise TypeError(value)


def pickled(value, protocol=2):
    return b"\x80" + bytes([protocol]) + body(value) + b"."


ORDERED = Global("collections", "OrderedDict")


def tensor(storage, shape, strides, offset=0):
    return Call(Global("torch._utils", "_rebuild_tensor_v2"),
                (storage, offset, tuple(shape), tuple(strides), False, Call(ORDERED, ())))


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)


def archive(pkl, members=(), root="archive", compression=zipfile.ZIP_STORED, byteorder="little"):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as zip_file:
        def add(name, data):
            zip_file.writestr(zipfile.ZipInfo(f"{root}/{name}"), data, compression)
        add("data.pkl", pkl)
        if byteorder:
            add("byteorder", byteorder)
        for key, data in members:
            add(f"data/{key}", data)
        add("version", "3\n")
    return out.getvalue()


def old(value, storages, magic=0x1950a86a20f9469cfc6c, little=True):
    out = pickled(magic) + pickled(1001)
    out += pickled({"protocol_version": 1001, "little_endian": little, "type_sizes": {"short": 2, "int": 4, "long": 4}})
    out += pickled(value) + pickled([key for key, _, _ in storages])
    for _, count, data in storages:
        out += struct.pack("<q", count) + data
    return out


def zip64(data):
    """The same archive with the sizes and places of its entries, and of its directory, in the zip64 records."""
    end = data.rindex(b"PK\x05\x06")
    count, size, offset = struct.unpack("<HII", data[end + 10:end + 20])
    at, directory = offset, b""
    for _ in range(count):
        head = bytearray(data[at:at + 46])
        name_length, extra_length, comment_length = struct.unpack("<HHH", head[28:34])
        packed, plain = struct.unpack("<II", head[20:28])
        header = struct.unpack("<I", head[42:46])[0]
        extra = struct.pack("<HHQQQ", 1, 24, plain, packed, header)
        head[20:28] = b"\xff" * 8
        head[30:32] = struct.pack("<H", len(extra))
        head[42:46] = b"\xff" * 4
        directory += bytes(head) + data[at + 46:at + 46 + name_length] + extra
        at += 46 + name_length + extra_length + comment_length
    record = struct.pack("<IQHHIIQQQQ", 0x06064b50, 44, 45, 45, 0, 0, count, count, len(directory), offset)
    place = offset + len(directory)
    locator = struct.pack("<IIQI", 0x07064b50, 0, place, 1)
    tail = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xffff, 0xffff, 0xffffffff, 0xffffffff, 0)
    return data[:offset] + directory + record + locator + tail


def patched(data, mark, skip, raw):
    at = data.index(mark) + skip
    return data[:at] + raw + data[at + len(raw):]


def patched_last(data, mark, skip, raw):
    at = data.rindex(mark) + skip
    return data[:at] + raw + data[at + len(raw):]


def evil(module, name):
    return Call(Global(module, name), ("echo owned",))


def files():
    six = floats(0, 1, 2, 3, 4, 5)
    one = Storage("FloatStorage", "0", 6)
    plain = {"a": tensor(one, (2, 3), (3, 1))}
    good = archive(pickled(plain), [("0", six)])
    yield "good", good
    yield "good_zip64", zip64(good)
    yield "good_comment", patched_last(good, b"PK\x05\x06", 20, b"\x05\x00") + b"hello"
    yield "good_metadata", archive(pickled(Call(ORDERED, (), plain.items(), {"_metadata": Call(ORDERED, ())})),
                                   [("0", six)])
    yield "good_params_ema", archive(pickled({"params": {"b": tensor(one, (6,), (1,))},
                                              "params_ema": {"net": {"a": tensor(one, (6,), (1,))}, "step": 7}}),
                                     [("0", six)])
    word = floats(*[(i % 13 - 6) / 8 for i in range(2 * 128)])  # a textual-inversion embedding as A1111 saves it
    yield "good_embedding", archive(pickled({"string_to_token": {"*": 265}, "string_to_param": {
        "*": tensor(Storage("FloatStorage", "0", 256), (2, 128), (128, 1))}, "name": "word", "step": 7}), [("0", word)])
    yield "good_state_dict", archive(pickled({"epoch": 3, "lr": 1.5e-4, "state_dict": plain}), [("0", six)])
    yield "good_parameter", archive(
        pickled({"a": Call(Global("torch._utils", "_rebuild_parameter"), (plain["a"], True, Call(ORDERED, ())))}),
        [("0", six)])
    yield "good_python2_dict", archive(pickled(Call(ORDERED, ([["a", plain["a"]]],))), [("0", six)])
    yield "good_types", archive(pickled({
        "half": tensor(Storage("HalfStorage", "h", 2), (2,), (1,)),
        "brain": tensor(Storage("BFloat16Storage", "b", 2), (2,), (1,)),
        "double": tensor(Storage("DoubleStorage", "d", 1), (), ()),
        "long": tensor(Storage("LongStorage", "l", 1), (1,), (1,)),
        "byte": tensor(Storage("UntypedStorage", "u", 3, "torch.storage"), (3,), (1,)),
        "empty": tensor(Storage("FloatStorage", "e", 0), (0, 4), (4, 1)),
    }), [("h", b"\x00\x3c\x00\xc0"), ("b", b"\x80\x3f\x00\xc0"), ("d", struct.pack("<d", 0.5)),
         ("l", struct.pack("<q", -9)), ("u", b"\x01\x02\x03"), ("e", b"")])
    yield "good_strides", archive(pickled({
        "turned": tensor(one, (3, 2), (1, 3)),
        "slice": tensor(one, (2, 2), (3, 1), 1),
        "one": tensor(one, (1, 1, 3), (77, 5, 1), 3),
    }), [("0", six)])
    memo = b"\x80\x04\x95" + struct.pack("<Q", 99) + b"}\x94\x8c\x01a\x94\x8c\x0ctorch._utils\x8c\x12_rebuild_tensor_v2\x93(" + \
        body(one) + b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89\x8c\x0bcollections\x8c\x0bOrderedDict\x93)RtRs."
    yield "good_protocol4", archive(memo, [("0", six)])
    yield "good_old", old({"a": tensor(one, (2, 3), (3, 1)), "b": tensor(Storage("HalfStorage", "9", 2), (2,), (1,))},
                          [("9", 2, b"\x00\x3c\x00\xc0"), ("0", 6, six)])

    yield "runs_system", archive(pickled({"a": evil("os", "system")}))
    yield "runs_eval", archive(pickled(evil("builtins", "eval")))
    yield "runs_load_from_bytes", archive(pickled(evil("torch.storage", "_load_from_bytes")))
    yield "runs_getattr", archive(pickled(evil("builtins", "getattr")))
    yield "runs_system_protocol4", archive(b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R.")
    yield "runs_inst", archive(b"\x80\x02(X\x02\x00\x00\x00lsios\nsystem\n.")
    yield "runs_storage", archive(pickled(Call(Global("torch", "FloatStorage"), (3,))))
    yield "runs_old", old(evil("os", "system"), [])
    yield "runs_plain_pickle", pickled(evil("os", "system"))
    yield "newobj", archive(b"\x80\x02ccollections\nOrderedDict\n)\x81.")
    yield "extension", archive(b"\x80\x02\x82\x01.")
    yield "control_name", archive(pickled(Global("o\x1bs", "sys\x07tem")))

    yield "truncated", good[:-30]
    yield "truncated_head", good[:40]
    yield "only_magic", b"PK\x03\x04"
    yield "compressed", archive(pickled(plain), [("0", six)], compression=zipfile.ZIP_DEFLATED)
    yield "no_pickle", archive(pickled(plain)).replace(b"data.pkl", b"data.pkx")
    yield "directory_outside", patched_last(good, b"PK\x05\x06", 16, b"\xf0\xff\xff\x7f")
    yield "directory_short", patched_last(good, b"PK\x05\x06", 10, b"\x30\x00")
    yield "directory_broken", patched(good, b"PK\x01\x02", 0, b"XX")
    yield "entry_outside", patched(good, b"PK\x01\x02", 42, b"\xf0\xff\xff\x7f")
    yield "entry_long", patched(patched(good, b"PK\x01\x02", 20, b"\xff\xff\xff\x00"), b"PK\x01\x02", 24,
                                b"\xff\xff\xff\x00")
    yield "zip64_missing", patched(good, b"PK\x01\x02", 42, b"\xff\xff\xff\xff")
    broken64 = zip64(good)
    yield "zip64_outside", patched_last(broken64, b"PK\x06\x07", 8, b"\xff" * 8)
    yield "zip64_huge", patched_last(broken64, b"PK\x06\x06", 24, b"\xff" * 24)
    yield "torchscript", archive(pickled({}), [("../constants.pkl", pickled(()))]).replace(b"data/../", b"code/0x/")
    yield "big_endian", archive(pickled(plain), [("0", six)], byteorder="big")

    yield "storage_missing", archive(pickled(plain))
    yield "storage_short", archive(pickled(plain), [("0", six[:20])])
    yield "tensor_outside", archive(pickled({"a": tensor(one, (2, 3), (3, 1), 1)}), [("0", six)])
    yield "tensor_stride", archive(pickled({"a": tensor(one, (2, 2), (1 << 62, 1))}), [("0", six)])
    yield "tensor_offset", archive(pickled({"a": tensor(one, (1,), (1,), (1 << 63) - 1)}), [("0", six)])
    yield "tensor_huge", archive(pickled({"a": tensor(one, (1 << 40, 1 << 40), (0, 0))}), [("0", six)])
    yield "tensor_negative", archive(pickled({"a": tensor(one, (-1,), (1,))}), [("0", six)])
    yield "tensor_rank9", archive(pickled({"a": tensor(one, (1,) * 9, (1,) * 9)}), [("0", six)])
    yield "tensor_ranks_differ", archive(pickled({"a": tensor(one, (2, 3), (1,))}), [("0", six)])
    yield "tensor_bad_storage", archive(pickled({"a": tensor("0", (1,), (1,))}))
    yield "name_control", archive(pickled({"a\n": plain["a"]}), [("0", six)])
    yield "name_number", archive(pickled({5: plain["a"]}), [("0", six)])
    yield "name_twice", archive(pickled({"a.b": plain["a"], "a": {"b": plain["a"]}}), [("0", six)])
    yield "not_a_dict", archive(pickled([1, 2]))
    yield "tensors_repeat", archive(pickled({str(i): tensor(one, (3, 2), (1, 3)) for i in range(400)}), [("0", six)])
    yield "persistent_bad", archive(b"\x80\x02X\x07\x00\x00\x00storageQ.")
    yield "persistent_view", archive(pickled({"a": tensor(body(one.id + (("1", 0, 3),)) + b"Q", (1,), (1,))}))
    yield "cycle", archive(b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.")
    wide = b"\x80\x02}"
    for level in range(8):  # a dict of 30 times the dict below: 30^8 paths
        wide += b"q" + bytes([level]) + b"0}(" + b"".join(text(f"{i:02}") + b"h" + bytes([level]) for i in range(30)) + b"u"
    yield "wide", archive(wide + b".")
    lists = b"\x80\x02](" + (b"](NNe" * 2000) + b"e\x85q\x010ccollections\nOrderedDict\nq\x020]"
    yield "unfolds", archive(lists + b"h\x02h\x01Ra" * 6000 + b".")

    yield "pickle_empty", archive(b"")
    yield "pickle_cut", archive(pickled(plain)[:40])
    yield "pickle_protocol0", archive(b"\x80\x00N.")
    yield "pickle_underflow", archive(b"\x80\x02\x87.")
    yield "pickle_no_mark", archive(b"\x80\x02u.")
    yield "pickle_empty_mark", archive(b"\x80\x02(t.")
    yield "pickle_memo", archive(b"\x80\x02h\x07.")
    yield "pickle_memo_far", archive(b"\x80\x02Nr\xff\xff\xff\xff.")
    yield "pickle_marks", archive(b"\x80\x02" + b"(" * 1200 + b"N.")
    yield "pickle_odd", archive(b"\x80\x02}(Nu.")
    yield "pickle_text_long", archive(b"\x80\x02X\xff\xff\xff\xffab.")
    yield "pickle_text8", archive(b"\x80\x04\x8d" + b"\xff" * 8 + b"ab.")
    yield "pickle_left_over", archive(b"\x80\x02NN.")
    yield "pickle_build", archive(b"\x80\x02NNb.")
    yield "pickle_add", archive(b"\x80\x02NNa.")

    yield "old_magic", old({}, [], magic=0x1950a86a20f9469cfc6d)
    yield "old_big_endian", old({}, [], little=False)
    good_old = old(plain, [("0", 6, six)])
    yield "old_truncated", good_old[:-3]
    yield "old_count", good_old[:-32] + struct.pack("<q", 1 << 61) + six
    yield "old_negative", good_old[:-32] + struct.pack("<q", -6) + six
    yield "old_few", old(plain, [("0", 5, six[:20])])
    yield "old_unknown_key", old(plain, [("0", 6, six), ("1", 6, six)])
    yield "old_key_twice", old(plain, [("0", 6, six), ("0", 6, six)])
    yield "old_missing", old(plain, [])
    yield "old_two_types", old({"a": plain["a"], "b": tensor(Storage("HalfStorage", "0", 6), (6,), (1,))},
                               [("0", 6, six)])
    yield "protocol_number", pickle.dumps(5, 2)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files():
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
