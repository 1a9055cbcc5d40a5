"""The types of a configuration's values: numbers, amounts, folders, and how they are read."""

import os
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from monitoring.command_line import amount
from monitoring.records.run_files import checked_folder
from training.loss_names import BALANCED, loss_parts
from training.mask_options import class_names, class_values, mask_values
from training.splitting import PREFIX


class Section(BaseModel):
    """Is frozen, and refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _number(value: Any) -> Any:
    """Refuses true and false, which Python counts as numbers."""
    if isinstance(value, bool):
        raise ValueError("input should be a number")
    return value


def _folder(path: Any) -> Any:
    """Expands `~`, and refuses a path that cannot be written into config.yaml."""
    return str(checked_folder(path)) if isinstance(path, str) else path


def _absolute(path: Any) -> Any:
    """Returns a path that means the same from any working directory."""
    return os.path.abspath(_folder(path)) if isinstance(path, str) else path


def _amount(thousand: int) -> BeforeValidator:
    """Returns what reads 2.4M and 40k as whole numbers; k is `thousand`, M its square."""

    def read(value: Any) -> Any:
        if type(value) is int:
            return value
        return amount(value if isinstance(value, str) else "", thousand)

    return BeforeValidator(read)


def _stage_width(value: Any) -> Any:
    """Returns a width, or those of a stage's blocks as a tuple."""
    blocks = value if isinstance(value, (list, tuple)) else [value]
    if not blocks or any(type(width) is not int or width < 1 for width in blocks):
        raise ValueError(
            "expected a whole number of at least 1, or a list of such numbers, one for each block"
        )
    return value if type(value) is int else tuple(value)


def _classes(value: Any) -> Any:
    """Returns a number of classes, or their names as a tuple."""
    names = class_names(value)
    if isinstance(value, str):
        return int(value) if value.isdecimal() else names
    return value if isinstance(value, int) else names


def _listed(value: Any) -> Any:
    """Returns one number or several as a tuple."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _groups(value: Any) -> Any:
    """Returns "prefix", a number of characters, or the absolute path of a file."""
    if isinstance(value, str):
        value = int(value) if value.isdecimal() else value
    if type(value) is int and value >= 1 or value == PREFIX:
        return value
    return _absolute(value)


def _loss(value: Any) -> Any:
    """Refuses unknown losses."""
    loss_parts(value if isinstance(value, str) else "")
    return value


def _weights(value: Any) -> Any:
    """Returns weights in order as a tuple; what is neither word, list nor table is refused."""
    if value == BALANCED or isinstance(value, (list, tuple, dict)):
        return tuple(value) if isinstance(value, list) else value
    raise ValueError(
        f"expected {BALANCED}, a list of weights such as [1, 10], or {{class: weight}}"
    )


# YAML reads 1e-3 as a string, so numbers may be strings.
Number = Annotated[float, BeforeValidator(_number), Field(strict=False, allow_inf_nan=False)]
NotNegative = Annotated[Number, Field(ge=0)]
Positive = Annotated[Number, Field(gt=0)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, _amount(1000), Field(ge=1)]
Bytes = Annotated[int, _amount(1024), Field(ge=1)]
# Channels of all blocks of a stage, or of each.
StageWidth = Annotated[int | tuple[int, ...], BeforeValidator(_stage_width)]
Widths = Annotated[tuple[StageWidth, ...], Field(strict=False, min_length=1)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
MaskValues = Annotated[
    tuple[int | tuple[int, int, int], ...], BeforeValidator(mask_values), Field(min_length=1)
]
Numbers = Annotated[tuple[Number, ...], BeforeValidator(_listed), Field(min_length=1)]
PositiveNumbers = Annotated[tuple[Positive, ...], BeforeValidator(_listed), Field(min_length=1)]
Share = Annotated[Number, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Groups = Annotated[int | str, BeforeValidator(_groups)]
Loss = Annotated[str, BeforeValidator(_loss)]
ClassWeights = Annotated[
    Literal["balanced"] | tuple[Positive, ...] | dict[str, Positive], BeforeValidator(_weights)
]
Classes = Annotated[int | tuple[str, ...], BeforeValidator(_classes)]
ClassValues = Annotated[
    tuple[int | tuple[int, int, int], ...], BeforeValidator(class_values), Field(min_length=1)
]
AbsolutePath = Annotated[str, BeforeValidator(_absolute)]
Folder = Annotated[str, BeforeValidator(_folder)]

# Arm's NPUs, by the names of their compiler.
Accelerator = Literal[
    "ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256", "ethos-u65-256",
    "ethos-u65-512", "ethos-u85-128", "ethos-u85-256", "ethos-u85-512", "ethos-u85-1024",
    "ethos-u85-2048",
]  # fmt: skip
