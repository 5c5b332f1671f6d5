"""A subnetwork as C: one C99 header without allocation, for machines with little memory."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from . import _c_source
from ._checks import check_choice, check_path
from ._files import write_whole
from .pruning import MaskedLayer, compact, live_weights, masked_layers
from .spaces import (
    Actions,
    BoxActions,
    DiscreteActions,
    MultiBinaryActions,
    MultiDiscreteActions,
    Observations,
    OneHotObservations,
)

if TYPE_CHECKING:
    from .subnetwork import Subnetwork

FORMS = ("rows", "seed")


_KEYWORDS = (
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while"
)
#: The headers of C itself. A header of such a name could hide the real one.
_HEADERS = (
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic "
    "stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype"
)
_RESERVED = frozenset(f"{_KEYWORDS} {_HEADERS}".split())


def export_c(subnet: Subnetwork, folder: str | Path, *, name: str | None = None, form: str = "rows") -> Path:
    """Write ``<folder>/<name>.h``; see ``subnet_problems.Subnetwork.export_c``."""
    folder = check_path("folder", folder)
    name = c_name(folder) if name is None else _check_name(name)
    check_choice("form", form, FORMS)
    if form == "seed" and subnet.network.weight_init is None:
        raise ValueError("form: expected 'rows' for weights that no seed makes, got 'seed'")
    _check_actions(subnet.actions)
    layers = masked_layers(subnet)
    live = live_weights(layers, subnet.num_weights)
    data, calls, layers = _rows(compact(layers)) if form == "rows" else _seed(subnet, layers, live)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.h"
    write_whole(path, _header(subnet, name, layers, int(live.sum()), data, calls).encode())
    return path


def c_name(folder: Path) -> str:
    """The name of a header in this folder: the folder's own, made an identifier of C.

    What C does not take becomes ``_``; ``policy_`` is put before a digit and before a name that C has already.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", Path(os.path.abspath(folder)).name).strip("_")  # noqa: PTH100
    taken = not name[:1].isalpha() or name.lower() in _RESERVED
    return f"policy_{name}".rstrip("_") if taken else name


def _check_name(name: Any) -> str:
    """Return ``name`` if it may begin identifiers of C and C++, and name a header.

    Raises:
        TypeError: It is not a string.
        ValueError: It may not.
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected a C identifier, such as 'lander', got {name!r}")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", name):
        raise ValueError(
            f"name: expected a C identifier of letters, digits and single underscores, such as 'lander', got {name!r}"
        )
    if name.lower() in _RESERVED:
        raise ValueError(f"name: expected one that is no keyword or header of C's own, such as 'lander', got {name!r}")
    return name


def rice_code(gaps: Iterable[int]) -> tuple[int, list[int]]:
    """Whole numbers from 0 on in the Golomb-Rice code that is shortest for them (Rice and Plaunt, 1971).

    Each is ``quotient`` ones and a zero, then the ``k`` bits of the remainder, the highest first.

    Returns:
        k, and the bits.
    """
    gaps = list(gaps)
    k = min(range(32), key=lambda k: sum((gap >> k) + 1 + k for gap in gaps))
    bits: list[int] = []
    for gap in gaps:
        bits += [1] * (gap >> k) + [0] + [gap >> i & 1 for i in reversed(range(k))]
    return k, bits


def _header(
    subnet: Subnetwork, name: str, layers: list[MaskedLayer], num_live: int, data: str, calls: list[str]
) -> str:
    """The file: what it is, its data, and ``<name>_act``.

    The guard's value is the checksum of what it guards, so that another policy of the same name is an error of the
    compiler; by an ordinary guard it would not be there, and nothing would say so.
    """
    task = f" for {_in_comment(subnet.env)}" if subnet.env else ""
    about = [f"{name}_act(obs, act) takes {subnet.network.obs_length} numbers and gives {_what(subnet.actions)}."]
    if subnet.observations is not None:
        about += _places("obs", [(place, leaf.length, _seen(leaf)) for place, leaf in subnet.observations.leaves()])
    if len(leaves := list(subnet.actions.leaves())) > 1:
        about += _places("act", [(place, leaf.count, _what(leaf)) for place, leaf in leaves])
    # The code is written for the name "policy". It holds no text of a user's.
    prefixes = {"policy_": f"{name}_", "POLICY_": f"{name.upper()}_"}
    code = re.sub(r"\b(policy_|POLICY_)", lambda found: prefixes[found[0]], _code(subnet, layers, data, calls))
    guard, checksum = f"{name.upper()}_H", f"0x{zlib.crc32(code.encode()):08x}u"
    return f"""\
