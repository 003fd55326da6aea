"""The notebooks: kept clean in git, and run from top to bottom on a CPU."""

import ast
import html
import json
import os
import re

import nbformat
import numpy as np
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from PIL import Image

from sempart_jax.data.synthetic import write_scenes
from tests.commands import QUICKLY_COMPILED, REPOSITORY

FOLDER = REPOSITORY / "notebooks"
NAMES = ("segment_your_images", "train_and_evaluate")
PARAMETERS = "parameters"


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_parameters(cell):
    return PARAMETERS in cell.metadata.get("tags", [])


def test_all_notebooks_are_tested():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
class TestAsKept:
    def test_is_valid(self, name):
        nbformat.validate(read(name))

    def test_holds_no_results_of_a_run(self, name):
        notebook = read(name)
        for cell in code_cells(notebook):
            assert cell.outputs == [], cell.source
            assert cell.execution_count is None, cell.source
        assert set(notebook.metadata) == {"accelerator", "colab", "kernelspec", "language_info"}
        assert set(notebook.metadata.language_info) == {"name"}
        for cell in notebook.cells:
            assert set(cell.metadata) <= {"tags"}, cell.source

    def test_first_cell_installs_what_is_missing(self, name):
        first = code_cells(read(name))[0].source
        assert re.search(r'find_spec\("sempart_jax"\) is None:\n +%pip install', first)
        assert "git+{REPOSITORY}" in first

    def test_every_code_cell_is_python(self, name):
        for number, cell in enumerate(code_cells(read(name))):
            source = cell.source
            if source.startswith("%%writefile"):
                source = source.partition("\n")[2]
            ast.parse(TransformerManager().transform_cell(source), f"cell {number}")

    def test_parameters_are_plain_variables(self, name):
        (cell,) = (cell for cell in code_cells(read(name)) if is_parameters(cell))
        assert all(isinstance(line, ast.Assign) for line in ast.parse(cell.source).body)

    def test_names_no_path_of_a_machine(self, name):
        text = (FOLDER / f"{name}.ipynb").read_text()
        assert not re.search(r"""["' (](/[a-z]+/|~/|[A-Z]:\\)|/home|/Users|/tmp""", text)


def execute(name, folder, **parameters):
    """Run a notebook in a folder with other parameters, and return what its code cells print."""
    notebook = read(name)
    (place,) = (place for place, cell in enumerate(notebook.cells) if is_parameters(cell))
    given = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
    assert all(re.search(rf"\b{key}\b", notebook.cells[place].source) for key in parameters)
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(given))
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(
        env={
            **os.environ,
            "XLA_FLAGS": QUICKLY_COMPILED,
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(REPOSITORY),
            "HF_HUB_OFFLINE": "1",
            "IPYTHONDIR": str(folder / "ipython"),
        }
    )
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return notebook


def printed(notebook):
    return "".join(
        output.text
        for cell in code_cells(notebook)
        for output in cell.outputs
        if output.output_type == "stream"
    )


def pictures(notebook):
    """Count the pictures that are shown inline."""
    return sum(
        "image/png" in output.get("data", {})
        for cell in code_cells(notebook)
        for output in cell.outputs
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Where the notebook has trained, and its outputs."""
    folder = tmp_path_factory.mktemp("trained")
    sizes = {"STEPS": 2, "MORE_STEPS": 2, "TRAINING_SCENES": 16, "TEST_SCENES": 3}
    return folder, execute("train_and_evaluate", folder, **sizes)


@pytest.mark.slow
def test_a_photograph_is_segmented(tmp_path):
    notebook = execute("segment_your_images", tmp_path, OUT="results")
    assert "the network is" in printed(notebook)
    assert pictures(notebook) == 5
    out = tmp_path / "results"
    for kind, mode in (("masks", "L"), ("overlays", "RGB"), ("cutouts", "RGBA")):
        (path,) = (out / kind).iterdir()
        with Image.open(path) as image:
            assert (path.name, image.size, image.mode) == ("grace_hopper.png", (512, 600), mode)
    # The transparent part is what the mask leaves out.
    mask = np.asarray(Image.open(out / "masks/grace_hopper.png")) / 255
    alpha = np.asarray(Image.open(out / "cutouts/grace_hopper.png"))[..., 3]
    assert np.all(alpha[mask < 0.3] == 0)
    assert np.all(alpha[mask > 0.7] == 255)


@pytest.mark.slow
def test_folder_of_pictures_and_run_are_taken(trained, tmp_path):
    """Nobody's pictures are square."""
    run = trained[0] / "runs/demo"
    write_scenes(tmp_path / "scenes", 2, size=40, seed=0)
    (tmp_path / "photos").mkdir()
    for number, size in enumerate([(60, 40), (33, 50)]):
        image = Image.open(tmp_path / f"scenes/images/scene_000{number}.png")
        image.resize(size).save(tmp_path / f"photos/{number}.jpg")
    notebook = execute("segment_your_images", tmp_path, PICTURES="photos", RUN=str(run))
    assert f"the network is run {run}, step 4" in printed(notebook)
    masks = tmp_path / "segmented/masks"
    assert {path.name: np.asarray(Image.open(path)).shape for path in masks.iterdir()} == {
        "0.png": (40, 60),
        "1.png": (50, 33),
    }


@pytest.mark.slow
def test_network_is_trained_continued_and_scored(trained):
    folder, notebook = trained
    text = printed(notebook)
    assert "steps 0 to 2 of 8 images" in text
    assert "steps 2 to 4 of 8 images" in text
    run = folder / "runs/demo"
    logged = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert logged == [2, 4]
    # Two panels and two drawings of the curves
    assert pictures(notebook) == 4
    ious = re.findall(r"(crop320|native) +(none|guided|bilateral|centre box) +IoU (\d\.\d+)", text)
    assert len(ious) == len({row[:2] for row in ious}) == 8
    report = (run / "evaluation/report.html").read_text()
    shown = [
        output.data["text/html"]
        for cell in code_cells(notebook)
        for output in cell.outputs
        if "text/html" in output.get("data", {})
    ]
    assert len(shown) == 1
    assert html.escape(report) in shown[0]
