"""C code of exported policies, in parts, and C literals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...networks import _inits

TANH = """\
/* Tanh as x P(x^2) / Q(x^2) on [-9, 9], within 4e-7. */
static inline void policy_tanh(float *values, int count)
{
    for (int i = 0; i < count; ++i) {
        float x = values[i] < -9.0f ? -9.0f : values[i] > 9.0f ? 9.0f : values[i];
        float z = x * x;
        float p = 1.3354651606789503e-08f;
        p = p * z + 2.060907536360901e-05f;
        p = p * z + 0.0034955875016748905f;
        p = p * z + 0.13381025195121765f;
        p = p * z + 1.0f;
        float q = 7.776554298288829e-07f;
        q = q * z + 0.00032856338657438755f;
        q = q * z + 0.025876980274915695f;
        q = q * z + 0.4671434164047241f;
        q = q * z + 1.0f;
        values[i] = x * p / q;
    }
}

"""

RELU = """\
static inline void policy_relu(float *values, int count)
{
    for (int i = 0; i < count; ++i)
        values[i] = values[i] > 0.0f ? values[i] : 0.0f;
}

"""

LARGEST = """\
/* Index of the largest value; the first one of equal values. */
static inline int policy_largest(const float *values, int count)
{
    int best = 0;
    for (int i = 1; i < count; ++i)
        if (values[i] > values[best])
            best = i;
    return best;
}

"""

ROWS = """
static inline void policy_layer(const float *x, float *y, int rows, const INDEX *counts, const INDEX *columns,
                                const float *weights, const float *biases)
{
    for (int row = 0; row < rows; ++row) {
        float sum = biases ? biases[row] : 0.0f;
        for (int left = (int)counts[row]; left > 0; --left)
            sum += *weights++ * x[*columns++];
        y[row] = sum;
    }
}
"""

PHILOX = """
/* The position in the mask's bits, and the last block of random words. */
typedef struct {
    uint32_t position;
    uint64_t block;
    uint64_t words[4];
} policy_stream;

static inline uint64_t policy_upper_half(uint64_t a, uint64_t b)
{
    uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
    uint64_t low = a0 * b1 + (uint32_t)middle;
    return a1 * b1 + (middle >> 32) + (low >> 32);
}

/* Word i of Philox4x64-10 (Salmon et al., 2011) with the key (seed, 0), counted from 1 as NumPy does. */
static inline uint64_t policy_word(uint64_t i, policy_stream *stream)
{
    if (stream->block != i / 4) {
        uint64_t a = i / 4 + 1, b = 0, c = 0, d = 0, key0 = POLICY_SEED, key1 = 0;
        for (int round = 0; round < 10; ++round) {
            uint64_t m0 = UINT64_C(0xD2E7470EE14C6C93), m1 = UINT64_C(0xCA5A826395121157);
            uint64_t high0 = policy_upper_half(m0, a), low0 = m0 * a;
            uint64_t high1 = policy_upper_half(m1, c), low1 = m1 * c;
            a = high1 ^ b ^ key0;
            b = low1;
            c = high0 ^ d ^ key1;
            d = low0;
            key0 += UINT64_C(0x9E3779B97F4A7C15);
            key1 += UINT64_C(0xBB67AE8584CAA73B);
        }
        stream->block = i / 4;
        stream->words[0] = a;
        stream->words[1] = b;
        stream->words[2] = c;
        stream->words[3] = d;
    }
    return stream->words[i % 4];
}

"""

UNIFORM = """\
static inline float policy_draw(uint32_t i, policy_stream *stream)
{
    return (float)(2 * (int32_t)(policy_word(i, stream) >> 40) + 1 - 16777216) / 16777216.0f;
}
"""
SIGN = """\
static inline float policy_draw(uint32_t i, policy_stream *stream)
{
    return policy_word(i, stream) >> 63 ? 1.0f : -1.0f;
}
"""
NORMAL = """\
static inline float policy_draw(uint32_t i, policy_stream *stream)
{
    double p = ((double)(policy_word(2 * (uint64_t)i, stream) >> 11) + 0.5) / 9007199254740992.0;
    double q = ((double)(policy_word(2 * (uint64_t)i + 1, stream) >> 11) + 0.5) / 9007199254740992.0;
    return (float)(sqrt(-2.0 * log(p)) * cos(6.283185307179586 * q));
}
"""
#: The C code that draws each kind of random numbers.
DRAWS = {_inits.UNIFORM: UNIFORM, _inits.SIGN: SIGN, _inits.NORMAL: NORMAL}

SEED = """
static inline int policy_bit(policy_stream *stream)
{
    int bit = policy_bits[stream->position / 8] >> (7 - stream->position % 8) & 1;
    ++stream->position;
    return bit;
}

static inline void policy_clear(float *values, int count)
{
    for (int i = 0; i < count; ++i)
        values[i] = 0.0f;
}

/* Add a tensor's kept weights times x. The gaps between kept weights are in a Golomb-Rice code with k low bits. */
static inline void policy_add(const float *x, float *y, uint32_t columns, uint32_t index, uint32_t kept, int k,
                              float scale, policy_stream *stream)
{
    uint32_t row = 0, column = 0;
    while (kept-- > 0) {
        uint32_t gap = 0;
        while (policy_bit(stream))
            ++gap;
        for (int i = 0; i < k; ++i)
            gap = gap << 1 | (uint32_t)policy_bit(stream);
        index += gap;
        column += gap;
        row += column / columns;
        column %= columns;
        y[row] += scale * policy_draw(index, stream) * x[column];
        ++index;
        ++column;
    }
}
"""


def array(kind: str, name: str, values: ArrayLike) -> str:
    """``static const kind policy_name[] = {...};``, never empty, because C99 does not allow empty arrays."""
    flat: NDArray[Any] = np.asarray(values).reshape(-1)
    texts = [literal(float(v)) if kind == "float" else str(int(v)) for v in flat] or ["0"]
    lines: list[str] = []
    line = "   "
    for text in texts:
        if len(line) + len(text) + 2 > 110:
            lines, line = [*lines, line], "   "
        line += f" {text},"
    body = "\n".join([*lines, line])
    return f"static const {kind} policy_{name}[{len(texts)}] = {{\n{body}\n}};\n"


def literal(value: float) -> str:
    """The shortest decimal that identifies a float32 number."""
    if np.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = np.format_float_scientific(np.float32(value), unique=True, trim="0")
    return text.replace("e+00", "") + "f"
