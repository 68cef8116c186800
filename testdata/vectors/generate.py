"""Makes lmt1.json and keys.json, without any code of Lineament: from the specification alone.

Needs Python 3.11 with the packages blake3 and xxhash. Run it in this folder: python generate.py
"""

import hashlib
import json
import math
import struct

import blake3
import xxhash

BLOCK = 65_536

# Digests that the specification names (BLAKE3, SHA-256), against which this program is itself checked.
SPECIFIED = {
    "no columns, no rows": (
        "f7a00050085bf126279d5b059caf5f740ad61cff8b8fff479227559f62b98150",
        "be11993d0569517c64d9a818a0f070da8286c8cca12298481bbb1e7f0194641f",
    ),
    "integers with a null": (
        "71e2dadd2f0ab4d42c176fa3bcf855b9a5dbdc4f046f605ad4aa48ec04c0d6c9",
        "ae2070da827998c287d84639d1d04b2091e8a6fe38d0a33ab1b7c139304730c2",
    ),
    "floats with NaN, negative zero and a null": (
        "3027926dfbfecc98bd3385757bc424d15d8afef594bc868bc203bf65f66618f0",
        "7e0c6f17a985b6ee2561cc8623a901de1edeb6e2218a1f42de5b7cc831fe07d2",
    ),
    "text with an empty one and a null": (
        "28de9ad67bb12ae2623ac93548418c8cd68e211c809699409ac845d4140fe5d3",
        "5e75c123f071dccfb1cb6e68446b6fcac1a3687e286e0758bc7b25b51c026c35",
    ),
    "two columns": (
        "6531edd18053910f004723100bc5b4a68ee868e3b03785338961026cb7c618ea",
        "a016914c2a8a28cee9ba3d3f340db7c725af5721ea6efa1d3b7635b22082223d",
    ),
    "a row more than a block": (
        "688046df0c22cd91801df3dec249fcbf574fa600d4dcf7dbff664eecee762428",
        "d0a631eb19c63249c66f0e71ff8c6b2e90026086b3cb9fa5637df79780d32204",
    ),
}

