"""Imports point one way: cluster -> serve -> pipelines -> models, and some packages are imported nowhere."""

import ast
import functools
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("models", "pipelines", "serve", "cluster")  # lowest first
FOLDERS = {
    "models": (
        "", "weights", "captions", "synthworld", "faces", "augment", "landmarks", "parser", "ssm", "diffusion",
         "visible", "thermal", "translation",
        "gates", "null", "judges", "tasks", "training", "published", "evaluation",
    ),
    "models/synthworld": ("camera", "sampling", "shape", "heat", "render"),
    "models/evaluation": ("", "tfake", "lapig", "faceclip", "hfr", "landmarking"),
    "pipelines": (
        "storage", "config", "pictures", "rows", "plan", "run", "readers", "captions", "report", "training", "evaluation",
        "estimate", "outputs", "",
    ),
    "pipelines/plan": ("people", ""),
    "serve": ("http", ""),
    "cluster": ("submission", "manifests", "doctor", "commands", ""),
}  # fmt: skip
"""Folders of a folder, lowest first; `""` are the files that lie in it directly."""
MOST_FILES = 16
"""Files of one folder, `__init__.py` aside; a folder with a file for each command may hold more."""
NOT_HERE = {"torchvision", "torchaudio", "torchcodec", "timm", "segmentation_models_pytorch"}
SAFETY = {"weights_only", "allow_pickle"}
"""Words of a call that say whether a file may bring code."""
UNPICKLING = {"pickle", "cloudpickle", "dill", "joblib", "shelve"}


@functools.cache
def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a file, which no test changes."""
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path, root: Path = ROOT) -> tuple[str, ...]:
    """Full names of the modules a file imports anywhere, lazy imports inside functions included."""
    return tuple(find_imports(parse(path), path.relative_to(root).with_suffix("").parts[:-1]))


def find_imports(tree: ast.Module, package: tuple[str, ...]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


@functools.cache
def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_itself_and_the_rooms_below(room: str) -> None:
    above = ROOMS[ROOMS.index(room) + 1 :]
    wrong = [
        (path.relative_to(ROOT), name)
        for path in sources(room)
        for name in imports(path)
        for up in above
        if within(name, up)
    ]
    assert not wrong


@functools.cache
def module_of(name: str) -> Path | None:
    """Return the file that an imported name is in: a module, a name in one, or a package."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:end])
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py")
        if (path / "__init__.py").is_file():
            return path / "__init__.py"
    return None


def folder_in(path: Path, base: Path) -> str:
    """Return the folder of `base` that a file below it lies in, "" for one that lies in `base` itself."""
    parts = path.relative_to(base).parts
    return parts[0] if len(parts) > 1 else ""


@pytest.mark.parametrize("base", FOLDERS)
def test_a_folder_imports_only_folders_below_it(base: str) -> None:
    order, top = FOLDERS[base], ROOT / base
    files = [path for path in sources(base) if path != top / "__init__.py"]
    assert {folder_in(path, top) for path in files} == set(order), f"{base}: name every folder in FOLDERS, in its place"
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(path)
        if (found := module_of(name)) and found.is_relative_to(top) and found != top / "__init__.py"
        if order.index(folder_in(found, top)) > order.index(folder_in(path, top))
    ]
    assert not wrong


def test_no_files_import_each_other_in_a_circle() -> None:
    """Not even inside functions or for types alone: what needs each other is one idea, or a third file's."""
    graph = {path: {module_of(name) for name in imports(path)} - {path, None} for path in sources(*ROOMS)}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises a CycleError that names the circle


def test_a_folder_is_no_drawer() -> None:
    folders = {path.parent for path in sources(*ROOMS)} - {ROOT / "cluster" / "commands"}
    crowded = {
        str(folder.relative_to(ROOT)): count
        for folder in folders
        if (count := sum(path.name != "__init__.py" for path in folder.glob("*.py"))) > MOST_FILES
    }
    assert not crowded


def test_models_never_imports_ray() -> None:
    assert not [(path, name) for path in sources("models") for name in imports(path) if within(name, "ray")]


def test_nothing_imports_what_has_no_cpu_build_beside_this_torch() -> None:
    assert not [(path, name) for path in sources(*ROOMS) for name in imports(path) if name.split(".")[0] in NOT_HERE]


def test_the_world_and_the_clinical_prior_know_nothing_of_each_other() -> None:
    """The prior is judged against the world's temperatures, so it may not have gone into making them."""
    paths = sources("models/synthworld")
    assert paths, "models/synthworld has moved; this test looks nowhere"
    assert not [(path, name) for path in paths for name in imports(path) if "prior" in name.lower()]


