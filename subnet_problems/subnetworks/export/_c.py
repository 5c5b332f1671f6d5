"""Export of a subnetwork as one C99 header that allocates no memory, for small machines."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..._checks import check_choice, check_path
from ..._files import write_whole
from ...masks._live import live_weights
from ...networks._inits import INITS
from .._parts import PolicyParts
from .._pruning import MaskedLayer, compact, masked_layers
from . import _c_source
from ._c_actions import action_rules, check_actions, in_comment, places, what
from ._c_source import array, literal

FORMS = ("rows", "seed")


_KEYWORDS = (
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while"
)
#: C's own headers. An exported header with such a name could hide the real one.
_HEADERS = (
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic "
    "stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype"
)
_RESERVED = frozenset(f"{_KEYWORDS} {_HEADERS}".split())


def export_c(subnet: PolicyParts, folder: str | Path, *, name: str | None = None, form: str = "rows") -> Path:
    """Write ``<folder>/<name>.h``; see ``subnet_problems.Subnetwork.export_c``."""
    folder = check_path("folder", folder)
    name = c_name(folder) if name is None else _check_name(name)
    check_choice("form", form, FORMS)
    if form == "seed" and (subnet.network.weight_init is None or subnet.factors is not None):
        raise ValueError("form: expected 'rows' for weights that do not come from a seed alone, got 'seed'")
    if form == "seed" and INITS[subnet.network.weight_init or ""].numbers not in _c_source.DRAWS:
        raise ValueError(f"form: expected 'rows' for {subnet.network.weight_init!r}, which C cannot draw, got 'seed'")
    check_actions(subnet.actions)
    layers = masked_layers(subnet)
    live = live_weights(layers, subnet.num_weights)
    data, calls, layers = _rows(compact(layers)) if form == "rows" else _seed(subnet, layers, live)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.h"
    write_whole(path, _header(subnet, name, layers, int(live.sum()), data, calls).encode())
    return path


def c_name(folder: Path) -> str:
    """The default name of a header in this folder: the folder's name, made a C identifier.

    Characters that C does not allow become ``_``. A name that begins with a digit, or that C reserves, gets the prefix
    ``policy_``.
    """
    name = re.sub(r"[^A-Za-z0-9]+", "_", Path(os.path.abspath(folder)).name).strip("_")  # noqa: PTH100
    taken = not name[:1].isalpha() or name.lower() in _RESERVED
    return f"policy_{name}".rstrip("_") if taken else name


def _check_name(name: Any) -> str:
    """Return ``name`` if it is valid as a header's name and as a prefix of C and C++ identifiers.

    Raises:
        TypeError: The name is not a string.
        ValueError: The name is not valid.
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected a C identifier, such as 'lander', got {name!r}")
    if not re.fullmatch("[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", name):
        raise ValueError(
            f"name: expected a C identifier of letters, digits and single underscores, such as 'lander', got {name!r}"
        )
    if name.lower() in _RESERVED:
        raise ValueError(f"name: expected one that is not a C keyword or header, such as 'lander', got {name!r}")
    return name


def rice_code(gaps: Iterable[int]) -> tuple[int, list[int]]:
    """Encode whole numbers >= 0 in the shortest Golomb-Rice code for them (Rice and Plaunt, 1971).

    Each number becomes ``quotient`` ones and a zero, then the ``k`` bits of the remainder, the highest bit first.

    Returns:
        k and the bits.
    """
    gaps = list(gaps)
    k = min(range(32), key=lambda k: sum((gap >> k) + 1 + k for gap in gaps))
    bits: list[int] = []
    for gap in gaps:
        bits += [1] * (gap >> k) + [0] + [gap >> i & 1 for i in reversed(range(k))]
    return k, bits


def _header(
    subnet: PolicyParts, name: str, layers: list[MaskedLayer], num_live: int, data: str, calls: list[str]
) -> str:
    """The text of the header: a comment, the data, and ``<name>_act``.

    The value of the include guard is a checksum of the code, so that another policy with the same name is a compiler
    error. An ordinary guard would silently skip the second policy.
    """
    task = f" for {in_comment(subnet.env)}" if subnet.env else ""
    parts = "".join(f" * {line}\n" for line in places(subnet.observations, subnet.actions))
    # The code uses the name "policy" until here. It contains no text from the user.
    prefixes = {"policy_": f"{name}_", "POLICY_": f"{name.upper()}_"}
    code = re.sub(r"\b(policy_|POLICY_)", lambda found: prefixes[found[0]], _code(subnet, layers, data, calls))
    guard, checksum = f"{name.upper()}_H", f"0x{zlib.crc32(code.encode()):08x}u"
    return f"""\
/* A policy{task}: {subnet.num_active} of {subnet.num_weights} weights of a random network; {num_live} of them are live.
 *
 * {name}_act(obs, act) reads {subnet.network.obs_length} numbers and writes {what(subnet.actions)}.
{parts} * C99; no allocation, and nothing is kept between calls. */
#ifdef {guard}
#if {guard} + 0 != {checksum}
#error "{name}.h: another policy has this name; export one of the two under another name"
#endif
#else
#define {guard} {checksum}

#include <math.h>
#include <stdint.h>

{code}
#endif
"""