/* A policy{task}: {subnet.num_active} of {subnet.num_weights} weights of a random network; {num_live} of them matter.
 *
 * {(chr(10) + " * ").join(about)}
 * C99; no allocation, and nothing is kept between calls. */
#ifdef {guard}
#if {guard} + 0 != {checksum}
#error "{name}.h: another header has this name; export one of the two with another one"
#endif
#else
#define {guard} {checksum}

#include <math.h>
#include <stdint.h>

{code}
#endif
"""


def _code(subnet: Subnetwork, layers: list[MaskedLayer], data: str, calls: list[str]) -> str:
    """What the guard guards: macros, data and functions."""
    actions, normalizer, network = subnet.actions, subnet.normalizer, subnet.network
    width = max([1, *(layer.weight.shape[0] for layer in layers[:-1])])
    arrays = [f"{name}[{width}]" for name in ("x", "y")[: len(layers) - 1]]
    lines = [f"    float {', '.join([*arrays, 'out[POLICY_OUT_LENGTH]'])};"]
    source = "obs"
    if normalizer is not None:
        data = _array("float", "obs_mean", normalizer.mean) + _array("float", "obs_scale", normalizer.scale) + data
        lines += ["    float seen[POLICY_OBS_LENGTH];", "    for (int i = 0; i < POLICY_OBS_LENGTH; ++i)"]
        lines += ["        seen[i] = (obs[i] - policy_obs_mean[i]) * policy_obs_scale[i];"]
        source = "seen"
    lines += [f"    {state}" for state in calls[:1] if state]
    for number, (layer, call) in enumerate(zip(layers, calls[1:], strict=True)):
        target = "out" if number == len(layers) - 1 else "xy"[number % 2]
        lines += [f"    {line}" for line in call.format(x=source, y=target).splitlines()]
        if layer.activation is not nn.Identity:
            name = "policy_tanh" if layer.activation is nn.Tanh else "policy_relu"
            lines += [f"    {name}({target}, {layer.weight.shape[0]});"]
        source = target
    act_data, rule = _action_rules(actions)
    used = [
        code
        for kind, code in ((nn.Tanh, _c_source.TANH), (nn.ReLU, _c_source.RELU))
        if any(x.activation is kind for x in layers)
    ]
    return f"""\
#define POLICY_OBS_LENGTH {network.obs_length}
#define POLICY_OUT_LENGTH {actions.length}
#define POLICY_ACT_LENGTH {actions.count}

