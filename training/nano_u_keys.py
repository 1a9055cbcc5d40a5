"""The keys of Nano-U's config.yaml: which are left to translate, and which have no counterpart."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

ABSENT = "absent"

# Why a key of training.<model> has no counterpart. All that concerns the loss stands here.
LOSS_KEYS = {
    "loss": "the loss is binary cross-entropy here, too (--loss); Nano-U does not read this key",
    **dict.fromkeys(
        ("tversky_weight", "tversky_alpha", "tversky_beta"),
        "--loss bce+tversky adds a Tversky loss, with weights of its own",
    ),
}
TRAINING_KEYS = {
    **LOSS_KEYS,
    "output_dir": "each run has a folder of its own; --output names it",
    "models_dir": "the model lies in its run's folder",
    "tensorboard": "a monitored run always writes tensorboard/",
    "validation_data": "the monitor measures images of the validation split",
    "distillation.teacher_model_name": "the teacher's folder tells which network it is",
    "teacher_model_name": "the teacher's folder tells which network it is",
}
DATA_KEYS = {
    **dict.fromkeys(
        ("data.split.train", "data.split.validation", "data.split.test"),
        "images are split by their folders, or by --split and --groups",
    ),
    "data.paths.models_dir": "the model lies in its run's folder",
    "data.paths.results_dir": "each run has a folder of its own; --output names it",
}
QUANTIZATION_KEYS = {
    "quantization.method": "--export int8 writes full-integer files; so does Nano-U, in any case",
    "quantization.representative_dataset_size": "128 training images calibrate here, "
    "all validation images in Nano-U",
    "quantization.input_type": "the INT8 file takes and returns INT8",
    "quantization.output_type": "the INT8 file takes and returns INT8",
    "quantization.supported_ops": "the INT8 file uses INT8 operators alone",
}
UNKNOWN = "Nano-U of July 2026 does not read it, and neither does this project"


class Note(NamedTuple):
    """What became of one key of Nano-U's configuration.

    Attributes:
        key: The key, with its sections: "training.seed".
        value: Its value, or "absent" where the default of Nano-U's code was translated.
        ours: The key of ours and its value, "training.seed: 37"; "" if it has none.
        remark: Why it has none, or how ours differs; "" if it means the same.
    """

    key: str
    value: Any
    ours: str
    remark: str


class Keys:
    """The keys that are left to translate, and what has become of the others.

    Args:
        values: Nano-U's configuration.
        model: Whose settings are translated: "nano_u" or "bu_net".

    Attributes:
        config: What was translated, {section: {key: value}}.
        notes: What became of each key.
    """

    def __init__(self, values: Mapping, model: str):
        self.left = dict(_leaves(values))
        self.model = model
        self.config: dict[str, Any] = {"model": {"name": model}}
        self.notes: list[Note] = []

    def own(self, key: str) -> str:
        """Returns the full name of a key of the network's section in `training`."""
        return f"training.{self.model}.{key}"

    def take(self, *names: str, default: Any = None) -> tuple[str, Any, Any]:
        """Takes the first of several keys that is there; Nano-U ignores the others then.

        Returns:
            Its name, its value for notes, and its value or `default`. Numbers in strings, such as
            "1e-3", are numbers.
        """
        there = [name for name in names if name in self.left]
        for name in there[1:]:
            self.drop(name, f"{there[0]} overrides it")
        if not there:
            return names[0], ABSENT, default
        value = _number(self.left.pop(there[0]))
        return there[0], value, value

    def put(self, key: str, value: Any, ours: str, new: Any, remark: str = "") -> None:
        """Sets a key of ours, such as "data.root", and notes where it comes from."""
        *sections, name = ours.split(".")
        part = self.config
        for section in sections:
            part = part.setdefault(section, {})
        part[name] = new
        shown = new if isinstance(new, str) else json.dumps(new)
        self.notes.append(Note(key, value, f"{ours}: {shown}", remark))

    def move(self, *names: str, to: str, default: Any = None, remark: str = "") -> Any:
        """Takes a key that means the same as one of ours, sets that, and returns the value."""
        key, value, new = self.take(*names, default=default)
        if new is None:
            self.note(key, value, f"null: {to} keeps the default of this project")
        else:
            self.put(key, value, to, new, remark)
        return new

    def drop(self, name: str, why: str) -> None:
        """Notes why a key has no counterpart, if it is there."""
        if name in self.left:
            self.note(name, self.left.pop(name), why)

    def note(self, key: str, value: Any, why: str, *, ours: str = "") -> None:
        """Notes why a key that was taken has no counterpart, or which it shares, if it is there."""
        if value is not ABSENT:
            self.notes.append(Note(key, value, ours, why))

    def drop_all(self, prefix: str, why: str) -> None:
        """Notes why all keys that begin with `prefix` have no counterpart."""
        for name in [name for name in self.left if name.startswith(prefix)]:
            self.drop(name, why)


def _leaves(values: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every key, with its sections, and its value; an empty section is a value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _number(value: Any) -> Any:
    """Returns the number in a string such as "1e-3", as YAML reads it; other values unchanged."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
