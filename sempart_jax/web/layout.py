"""What stands where on the page, in gradio's components."""

import dataclasses
import html
from collections.abc import Sequence
from typing import Any

import gradio as gr
import numpy as np
from jaxtyping import UInt8

from sempart_jax.predict.pictures import INVERSIONS

NO_PICTURE = "No picture yet: drop one, or take an example."

_HEADING = """# Cut out the foreground

Drop a picture. A network that never saw a human label finds what stands out in it, and a filter
draws the mask to the picture's edges. Pictures stay on the computer that runs this page."""
_REFINEMENTS = [("Guided", "guided"), ("Bilateral", "bilateral"), ("None", "none")]
_EDGES = [("Hard", "hard"), ("Soft", "soft")]
_PANEL_HEIGHT = 330


@dataclasses.dataclass(frozen=True)
class Input:
    """Where a picture comes from."""

    upload: gr.File
    examples: gr.Gallery


@dataclasses.dataclass(frozen=True)
class Results:
    """What is shown of a picture."""

    status: gr.Markdown
    picture: gr.Image
    soft: gr.Image
    refined: gr.Image
    cutout: gr.Image
    save_cutout: gr.Button
    save_mask: gr.Button


@dataclasses.dataclass(frozen=True)
class Settings:
    """What can be chosen, and the box around what the guided filter alone heeds."""

    refine: gr.Radio
    radius: gr.Slider
    exponent: gr.Slider
    invert: gr.Radio
    edges: gr.Radio
    threshold: gr.Slider
    guided_only: gr.Group

    @property
    def values(self) -> list[Any]:
        """The controls in the order of :func:`sempart_jax.web.page.chosen_finish`."""
        return [
            self.refine,
            self.radius,
            self.exponent,
            self.invert,
            self.edges,
            self.threshold,
        ]


def lay_out(
    examples: Sequence[UInt8[np.ndarray, "_ _ 3"]], max_megabytes: float
) -> tuple[Input, Results, Settings]:
    """Put all components on the page that is being built.

    On a narrow screen the three parts stand below one another in this order; see the stylesheet.

    Args:
        examples: pictures for those who have none at hand.
        max_megabytes: size above which a file is refused, in units of 1024² bytes.
    """
    gr.Markdown(_HEADING, elem_id="heading")
    with gr.Row(elem_id="layout"):
        with gr.Column(elem_id="input", min_width=0):
            given = _input(examples, max_megabytes)
        with gr.Column(elem_id="results", min_width=0):
            results = _results()
        with gr.Column(elem_id="settings", min_width=0):
            settings = _settings()
    return given, results, settings


def message(text: str, *, problem: bool = False) -> str:
    """Write a line of status, whose words may be a visitor's own."""
    attributes = ' class="problem" role="alert"' if problem else ' role="status"'
    return f"<p{attributes}>{html.escape(text)}</p>"


def theme() -> gr.themes.Base:
    """Gradio's own looks with the fonts of the visitor's system: none are loaded."""
    return gr.themes.Default(
        primary_hue="teal",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )


def _input(examples: Sequence[UInt8[np.ndarray, "_ _ 3"]], max_megabytes: float) -> Input:
    return Input(
        upload=gr.File(
            label=f"Picture, up to {max_megabytes:g} MB",
            file_types=["image"],
            height=150,
            elem_id="upload",
        ),
        examples=gr.Gallery(
            list(examples),
            label="Examples",
            show_label=False,
            columns=len(examples),
            height="auto",
            object_fit="cover",
            allow_preview=False,
            interactive=False,
            format="png",
            buttons=[],
            elem_id="examples",
        ),
    )


def _results() -> Results:
    status = gr.Markdown(message(NO_PICTURE), elem_id="status")
    with gr.Row(equal_height=True):
        picture, soft = _panel("Picture", "picture"), _panel("Soft mask", "soft")
    with gr.Row(equal_height=True):
        refined, cutout = _panel("Refined mask", "refined"), _panel("Cut-out", "cutout")
    with gr.Row(elem_id="downloads"):
        save_cutout = _download("Download the cut-out", "save_cutout", "primary")
        save_mask = _download("Download the mask", "save_mask", "secondary")
    return Results(status, picture, soft, refined, cutout, save_cutout, save_mask)


def _settings() -> Settings:
    refine = gr.Radio(_REFINEMENTS, value="guided", label="Refine", elem_id="refine")
    with gr.Group() as guided_only:
        radius = gr.Slider(1, 40, 9, step=1, label="Radius (pixels)", elem_id="radius")
        exponent = gr.Slider(-6, 0, -3, step=0.25, label="eps (log10)", elem_id="eps")
    with gr.Group():
        edges = gr.Radio(_EDGES, value="hard", label="Edges of the cut-out", elem_id="edges")
        threshold = gr.Slider(0, 1, 0.5, step=0.01, label="Threshold", elem_id="threshold")
    invert = gr.Radio(
        [(name.capitalize(), name) for name in INVERSIONS],
        value="auto",
        label="Invert the mask",
        info="Auto: the smaller part is the foreground.",
        elem_id="invert",
    )
    return Settings(refine, radius, exponent, invert, edges, threshold, guided_only)


def _panel(label: str, name: str) -> gr.Image:
    return gr.Image(
        label=label,
        elem_id=name,
        elem_classes="panel",
        interactive=False,
        height=_PANEL_HEIGHT,
        min_width=260,
        format="png",
        buttons=["fullscreen"],
    )


def _download(label: str, name: str, variant: Any) -> gr.Button:
    return gr.Button(label, elem_id=name, variant=variant, interactive=False, min_width=200)