{"".join(used)}{act_data}{data}
static inline void policy_act(const float *obs, float *act)
{{
{chr(10).join(lines + rule)}
}}
"""


def _in_comment(text: str) -> str:
    return text.encode("unicode_escape").decode().replace("*/", "* /").replace("/*", "/ *")


def _places(array: str, parts: list[tuple[str, int, str]]) -> list[str]:
    """A line for each part of an array: where it is, its name, what it is."""
    lines, start = [], 0
    for place, length, what in parts:
        where = f"{array}[{start}]" if length == 1 else f"{array}[{start}] to {array}[{start + length - 1}]"
        lines.append(f"{where}:{_in_comment(f' {place[1:]},' if place else '')} {what}.")
        start += length
    return lines


def _what(actions: Actions) -> str:
    match actions:
        case DiscreteActions():
            return "the number of the action"
        case MultiDiscreteActions():
            return "the number of each choice"
        case MultiBinaryActions():
            return "bits, 0 or 1"
        case BoxActions():
            return "numbers, each rounded and clipped as the task asks"
    return "the parts of the action one after another"


def _seen(observations: Observations) -> str:
    match observations:
        case OneHotObservations():
            ranges = ", ".join(f"{a} to {a + n - 1}" for n, a in zip(observations.n, observations.start, strict=True))
            return f"a 1 at the place of the number among {ranges}, else 0"
    return "as the task gives it"


def _action_rules(actions: Actions) -> tuple[str, list[str]]:
    """What makes ``act`` of ``out``: the data and the lines."""
    leaves = [leaf for _, leaf in actions.leaves()]
    data = _c_source.LARGEST if any(isinstance(leaf, DiscreteActions | MultiDiscreteActions) for leaf in leaves) else ""
    lines: list[str] = []
    out = act = 0
    for number, leaf in enumerate(leaves):
        more, rule = _action_rule(leaf, out, act, "" if len(leaves) == 1 else str(number))
        data, lines = data + more, lines + rule
        out, act = out + leaf.length, act + leaf.count
    return data, lines


def _action_rule(leaf: Actions, out: int, act: int, number: str) -> tuple[str, list[str]]:
    """Data and lines for a part whose first output is ``out``, and whose first number in an action ``act``."""

    def at(array: str, start: int) -> str:
        return f"{array}[{start} + i]" if start else f"{array}[i]"

    loop = f"    for (int i = 0; i < {leaf.count}; ++i)"
    match leaf:
        case DiscreteActions() | MultiDiscreteActions():
            lines = []
            for n, start in leaf.choices:
                values = f"out + {out}" if out else "out"
                lines.append(f"    act[{act}] = (float)(policy_largest({values}, {n}) + {start});")
                out, act = out + n, act + 1
            return "", lines
        case MultiBinaryActions():
            return "", [loop, f"        {at('act', act)} = {at('out', out)} > 0.0f ? 1.0f : 0.0f;"]
        case BoxActions():
            dtype, value = np.dtype(leaf.dtype), at("out", out)
            lines = [f"{loop} {{", f"        float a = {value if dtype.kind == 'f' else f'rintf({value})'};"]
            if dtype in (np.float32, np.float64) and not np.isfinite(leaf.limits).any():
                return "", [*lines, f"        {at('act', act)} = a;", "    }"]
            bounds = (_inward(bound, up=up) for bound, up in zip(leaf.bounds[:2], (True, False), strict=True))
            low, high = (_array("float", f"{name}{number}", b) for name, b in zip(("low", "high"), bounds, strict=True))
            lines += [f"        a = a > policy_low{number}[i] ? a : policy_low{number}[i];"]
            lines += [f"        {at('act', act)} = a < policy_high{number}[i] ? a : policy_high{number}[i];", "    }"]
            return low + high + "\n", lines
    raise TypeError(f"actions: expected a kind that C is written for, got {leaf!r}")


def _inward(bounds: NDArray[Any], *, up: bool) -> NDArray[np.float32]:
    """The nearest float32 numbers that are within the bounds; lower ones are rounded up."""
    with np.errstate(over="ignore"):
        rounded = bounds.astype(np.float32)
    outside = rounded < bounds if up else rounded > bounds
    return np.where(outside, np.nextafter(rounded, np.float32(np.inf if up else -np.inf)), rounded)


def _check_actions(actions: Actions) -> None:
    """An action's number is given as a float32, which holds whole numbers up to 2^24.

    Raises:
        ValueError: There are larger ones.
    """
    for _, leaf in actions.leaves():
        choices = leaf.choices if isinstance(leaf, DiscreteActions | MultiDiscreteActions) else ()
        if any(max(abs(start), abs(start + n)) > 2**24 for n, start in choices):
            raise ValueError(f"actions: expected numbers of at most 2**24, which float32 holds, got {leaf}")


# The form of rows: for each unit how many weights it keeps, and for each of these its value and its column.


def _rows(layers: list[MaskedLayer]) -> tuple[str, list[str], list[MaskedLayer]]:
    """Data, first line and one call for each layer of the live units."""
    counts = [layer.mask.sum(axis=1) for layer in layers]
    columns = [np.nonzero(layer.mask)[1] for layer in layers]
    index = _smallest_type([*columns, *counts])
    data, calls = "", [""]
    for number, layer in enumerate(layers):
        data += _array(index, f"counts{number}", counts[number]) + _array(index, f"columns{number}", columns[number])
        data += _array("float", f"weights{number}", layer.weight[layer.mask])
        bias = "0"
        if layer.bias_mask.any():
            data += _array("float", f"biases{number}", layer.bias)
            bias = f"policy_biases{number}"
        arrays = f"policy_counts{number}, policy_columns{number}, policy_weights{number}, {bias}"
        calls.append(f"policy_layer({{x}}, {{y}}, {len(layer.weight)}, {arrays});")
    return data + _c_source.ROWS.replace("INDEX", index), calls, layers


# The form of the seed: the gaps between kept weights, and the generator that makes them.


def _seed(
    subnet: Subnetwork, layers: list[MaskedLayer], live: NDArray[np.bool_]
) -> tuple[str, list[str], list[MaskedLayer]]:
    """Data, first line and one call for each layer; every tensor of the network has a code of its own."""
    bits: list[int] = []
    adds: list[str] = []
    for tensor, scale in zip(subnet.network.layers, _scales(subnet), strict=True):
        kept = np.flatnonzero(live[tensor.slice])
        k, code = rice_code((np.diff(kept, prepend=-1) - 1).tolist())
        n_in = tensor.shape[1] if len(tensor.shape) == 2 else 1
        source = "{x}" if len(tensor.shape) == 2 else "&policy_one"
        adds.append(f"policy_add({source}, {{y}}, {n_in}, {tensor.start}, {len(kept)}, {k}, {_float(scale)}, &stream);")
        bits += code
    calls = ["policy_stream stream = {0, UINT64_MAX, {0, 0, 0, 0}};"]
    for layer in layers:
        lines = [f"policy_clear({{y}}, {len(layer.weight)});", adds.pop(0)]
        calls.append("\n".join([*lines, adds.pop(0)] if layer.has_bias else lines))
    data = _array("uint8_t", "bits", np.packbits(np.array(bits, dtype=np.uint8)))
    draw = _c_source.DRAWS[subnet.network.weight_init or ""]
    one = "static const float policy_one = 1.0f;\n" if any(layer.has_bias for layer in layers) else ""
    key = f"#define POLICY_SEED UINT64_C({subnet.network.seed})\n"
    return one + key + data + _c_source.PHILOX + draw + _c_source.SEED, calls, layers


def _scales(subnet: Subnetwork) -> list[float]:
    """What a tensor's weights are multiplied by after they are drawn: gain, fan-in and rescaling."""
    network = subnet.network
    result = []
    for tensor, rescale in zip(network.layers, subnet.scales, strict=True):
        by_init = {"uniform_fan_in": 1.0 / sqrt(tensor.fan_in)}
        by_init |= dict.fromkeys(("kaiming_normal", "signed_kaiming_constant"), sqrt(2.0 / tensor.fan_in))
        result.append(network.weight_gain * by_init.get(network.weight_init or "", 1.0) * rescale)
    return result


# Literals


def _array(kind: str, name: str, values: ArrayLike) -> str:
    """``static const kind policy_name[] = {...};``, never empty, which C99 does not know."""
    flat: NDArray[Any] = np.asarray(values).reshape(-1)
    texts = [_float(float(v)) if kind == "float" else str(int(v)) for v in flat] or ["0"]
    lines: list[str] = []
    line = "   "
    for text in texts:
        if len(line) + len(text) + 2 > 110:
            lines, line = [*lines, line], "   "
        line += f" {text},"
    body = "\n".join([*lines, line])
    return f"static const {kind} policy_{name}[{len(texts)}] = {{\n{body}\n}};\n"


def _float(value: float) -> str:
    """The shortest decimal that float32 reads as the same number."""
    if np.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = np.format_float_scientific(np.float32(value), unique=True, trim="0")
    return text.replace("e+00", "") + "f"


def _smallest_type(arrays: Iterable[NDArray[Any]]) -> str:
    largest = max((int(array.max()) for array in arrays if array.size), default=0)
    return "uint8_t" if largest < 2**8 else "uint16_t" if largest < 2**16 else "uint32_t"
