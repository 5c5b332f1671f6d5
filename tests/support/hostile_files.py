"""Loads many damaged and forged subnetwork files under a memory limit, and prints the outcomes as JSON.

Run it as ``PYTHONPATH=. python tests/support/hostile_files.py 20000``. Each file is a valid one with
random changes of bytes or of its JSON. Half of the files with changed JSON get a matching checksum, as a forger would
add.
"""

import copy
import json
import os
import random
import re
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ["EVOTORCH_VERBOSE_LEVEL"] = "0"

from evotorch.neuroevolution.net import layers as evotorch_layers
from small_subnetworks import DISCRETE, NETWORKS, NORMALIZER, PARTS, bits, lander, make, observation, sealed
from torch import nn

from subnet_problems import Subnetwork, SubnetworkFileError

#: Bytes of additional address space after the valid files were loaded.
MEMORY = 512 * 2**20
#: Actions that loading must never take, as names of Python's audit events.
FORBIDDEN = (
    "exec",
    "import",
    "os.system",
    "os.exec",
    "subprocess.",
    "pickle.",
    "marshal.",
    "socket.",
    "ctypes.",
    "shutil",
)

HOSTILE_VALUES = [
    *(
        None,
        True,
        False,
        -1,
        0,
        1,
        2,
        3,
        2**31,
        2**53,
        2**60,
        2**63,
        2**64,
        10**400,
        -(2**70),
        0.5,
        -0.0,
        1e-320,
        1e308,
    ),
    *(
        float("nan"),
        float("inf"),
        -float("inf"),
        "",
        "a",
        "\x00",
        "\ud800",
        "uniform",
        "kaiming_normal",
        "float16",
        "O8",
    ),
    *([], {}, [[]], [2**60], [2**30, 2**30], [[2**30, 2**30]], [1] * 1000, {"a": {"a": {"a": 1}}}, [None], [[4, 2]]),
    *({"hidden_sizes": [2**30], "bias": False}, {"hidden_sizes": [], "bias": False}, {"kind": "discrete", "n": 2**61}),
    *({"kind": "box", "low": [None] * 2, "high": [10**400] * 2, "shape": [2], "dtype": "float32"},),
]
HOSTILE_STRINGS = [
    *(
        "Linear(4, 2)",
        "Linear(4, 1152921504606846976)",
        "Linear(4, 99999999) >> Linear(99999999, 2)",
        "RNN(4, 9999999)",
    ),
    *("LSTM(4, 9999999)", "Linear(4, 2, device='cpu')", "Transformer(4, 1, 999999999)", "Embedding(999999999, 9999)"),
    *("Linear(4, 2) >> ZeroPad1d((2147483647, 0)) >> Slice(0, 2)", "Upsample(99999999999)", "Conv1d(1, 1, 2147483647)"),
    *("__setattr__('Clip', 3)", "__import__('os').system('true')", "eval('1')", "exec('1')", "__delattr__('Linear')"),
    *("(" * 500 + "Tanh()" + ")" * 500, "Tanh()" + " >> Tanh()" * 5000, "Apply('**', 999999999)", "Round(999999999)"),
    *(
        "Linear(9**9**9, 2)",
        "Linear(4, 2" + "0" * 5000 + ")",
        "lambda: 1",
        "[Linear(4, 2) for _ in x]",
        "\x00",
        "nn.Linear(4,2)",
    ),
]


def originals() -> list[tuple[Subnetwork, object]]:
    """Valid subnetworks of every kind, and the module that each needs for loading."""
    options = {"rescale": True, "normalizer": NORMALIZER, "env": "Task-v0", "env_config": {"a": [1, 2.5, None]}}
    made = [(make(net, options=args, **options), again) for net, args, again in NETWORKS.values()]
    kaiming = {"weight_init": "kaiming_normal", "weight_gain": 0.3}
    more = [lander(), make(actions=DISCRETE), make((3,), options=kaiming), make(**PARTS)]
    return [*made, *((subnet, None) for subnet in more)]


