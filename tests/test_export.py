"""INT8 files, run by LiteRT's own interpreter, and their C headers, read by a compiler."""

import re
import shutil
import subprocess
from dataclasses import replace

import keras
import numpy as np
import pytest

from models import BU_Net, Nano_U
from monitoring.records.files import read_values
from train import main as train_main
from train import train
from training.data import scale
from training.export import device_file, export, offline_plan, summary
from training.export.__main__ import main
from training.export.firmware import c_header
from training.litert import (
    MICROCONTROLLER_OPERATORS,
    Quantisation,
    convert,
    operators,
    quantised,
    resized,
    run,
)
from training.synthetic import synthetic_splits


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "nano"
    config = folder.with_suffix(".yaml")
    config.write_text("model: {filters: [4, 8], bottleneck: 8, probes: [encoder]}\n")
    model, _ = train(
        "nano_u", 2, config=config, output=folder, export_format="int8", seed=1, verbose=0
    )
    return folder, model


def test_the_copy_with_resizing_answers_to_the_bit(rng):
    for build in (Nano_U, BU_Net):
        model = build((24, 32, 3), (4, 8), 8, enable_probes=True)
        images = rng.uniform(-1, 1, (3, 24, 32, 3)).astype("float32")
        copy = resized(model)
        assert not any(isinstance(layer, keras.layers.UpSampling2D) for layer in copy.layers)
        np.testing.assert_array_equal(
            copy.predict(images, verbose=0), model.predict(images, verbose=0)
        )


def test_a_run_exports_a_file_that_says_what_the_network_says(trained):
    folder, model = trained
    content = (folder / "model_int8.tflite").read_bytes()
    used = operators(content)
    assert used.keys() <= MICROCONTROLLER_OPERATORS
    # Two blocks in each of two encoder stages, bottleneck and two decoder stages, and the logits.
    assert used["DEPTHWISE_CONV_2D"] == 10 and used["CONV_2D"] == 11
    assert used["RESIZE_NEAREST_NEIGHBOR"] == used["MAX_POOL_2D"] == 2
    assert b"probe" not in content.lower()
    images = scale(synthetic_splits().test.images[:20])
    exact, answer = model.predict(images, verbose=0), run(content, images)
    assert answer.shape == exact.shape
    assert ((exact >= 0) == (answer >= 0)).mean() > 0.97
    assert np.corrcoef(exact.ravel(), answer.ravel())[0, 1] > 0.95


def test_operators_are_those_that_the_interpreter_runs(trained):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    content = (trained[0] / "model_int8.tflite").read_bytes()
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
    )
    run_by_it = [operator["op_name"] for operator in interpreter._get_ops_details()]
    assert sorted(run_by_it) == sorted(operators(content).elements())
    for details in (interpreter.get_input_details(), interpreter.get_output_details()):
        assert details[0]["dtype"] == np.int8


@pytest.mark.slow
def test_what_loses_too_much_is_refused_and_kept_apart(trained, tmp_path):
    _, model = trained
    splits = synthetic_splits()
    found = export(model, splits, tmp_path, name="nano_u", tolerance=-100, header=True)
    assert "points of mIoU, more than -100" in found.refused and "REFUSED" in summary(found)
    assert found.file == "model_int8.refused.tflite"
    assert not (tmp_path / "model_int8.tflite").exists()
    assert not (tmp_path / "model_int8.h").exists()
    assert not (tmp_path / "model_int8_quant_params.json").exists()
    found = export(model, splits, tmp_path, name="nano_u", tolerance=100, header=True)
    assert not found.refused and (tmp_path / "model_int8.h").exists()
    assert not (tmp_path / "model_int8.refused.tflite").exists()
    assert found.float_scores.miou - found.int8_scores.miou < 0.05 and found.agreement > 0.97


def test_an_earlier_file_is_removed_only_where_it_is_proved_ours(trained, tmp_path):
    _, model = trained
    (tmp_path / "model_int8.h").write_text("a stranger's")
    with pytest.raises(ValueError, match="move model_int8.h elsewhere"):
        export(model, synthetic_splits(), tmp_path, name="nano_u", tolerance=100)
    assert [path.name for path in tmp_path.iterdir()] == ["model_int8.h"]
    assert (tmp_path / "model_int8.h").read_text() == "a stranger's"


@pytest.mark.slow
def test_a_u_net_is_not_for_microflow(tmp_path):
    model = BU_Net(filters=(4, 8), bottleneck=8)
    found = export(model, synthetic_splits(), tmp_path, name="bu_net", tolerance=100)
    assert not found.refused and found.note == "not for MicroFlow: it lacks CONCATENATION"
    found = export(model, synthetic_splits(), tmp_path, name="nano_u", tolerance=100)
    assert found.refused == "MicroFlow lacks CONCATENATION"


def test_memory_is_said_against_320_kb(trained, tmp_path):
    _, model = trained
    found = export(model, synthetic_splits(), tmp_path, name="nano_u", tolerance=100)
    exact = replace(found, arena_bytes=100_000)
    assert "fits in 320 KB: yes, 227,680 bytes to spare" in summary(exact)
    assert "no, 72,320 bytes too much" in summary(replace(found, arena_bytes=400_000))
    assert "estimated" in summary(replace(found, arena_bytes=None))


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_a_compiler_reads_the_headers_bytes_back(trained, tmp_path):
    content = (trained[0] / "model_int8.tflite").read_bytes()
    text = c_header(content, "model_int8", Quantisation(0.0078125, -1), Quantisation(0.1, 3))
    (tmp_path / "model_int8.h").write_text(text)
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "model_int8.h"\n'
        "int main(void) { return fwrite(model_int8, 1, model_int8_len, stdout) != model_int8_len"
        " || MODEL_INT8_INPUT_ZERO_POINT != -1 || MODEL_INT8_OUTPUT_SCALE != 0.1f; }\n"
    )
    program = tmp_path / "program"
    subprocess.run(["cc", "-Wall", "-Werror", "-o", program, tmp_path / "main.c"], check=True)
    assert subprocess.run([program], capture_output=True, check=True).stdout == content


