"""What firmware is built with: an INT8 file as a C header, and the meaning of its integers."""

from collections.abc import Sequence
from typing import Any

from training.litert import Quantisation
from training.outputs import FOREGROUND, Outputs
from training.scaling import EIGHT_BITS, Scaling

BYTES_A_LINE = 12


def c_header(
    content: bytes,
    name: str,
    incoming: Quantisation,
    outgoing: Quantisation,
    *,
    outputs: Outputs = FOREGROUND,
    scaling: Scaling = EIGHT_BITS,
    note: str = "",
) -> str:
    """Returns a C header with a file's bytes and the meaning of its integers.

    Args:
        content: The LiteRT file's bytes.
        name: Prefix of the header's identifiers.
        incoming: Quantisation of the input.
        outgoing: Quantisation of the output.
        outputs: What the network puts out. Defaults to logits of foreground.
        scaling: From a pixel to the network's input. Defaults to that of 8 bits.
        note: Anything else to know about the file. Defaults to "": nothing.
    """
    lines = [
        ", ".join(f"0x{byte:02x}" for byte in content[at : at + BYTES_A_LINE])
        for at in range(0, len(content), BYTES_A_LINE)
    ]
    body = ",\n  ".join(lines)
    remark = f"// Memory: {note}.\n" if note else ""
    taken = "images in -1..1, (1, height, width, 3)"
    if scaling != EIGHT_BITS:
        values = scaling.normalization(len(scaling.mean or ()))
        taken = f"(pixel / 255 - mean) / std, mean {values['mean']}, std {values['std']}"
    meaning = f"{outputs.kind}; foreground where real >= {outputs.border:g}"
    if outputs.classes:
        numbered = ", ".join(f"{n} {_ascii(name)}" for n, name in enumerate(outputs.classes))
        meaning = f"{outputs.kind}; the class is the channel with the highest value: {numbered}"
    return f"""\
// LiteRT model, INT8, {len(content):,} bytes. real = scale * (int8 - zero_point).
// Input: {taken}. Output: {meaning}.
{remark}#pragma once

#define {name.upper()}_INPUT_SCALE {incoming.scale!r}f
#define {name.upper()}_INPUT_ZERO_POINT ({incoming.zero_point})
#define {name.upper()}_OUTPUT_SCALE {outgoing.scale!r}f
#define {name.upper()}_OUTPUT_ZERO_POINT ({outgoing.zero_point})

static const unsigned int {name}_len = {len(content)};
__attribute__((aligned(16))) static const unsigned char {name}[] = {{
  {body}
}};
"""


def _ascii(name: str) -> str:
    """Returns a name as a comment of a C file can hold it."""
    return name.encode("ascii", "backslashreplace").decode().replace("\\", "/")


def quant_params(
    incoming: Quantisation,
    outgoing: Quantisation,
    shape: Sequence[int],
    scaling: Scaling = EIGHT_BITS,
) -> dict[str, Any]:
    """Returns what Nano-U's own firmware is built with: <model>_quant_params.json.

    Args:
        incoming: Quantisation of the input.
        outgoing: Quantisation of the output.
        shape: The input's, (1, height, width, channels).
        scaling: From a pixel to the network's input. Defaults to that of 8 bits.

    Returns:
        Scale and zero point of "input" and "output", the input's "shape", and "normalization":
        a pixel becomes (pixel / 255 - mean) / std.

    Reference:
        firmware/build.rs of https://github.com/federico-pizz/Nano-U
    """
    return {
        "input": {**incoming._asdict(), "shape": list(shape)},
        "output": outgoing._asdict(),
        "normalization": scaling.normalization(shape[-1]),
    }