def damaged(data: bytes, draw: random.Random) -> bytes:
    """A file with some of its bytes changed, missing or added."""
    changed = bytearray(data)
    i, j = sorted(draw.sample(range(len(data)), 2))
    match draw.randrange(8):
        case 0:
            for _ in range(draw.choice([1, 1, 2, 8])):
                changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        case 1:
            for _ in range(draw.choice([1, 2, 16])):
                changed[draw.randrange(len(data))] = draw.randrange(256)
        case 2:
            del changed[i:]
        case 3:
            changed[i:i] = draw.randbytes(draw.choice([1, 2, 8, 100]))
        case 4:
            del changed[i : min(j, i + draw.choice([1, 2, 8, 100]))]
        case 5:
            changed[i:i] = changed[i:j]
        case 6:
            value = draw.choice([0, 1, 7, len(data), 2**31, 10**8, 2**63, 2**64 - 1, draw.randrange(2 * len(data))])
            changed[:8] = struct.pack("<Q", value)
        case 7:
            spot = draw.choice([m.span() for m in re.finditer(rb"\d+", data[: len(data) // 2])])
            changed[slice(*spot)] = str(draw.choice([0, 1, 2, 3, 9, 2**31, 2**60, 2**64, 10**30])).encode()
    return bytes(changed)


def places(value: object, way: tuple = ()) -> list[tuple]:
    """The path to every value within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [way, *(place for key, inner in items for place in places(inner, (*way, key)))]


def change_a_value(value: dict | list, draw: random.Random) -> None:
    """Replace, remove or add something somewhere within a JSON value."""
    *way, last = draw.choice([place for place in places(value) if place])
    for key in way:
        value = value[key]
    match draw.randrange(5):
        case 0 if isinstance(value, dict):
            del value[last]
        case 1 if isinstance(value, dict):
            value[draw.choice(["a", "version", "layers", "s", "obs_length"])] = draw.choice(HOSTILE_VALUES)
        case 2 if isinstance(value[last], int | float):
            value[last] = value[last] + draw.choice([-1, 1, 0.5, 8, 2**31])
        case _:
            value[last] = copy.deepcopy(draw.choice(HOSTILE_VALUES))


def forged(data: bytes, draw: random.Random) -> bytes:
    """A file whose JSON was changed; half of them with the right checksum."""
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    description = json.loads(header["__metadata__"]["subnetwork"])
    match draw.randrange(6):
        case 0:
            change_a_value(header, draw)
        case 1:
            string = draw.choice(HOSTILE_STRINGS)
            description["network"] = {"string": string, "constants": draw.choice([{}, {"s": 1}, {"x": [2**60]}])}
            if draw.random() < 0.3:
                description["obs_length"] = draw.choice([2**22, 2**31, 2**40])
        case 2:
            huge = draw.choice([[2**60], [2**30, 2**30], [2**32], [1] * 10_000])
            description["layers"] = draw.choice([[huge], [[huge[0], 4], [2, huge[-1]]], description["layers"] + [huge]])
            if draw.random() < 0.5:
                description["network"] = {"hidden_sizes": huge, "bias": False}
        case _:
            for _ in range(draw.choice([1, 1, 1, 2])):
                change_a_value(description, draw)
    text = json.dumps(description, separators=(",", ":"))
    match draw.randrange(12):
        case 0:
            text = text.replace('"version":1', '"version":1,"version":1', 1)
        case 1:
            depth = draw.choice([100, 300, 400, 500, 900, 990, 100_000])
            text = text.replace('"tests":', '"tests":' + draw.choice(['{"a":', "["]) * depth, 1)
        case 2:
            text = text.replace('"seed":', '"seed":' + "9" * draw.choice([10, 30, 5000]), 1)
    if "__metadata__" in header and isinstance(header["__metadata__"], dict):
        header["__metadata__"]["subnetwork"] = text
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    changed = struct.pack("<Q", len(head)) + head + body
    return sealed(changed) if draw.random() < 0.5 else changed


def is_same(first: Subnetwork, second: Subnetwork) -> bool:
    """Whether two subnetworks compute the same, to the last bit."""
    if bits(first.weights) != bits(second.weights) or first.actions != second.actions:
        return False
    if first.observations != second.observations:
        return False
    seen = [observation(first, seed) for seed in range(3)]
    return all(repr(first.act(obs)) == repr(second.act(obs)) for obs in seen)


def main(count: int, seed: int = 0) -> dict[str, object]:
    """Load ``count`` modified files.

    Returns:
        The count of each outcome, the failures, the seconds taken, and the peak growth of memory (MiB).
    """
    watching = False
    draw = random.Random(seed)
    events: set[str] = set()
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        sound = []
        for subnet, again in originals():
            subnet.save(path)
            sound.append((path.read_bytes(), Subnetwork.load(path, network=again), again))
            assert is_same(sound[-1][1], subnet)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        sys.addaudithook(lambda event, _: events.add(event) if watching and event.startswith(FORBIDDEN) else None)
        modules = (dict(vars(nn)), dict(vars(evotorch_layers)))
        begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(count):
            data, subnet, again = draw.choice(sound)
            changed = (damaged if draw.random() < 0.5 else forged)(data, draw)
            path.write_bytes(changed)
            is_forged = changed != data and b"crc32" in changed and sealed(changed) == changed
            error = None
            watching = True
            try:
                loaded = Subnetwork.load(path, network=again)
            except SubnetworkFileError as caught:
                outcome, error = "refused", caught
            except Exception as caught:
                misfit = is_forged and type(caught) is ValueError and str(caught).startswith("network: expected")
                outcome, error = "refused for its module" if misfit else "wrong", caught
            else:
                same = is_same(loaded, subnet) if loaded.network.obs_length == subnet.network.obs_length else False
                outcome = "loads the same" if same else "loads as another policy" if is_forged else "wrong"
            watching = False
            kind = "unchanged" if changed == data else "forged" if is_forged else "damaged"
            outcomes[f"{kind}: {outcome}"] += 1
            if outcome == "wrong" or re.search(r"allocate|MemoryError", str(error)):
                wrong.append(f"{number}: {outcome}: {error!r}")
        if (dict(vars(nn)), dict(vars(evotorch_layers))) != modules:
            wrong.append("modules of PyTorch or EvoTorch have changed")
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    wrong += [f"loading ran {event}" for event in sorted(events)]
    seconds = time.perf_counter() - begun
    return {"outcomes": dict(outcomes), "wrong": wrong, "seconds": round(seconds, 1), "peak_mebibytes": round(peak, 1)}


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:])), indent=1))