HASHES = {
    "blake3": lambda data: blake3.blake3(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
}


def u32(number):
    return struct.pack("<I", number)


def text(string):
    data = string.encode()
    return u32(len(data)) + data


def bitmap(bits):
    data = bytearray((len(bits) + 7) // 8)
    for i, bit in enumerate(bits):
        if bit:
            data[i // 8] |= 1 << (i % 8)
    return bytes(data)


def split_type(kind):
    """The type text as a tree: (name, parameters, children); children of a struct are (name, type)."""
    data = kind.encode()

    def parse(at):
        for word in (b"list<", b"map<", b"struct<", b"flist:"):
            if data.startswith(word, at):
                break
        else:
            end = at
            while end < len(data) and data[end : end + 1] not in (b",", b">"):
                end += 1
            name, *parameters = data[at:end].decode().split(":")
            return (name, parameters, []), end
        at += len(word)
        if word == b"flist:":
            end = data.index(b"<", at)
            size = int(data[at:end])
            child, at = parse(end + 1)
            return ("flist", [size], [child]), at + 1
        children = []
        while data[at : at + 1] != b">":
            if word == b"struct<":
                colon = data.index(b":", at)
                length = int(data[at:colon])
                name = data[colon + 1 : colon + 1 + length].decode()
                child, at = parse(colon + 1 + length + 1)
                children.append((name, child))
            else:
                child, at = parse(at)
                children.append(child)
            if data[at : at + 1] == b",":
                at += 1
        return (word[:-1].decode(), [], children), at + 1

    tree, end = parse(0)
    assert end == len(data), kind
    return tree


INTEGERS = {"i8": "b", "i16": "h", "i32": "i", "i64": "q", "u8": "B", "u16": "H", "u32": "I", "u64": "Q"}
FLOATS = {
    "f16": ("e", bytes.fromhex("007e")),
    "f32": ("f", bytes.fromhex("0000c07f")),
    "f64": ("d", bytes.fromhex("000000000000f87f")),
}


def number(value):
    """Numbers beyond 2^53 and floats that JSON lacks stand in the file as strings."""
    return float(value) if value in ("nan", "inf", "-inf") else int(value) if isinstance(value, str) else value


def one(tree, value):
    """The bytes of one value of a type of fixed width; of none for a null."""
    name, parameters, _ = tree
    if name in INTEGERS:
        return struct.pack("<" + INTEGERS[name], number(value or 0))
    if name in FLOATS:
        letter, nan = FLOATS[name]
        value = float(number(value)) if value is not None else 0.0
        return nan if math.isnan(value) else struct.pack("<" + letter, value)
    if name == "dec":
        return int(value or 0).to_bytes(16 if int(parameters[0]) <= 38 else 32, "little", signed=True)
    if name == "date":
        return struct.pack("<i", value or 0)
    if name in ("time", "ts", "dur"):
        return struct.pack("<q", number(value or 0))
    if name == "fbin":
        return bytes.fromhex(value) if value is not None else bytes(int(parameters[0]))
    raise ValueError(name)


def body(tree, values):
    name, parameters, children = tree
    nulls = sum(value is None for value in values)
    data = u32(nulls)
    if nulls:
        data += bitmap([value is not None for value in values])
    lengths = b"".join(u32(len(value) if value is not None else 0) for value in values) if name in ("list", "map") else b""
    flat = [item for value in values if value is not None for item in value] if name in ("list", "map") else []
    if name == "null":
        return data
    if name == "bool":
        return data + bitmap([bool(value) for value in values])
    if name in ("utf8", "bin"):
        raw = [(v.encode() if name == "utf8" else bytes.fromhex(v)) if v is not None else b"" for v in values]
        return data + b"".join(u32(len(v)) for v in raw) + b"".join(raw)
    if name == "list":
        return data + lengths + body(children[0], flat)
    if name == "map":
        return data + lengths + body(children[0], [k for k, _ in flat]) + body(children[1], [v for _, v in flat])
    if name == "flist":
        size = parameters[0]
        return data + body(children[0], [item for v in values for item in (v if v is not None else [None] * size)])
    if name == "struct":
        for i, (_, child) in enumerate(children):
            data += body(child, [v[i] if v is not None else None for v in values])
        return data
    return data + b"".join(one(tree, value) for value in values)


def digest(table, rows, h):
    def root(leaves):
        if not leaves:
            return h(b"")
        if len(leaves) == 1:
            return leaves[0]
        k = 1
        while k * 2 < len(leaves):
            k *= 2
        return h(b"\x01" + root(leaves[:k]) + root(leaves[k:]))

    data = b"\x03" + text("lmt1") + struct.pack("<Q", rows) + u32(len(table))
    for column in table:
        values, tree = column["values"], split_type(column["type"])
        if isinstance(values, dict):
            values = list(range(values["from"], values["until"]))
        assert len(values) == rows
        blocks = [values[i : i + BLOCK] for i in range(0, rows, BLOCK)]
        leaves = [h(b"\x00" + u32(len(block)) + body(tree, block)) for block in blocks]
        data += h(b"\x02" + text(column["name"]) + text(column["type"]) + struct.pack("<Q", rows) + root(leaves))
    return h(data).hex()


def column(kind, values, name="x"):
    return {"name": name, "type": kind, "values": values}


TABLES = {
    "no columns, no rows": [],
    "integers with a null": [column("i64", [1, None, -3])],
    "floats with NaN, negative zero and a null": [column("f64", [1.5, "nan", -0.0, None], "f")],
    "text with an empty one and a null": [column("utf8", ["a", "", None, "\u00e9"], "s")],
    "two columns": [column("ts:us:utc", [0, None], "t"), column("bool", [True, False], "b")],
    "a row more than a block": [column("i32", {"from": 0, "until": 65_537}, "n")],
    "a whole block": [column("i64", {"from": -32_768, "until": 32_768}, "n")],
    "three blocks": [column("u32", {"from": 0, "until": 131_073}, "n")],
    "no rows": [column("i64", []), column("list<utf8>", [], "y")],
    "null": [column("null", [None] * 9)],
    "bool": [column("bool", [True, None, False, True, True, False, True, False, None, True])],
    "i8": [column("i8", [-128, 127, None])],
    "i16": [column("i16", [-32_768, None, 32_767])],
    "i32": [column("i32", [None, -(2**31), 2**31 - 1])],
    "i64": [column("i64", [str(-(2**63)), str(2**63 - 1)])],
    "u8": [column("u8", [0, 255, None])],
    "u16": [column("u16", [65_535, None])],
    "u32": [column("u32", [2**32 - 1, None])],
    "u64": [column("u64", [str(2**64 - 1), None, 1])],
    "f16": [column("f16", [1.5, "nan", -0.0, None, "inf"])],
    "f32": [column("f32", [1.5, "nan", -0.0, None, "-inf"])],
    "f64": [column("f64", [1e300, "nan", 0.1, "inf"])],
    "dec of 7 digits": [column("dec:7:2", ["1234567", None, "-1"])],
    "dec of 18 digits": [column("dec:18:0", ["999999999999999999", None])],
    "dec of 38 digits": [column("dec:38:10", [str(10**38 - 1), str(1 - 10**38), None])],
    "dec of 50 digits, negative scale": [column("dec:50:-3", [str(10**50 - 1), "-1", None])],
    "date": [column("date", [0, -1, None, 15_715])],
    "time:s": [column("time:s", [0, 86_399, None])],
    "time:ms": [column("time:ms", [1, None])],
    "time:us": [column("time:us", [86_399_999_999, None])],
    "time:ns": [column("time:ns", [1, None])],
    "ts:s:utc": [column("ts:s:utc", [1, None])],
    "ts:ms:local": [column("ts:ms:local", [-1, None])],
    "ts:us:local": [column("ts:us:local", [1_357_034_400_000_000])],
    "ts:ns:utc": [column("ts:ns:utc", [str(2**62), None])],
    "dur:s": [column("dur:s", [5, None])],
    "dur:ms": [column("dur:ms", [5, None])],
    "dur:us": [column("dur:us", [-5, None])],
    "dur:ns": [column("dur:ns", [5, None])],
    "fbin": [column("fbin:3", ["00ff10", None, "ffffff"])],
    "bin": [column("bin", ["00ff", None, "", "61"])],
    "text of one name and several types": [column("utf8", ["1"], "a"), column("bin", ["31"], "b")],
    "list": [column("list<i32>", [[1, None, 3], None, [], [4]])],
    "list without nulls": [column("list<utf8>", [["a", "b"], [], ["c"]])],
    "list of lists": [column("list<list<i8>>", [[[1], None, []], None, [[2, 3]]])],
    "flist": [column("flist:2<f32>", [[1.0, None], None, [3.0, "nan"]])],
    "flist of nothing": [column("flist:0<i32>", [[], None])],
    "struct": [column("struct<1:a:i32,1:b:utf8>", [[1, "x"], None, [None, "y"], [4, None]])],
    "struct with names of several bytes": [column("struct<2:\u00e9:bool,0::i8>", [[True, 1], [False, None]])],
    "struct of nothing": [column("struct<>", [[], None, []])],
    "struct in struct": [
        column("struct<1:s:struct<1:i:i64>,1:l:list<u8>>", [[[1], [1, 2]], None, [None, None], [[None], []]])
    ],
    "map": [column("map<utf8,i32>", [[["a", 1], ["b", None]], None, [], [["c", 3]]])],
    "map of lists": [column("map<i32,list<utf8>>", [[[1, ["x"]]], [[2, None], [1, []]]])],
    "names are bytes": [column("i8", [1], "\u00e9"), column("i8", [1], "e\u0301"), column("i8", [1], "")],
}


def lmt1():
    vectors = []
    for name, table in TABLES.items():
        values = table[0]["values"] if table else []
        rows = values["until"] - values["from"] if isinstance(values, dict) else len(values)
        vector = {"name": name, "rows": rows, "columns": table}
        for algorithm, h in HASHES.items():
            vector[algorithm] = digest(table, rows, h)
        if name in SPECIFIED:
            assert (vector["blake3"], vector["sha256"]) == SPECIFIED[name], name
        vectors.append(vector)
    return {
        "about": "Content digests lmt1. Columns hold the type text of lmt1 and the values: binary as hexadecimal, "
        "decimals as unscaled text, integers beyond 2^53, nan, inf and -inf as text, structs as lists of their "
        "children, maps as lists of pairs, {from, until} as all integers between (half open). Made by generate.py.",
        "vectors": vectors,
    }


KEYS = [
    [("string", "JFK")],
    [("string", "")],
    [("string", "\u00e9")],
    [("string", "N14228")],
    [("string", "x" * 300)],
    [("string", "1")],
    [("binary", "31")],
    [("binary", "")],
    [("binary", "00ff")],
    [("int8", -1)],
    [("int16", -1)],
    [("int32", -1)],
    [("int64", -1)],
    [("int64", 0)],
    [("int64", 1)],
    [("int64", str(2**63 - 1))],
    [("int64", str(-(2**63)))],
    [("uint8", 255)],
    [("uint16", 65_535)],
    [("uint32", 2**32 - 1)],
    [("uint64", 1)],
    [("uint64", str(2**64 - 1))],
    [("decimal(10,2)", "12345")],
    [("decimal(38,0)", str(10**38 - 1))],
    [("decimal(5,5)", "-1")],
    [("timestamp", 1_357_034_400_000_000)],
    [("timestamp", -1)],
    [("date", 15_706)],
    [("date", -1)],
    [("bool", True)],
    [("bool", False)],
    [("string", "a"), ("string", "bc")],
    [("string", "ab"), ("string", "c")],
    [("string", "JFK"), ("int64", 7), ("date", 15_706)],
    [("int32", 1), ("uint32", 1), ("bool", True), ("binary", "ff")],
]

PACKED = {"int": "<q", "uint": "<Q", "timestamp": "<q", "date": "<i", "bool": "<B"}


def key_part(kind, value):
    if kind == "string":
        return text(value)
    if kind == "binary":
        return u32(len(value) // 2) + bytes.fromhex(value)
    if kind.startswith("decimal"):
        return int(value).to_bytes(16, "little", signed=True)
    return struct.pack(PACKED[kind.rstrip("0123456789")], int(value))


def keys():
    vectors = []
    for key in KEYS:
        data = b"".join(key_part(kind, value) for kind, value in key)
        hashed = xxhash.xxh3_64_intdigest(data, seed=0)
        buckets = {str(2**bits): hashed >> (64 - bits) for bits in (0, 1, 2, 4, 8, 16, 31)}
        parts = [{"type": kind, "value": value} for kind, value in key]
        vectors.append({"key": parts, "bytes": data.hex(), "xxh3": f"{hashed:016x}", "buckets": buckets})
    return {
        "about": "Canonical bytes of keys, their XXH3-64 (seed 0), and the bucket for each number of buckets. "
        "Values: dates in days, timestamps in microseconds, decimals unscaled, binary as hexadecimal, "
        "integers beyond 2^53 as text. Made by generate.py.",
        "vectors": vectors,
    }


def write(path, content):
    lines = ",\n".join("    " + json.dumps(vector) for vector in content["vectors"])
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'{{\n  "about": {json.dumps(content["about"])},\n  "vectors": [\n{lines}\n  ]\n}}\n')


if __name__ == "__main__":
    write("lmt1.json", lmt1())
    write("keys.json", keys())