def test_the_headers_bytes_are_the_files(trained):
    content = (trained[0] / "model_int8.tflite").read_bytes()
    text = c_header(content, "net", Quantisation(1.0, 0), Quantisation(1.0, 0))
    array = text[text.index("{") :]
    assert bytes(int(byte, 16) for byte in re.findall("0x([0-9a-f]{2})", array)) == content


def test_quantising_clips_at_the_ends():
    how = Quantisation(0.5, 10)
    assert quantised(np.array([-100.0, 0.0, 0.24, 0.26, 100.0]), how).tolist() == [
        *(-128, 10, 10, 11, 127)
    ]


def test_calibration_needs_images():
    with pytest.raises(ValueError, match="Calibration needs images"):
        convert(Nano_U((24, 32, 3)), np.zeros((0, 24, 32, 3)))


@pytest.mark.slow
def test_the_command_line(trained, tmp_path, monkeypatch, capsys):
    folder = str(trained[0])
    assert main([folder, "--header", "--export-tolerance", "100"]) == 0
    assert "INT8, post-training: model_int8.tflite" in capsys.readouterr().out
    monkeypatch.setattr(device_file, "MICROCONTROLLER_OPERATORS", frozenset({"CONV_2D"}))
    assert main([folder, "--export-tolerance", "100"]) == 3
    assert "REFUSED: MicroFlow lacks DEPTHWISE_CONV_2D, " in capsys.readouterr().out
    assert main([str(tmp_path / "none")]) == 2
    assert main([str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "does not exist" in lines[0] and "holds no finished run of train.py" in lines[1]


@pytest.mark.slow
@pytest.mark.parametrize("build", [Nano_U, BU_Net])
def test_half_precision_is_exported_as_float32_would_be(rng, build):
    images = rng.uniform(-1, 1, (8, 24, 32, 3)).astype("float32")
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = build((24, 32, 3), (4, 8), 8)
        model(images, training=True)
        content = convert(model, images)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert "CAST" not in operators(content)
    single = build((24, 32, 3), (4, 8), 8)
    single.set_weights(model.get_weights())
    assert content == convert(single, images)


def test_an_overlapping_plan_is_asked_for_on_the_command_line(trained, monkeypatch, capsys):
    pytest.importorskip("tflite_micro")
    monkeypatch.setattr(offline_plan, "RANDOM_INPUTS", 10)
    folder = trained[0]
    assert main([str(folder), "--arena-plan", "overlap", "--header"]) == 0
    printed = capsys.readouterr().out
    exported = read_values(folder / "export.json")
    arena = exported["arena"]
    assert (arena["plan"], arena["refused"]) == ("overlap", "")
    assert exported["arena_bytes"] < arena["plain_bytes"]
    assert f"overlapping plan, {arena['plain_bytes']:,} bytes without: outputs lie" in printed
    assert (
        "// Memory: outputs lie over inputs, which is safe with the reference kernels"
        in (folder / "model_int8.h").read_text()
    )
    content = (folder / "model_int8.tflite").read_bytes()
    placed = [offset for offset in offline_plan.offsets_of(content) if offset >= 0]
    assert placed == [tensor["overlap"] for tensor in arena["tensors"]]
    assert exported["file_bytes"] == len(content)
    monkeypatch.setattr(offline_plan, "RUN", "raise SystemExit('no room')")
    assert main([str(folder), "--arena-plan", "overlap"]) == 3
    assert "NO OVERLAPPING PLAN: TensorFlow Lite Micro cannot run" in capsys.readouterr().out
    assert offline_plan.offsets_of((folder / "model_int8.tflite").read_bytes()) is None
    assert not (folder / "model_int8.h").exists()


def test_an_overlapping_plan_needs_an_export(capsys):
    assert train_main(["--model", "nano_u", "--arena-plan", "overlap"]) == 2
    assert "--arena-plan and --vela need --export int8" in capsys.readouterr().err


def as_firmware_reads_it(text, section, field):
    """Reads a number or a list as Nano-U's build script does, which searches for names."""
    at = text.index(f'"{field}"', text.index(f'"{section}"'))
    rest = text[text.index(":", at) + 1 :].lstrip()
    if rest[0] == "[":
        return [float(part) for part in rest[1 : rest.index("]")].split(",")]
    return float(re.match(r"[^,}\n\]]*", rest)[0])


def test_nano_us_own_firmware_finds_the_meaning_of_the_integers(trained):
    folder, _ = trained
    exported = read_values(folder / "export.json")
    text = (folder / "model_int8_quant_params.json").read_text()
    for section in ("input", "output"):
        found = [as_firmware_reads_it(text, section, field) for field in ("scale", "zero_point")]
        assert found == exported[section]
    assert as_firmware_reads_it(text, "input", "shape") == [1, 60, 80, 3]
    mean, std = (as_firmware_reads_it(text, "normalization", field) for field in ("mean", "std"))
    pixels = np.arange(256, dtype=np.uint8)[:, None] * np.ones(3, np.uint8)
    np.testing.assert_allclose((pixels / 255 - mean) / std, scale(pixels), atol=1e-6)