def _code(subnet: PolicyParts, layers: list[MaskedLayer], data: str, calls: list[str]) -> str:
    """The code inside the include guard: macros, data and functions."""
    actions, normalizer, network = subnet.actions, subnet.normalizer, subnet.network
    width = max([1, *(layer.weight.shape[0] for layer in layers[:-1])])
    arrays = [f"{name}[{width}]" for name in ("x", "y")[: len(layers) - 1]]
    lines = [f"    float {', '.join([*arrays, 'out[POLICY_OUT_LENGTH]'])};"]
    source = "obs"
    if normalizer is not None:
        data = array("float", "obs_mean", normalizer.mean) + array("float", "obs_scale", normalizer.scale) + data
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
    act_data, rule = action_rules(actions)
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


# The form "rows" stores the number of kept weights of each unit, and the value and column of each kept weight.


def _rows(layers: list[MaskedLayer]) -> tuple[str, list[str], list[MaskedLayer]]:
    """Data, first line and one call for each layer of live units."""
    counts = [layer.mask.sum(axis=1) for layer in layers]
    columns = [np.nonzero(layer.mask)[1] for layer in layers]
    index = _smallest_type([*columns, *counts])
    data, calls = "", [""]
    for number, layer in enumerate(layers):
        data += array(index, f"counts{number}", counts[number]) + array(index, f"columns{number}", columns[number])
        data += array("float", f"weights{number}", layer.weight[layer.mask])
        bias = "0"
        if layer.bias_mask.any():
            data += array("float", f"biases{number}", layer.bias)
            bias = f"policy_biases{number}"
        arrays = f"policy_counts{number}, policy_columns{number}, policy_weights{number}, {bias}"
        calls.append(f"policy_layer({{x}}, {{y}}, {len(layer.weight)}, {arrays});")
    return data + _c_source.ROWS.replace("INDEX", index), calls, layers


# The form "seed" stores the gaps between kept weights, and the generator that draws the weights.


def _seed(
    subnet: PolicyParts, layers: list[MaskedLayer], live: NDArray[np.bool_]
) -> tuple[str, list[str], list[MaskedLayer]]:
    """Data, first line and one call for each layer. Each tensor of the network is encoded with its own ``k``."""
    bits: list[int] = []
    adds: list[str] = []
    for tensor, scale in zip(subnet.network.layers, _scales(subnet), strict=True):
        kept = np.flatnonzero(live[tensor.slice])
        k, code = rice_code((np.diff(kept, prepend=-1) - 1).tolist())
        n_in = tensor.shape[1] if len(tensor.shape) == 2 else 1
        source = "{x}" if len(tensor.shape) == 2 else "&policy_one"
        place = f"{n_in}, {tensor.start}, {len(kept)}, {k}"
        adds.append(f"policy_add({source}, {{y}}, {place}, {literal(scale)}, &stream);")
        bits += code
    calls = ["policy_stream stream = {0, UINT64_MAX, {0, 0, 0, 0}};"]
    for layer in layers:
        lines = [f"policy_clear({{y}}, {len(layer.weight)});", adds.pop(0)]
        calls.append("\n".join([*lines, adds.pop(0)] if layer.has_bias else lines))
    data = array("uint8_t", "bits", np.packbits(np.array(bits, dtype=np.uint8)))
    draw = _c_source.DRAWS[INITS[subnet.network.weight_init or ""].numbers]
    one = "static const float policy_one = 1.0f;\n" if any(layer.has_bias for layer in layers) else ""
    key = f"#define POLICY_SEED UINT64_C({subnet.network.seed})\n"
    return one + key + data + _c_source.PHILOX + draw + _c_source.SEED, calls, layers


def _scales(subnet: PolicyParts) -> list[float]:
    """Factor on each tensor's drawn weights, from gain, fan-in and rescaling."""
    network = subnet.network
    init = INITS[network.weight_init or ""]
    return [
        network.weight_gain * init.scale(tensor.fan_in) * rescale
        for tensor, rescale in zip(network.layers, subnet.scales, strict=True)
    ]


def _smallest_type(arrays: Iterable[NDArray[Any]]) -> str:
    largest = max((int(array.max()) for array in arrays if array.size), default=0)
    return "uint8_t" if largest < 2**8 else "uint16_t" if largest < 2**16 else "uint32_t"