def test_nothing_loads_code_with_data() -> None:
    """Weights are safetensors or `torch.load(weights_only=True)`: a pickle runs whatever its author wrote."""
    restricted = ROOT / "pipelines" / "readers" / "sets" / "unpickle.py"
    others = [path for path in sources(*ROOMS) if path != restricted]
    unsafe = [(path, name) for path in others for name in imports(path) if name.split(".")[0] in UNPICKLING]
    used = {
        ast.unparse(node)
        for node in ast.walk(parse(restricted))
        if isinstance(node, ast.Attribute) and "pickle." in ast.unparse(node)
    }
    assert (
        used == {"pickle.Unpickler"} and "def find_class" in restricted.read_text()
    )  # the base of one that runs nothing
    for path in sources(*ROOMS):
        for call in (node for node in ast.walk(parse(path)) if isinstance(node, ast.Call)):
            given = {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg in SAFETY}
            loads = isinstance(call.func, ast.Attribute) and ast.unparse(call.func) == "torch.load"
            if (loads and given.get("weights_only") != "True") or given.get("allow_pickle") == "True":
                unsafe.append((path, f"line {call.lineno}: {ast.unparse(call.func)}"))
    assert not unsafe


def test_jobs_and_service_share_their_stages() -> None:
    """No stage is written twice: each is a class `Stage` in `models` that the table of kinds leads to, and no room above
    names one otherwise. The service runs the jobs' chain of them, and neither has nor loads a network of its own."""
    from models.stages import STAGES, import_settings, import_stage

    found = {import_stage(package) for kinds in STAGES.values() for package in kinds.values()}
    assert {stage.__qualname__.rpartition(".")[2] for stage in found} == {"Stage"}
    written = [
        str(path.relative_to(ROOT))
        for path in sources(*ROOMS)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ClassDef) and node.name == "Stage"
    ]
    assert len(written) == len(found) + 1 and all(name.startswith("models/") for name in written)  # and the protocol
    for package in (package for kinds in STAGES.values() for package in kinds.values()):
        kind = import_settings(package)
        assert isinstance(kind.WEIGHTS, dict) and kind.Options.model_config["extra"] == "forbid"
        assert kind.Settings.model_config["extra"] == "forbid" and callable(kind.columns)
    alone = {
        ROOT / "pipelines" / name for name in ("evaluation/bundle.py", "reference.py")
    }  # tools for one kind of network
    above = [(path, name) for path in sources(*ROOMS[1:]) if path not in alone for name in imports(path)]
    assert not [(path, name) for path, name in above if name.startswith("models.") and ".stage." in f"{name}."]
    service = {name for path in sources("serve") for name in imports(path)}
    shared = ("pipelines.run.chain.Chain", "pipelines.pictures.faces.find_faces", "pipelines.captions.choose.choose")
    assert service >= set(shared)
    networks = ("torch.nn", "diffusers", "onnxruntime", "transformers", "vllm")
    assert not [name for name in service for net in networks if within(name, net)]


def test_a_job_is_checked_without_what_it_runs_on() -> None:
    """Every kind's light half is read, and nothing that takes seconds to import, or is not on a small machine."""
    code = (
        "import sys; from models.stages import STAGES, import_settings; from pipelines.config.request import load_request; "
        "load_request('starter', 'laptop', 'demo'); [import_settings(p) for kinds in STAGES.values() for p in kinds.values()]; "
        "print(sorted({'torch', 'ray', 'diffusers', 'onnxruntime', 'transformers', 'vllm', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_batch_of_rows_has_one_type() -> None:
    """`models.columns.Columns`; what else calls a type Columns or Rows is another word for it."""
    homes = {
        str(path.relative_to(ROOT))
        for path in sources(*ROOMS)
        for node in parse(path).body
        for name in ([node.name] if isinstance(node, ast.ClassDef) else map(ast.unparse, getattr(node, "targets", ())))
        if name in ("Columns", "Rows")
    }
    assert homes == {"models/columns.py"}


def test_a_test_is_of_one_tier(of_two_tiers: list[str]) -> None:
    assert not of_two_tiers


def test_no_import_escapes_the_walker(tmp_path: Path) -> None:
    """Relative imports and imports inside functions count: else the tests above would pass everything."""
    (tmp_path / "models" / "thermal").mkdir(parents=True)
    path = tmp_path / "models" / "thermal" / "net.py"
    path.write_text("from ..seeds import noise\n\ndef late():\n    import ray.data\n    from pipelines import plan\n")
    assert imports(path, tmp_path) == ("models.seeds.noise", "ray.data", "pipelines.plan")
