"""The plan of the house, checked in the source: who imports, patches, deletes and names what."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("models", "monitoring")
FOLDERS = (*LIBRARIES, "training")
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
SOURCES += [ROOT / "train.py"]
LONG_FILES = {
    "monitoring/records/run_files.py": "names, claims and removals are one room: a run's folder",
}


def name(path):
    return path.relative_to(ROOT).as_posix()


def imports(path, *, module_level=False):
    """The absolute imports of a file, as top-level names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    nodes = tree.body if module_level else [n for n in ast.walk(tree) if id(n) not in typing]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def test_the_sources_are_found():
    assert len(SOURCES) > 60
    assert {"train", "monitoring.callback", "models.cost"} <= {
        name(path).removesuffix(".py").replace("/", ".") for path in SOURCES
    }


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_imports_no_other_room(library):
    ours = {*FOLDERS, "train", "tests", "probe_zoo"}
    for path in sorted((ROOT / library).rglob("*.py")):
        if path.name != "__main__.py":
            assert not ours & set(imports(path)), name(path)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_needs_keras_and_numpy_alone_when_it_is_imported(library):
    for path in sorted((ROOT / library).rglob("*.py")):
        needed = set(imports(path, module_level=True)) - sys.stdlib_module_names
        assert needed <= {"keras", "numpy"}, name(path)


def test_nothing_in_the_checkout_imports_the_installed_copy():
    for path in SOURCES:
        assert "probe_zoo" not in set(imports(path)), name(path)


FORBIDDEN = {
    "touches a model": (r"object\.__(set|del)attr__", {"monitoring/taps/patching.py"}),
    "deletes": (
        r"\.unlink\(|\.rmdir\(|rmtree|os\.remove\(",
        # A draft of its own, and the room that proves what is ours.
        {"monitoring/records/files.py", "monitoring/records/run_files.py"},
    ),
    "parses a command line": (
        r"Namespace",
        {
            *("models/__main__.py", "monitoring/__main__.py", "train.py"),
            "training/export/__main__.py",
        },
    ),
    "catches everything": (
        r"except( Exception| BaseException)?( as \w+)?:",
        {"monitoring/taps/recording.py"},  # what anybody's layers raise when run on shapes
    ),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_who_may(what):
    pattern, allowed = FORBIDDEN[what]
    for path in SOURCES:
        if name(path) not in allowed:
            found = [
                line
                for line in path.read_text(encoding="utf-8").splitlines()
                if re.search(pattern, line)
            ]
            assert not found, f"{name(path)}: {found[0]}"


def test_every_name_of_a_runs_file_stands_once():
    from monitoring.records.run_files import NAMES

    # Names that are plain words occur as such: monitor_data="arrays", a section "teacher".
    names = [each for each in NAMES if "." in each]
    assert len(names) >= 15
    for path in SOURCES:
        if path.name == "run_files.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documents = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and node.body
            if isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and id(node) not in documents:
                assert node.value not in names, f"{name(path)}, line {node.lineno}: {node.value}"


def test_no_file_is_long_without_a_reason():
    for path in SOURCES:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= 250 or name(path) in LONG_FILES, f"{name(path)}: {lines} lines"
    callback = (ROOT / "monitoring" / "callback.py").read_text(encoding="utf-8")
    assert len(callback.splitlines()) <= 200


@pytest.mark.parametrize(
    "statement",
    [
        "import monitoring.records.record",
        "import monitoring, monitoring.records.run_files",
        "import train; train.parser()",
        "import training.__main__ as commands; commands.parser()",
    ],
)
def test_imports_without_numerics(statement):
    heavy = {"numpy", "keras", "tensorflow", "pydantic", "yaml"}
    script = f"import sys; {statement}; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "[]\n", run.stderr


def test_scripts_of_the_tests_can_import_the_checkout_from_anywhere():
    scripts = [
        path
        for path in sorted((ROOT / "tests").glob("*.py"))
        if not path.name.startswith("test_")
        and '__name__ == "__main__"' in path.read_text(encoding="utf-8")
        and {*FOLDERS, "train"} & set(imports(path))
    ]
    assert len(scripts) >= 8
    for path in scripts:
        needed = [each for each in imports(path) if each in {*FOLDERS, "train", "checkout"}]
        assert needed[0] == "checkout", f"{path.name}: import checkout first"


def test_every_folder_of_the_libraries_is_installed():
    with (ROOT / "pyproject.toml").open("rb") as file:
        packages = tomllib.load(file)["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in SOURCES if path.name == "__init__.py"}
    installed = {f"probe_zoo.{'.'.join(f.parts)}" for f in folders if f.parts[0] in LIBRARIES}
    assert {name for name in packages if name != "probe_zoo"} == installed
