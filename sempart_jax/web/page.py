"""The page: what stands where, and what happens when it is touched."""

import dataclasses
import functools
import html
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from absl import logging
from gradio.utils import get_upload_folder
from jaxtyping import Float, UInt8

from sempart_jax.data.images import Photograph, UnreadableImageError, read_photograph
from sempart_jax.kernels.host_guided_filter import guided_radius
from sempart_jax.predict.options import INVERSIONS
from sempart_jax.segmentation.drawing import as_file, eight_bits
from sempart_jax.web.finishing import cut_out, finish_mask, preview

Predict = Callable[[np.ndarray], np.ndarray]
"""RGB uint8 ``[H, W, 3]`` to a soft mask, float32 ``[H, W]`` in [0, 1]."""

_HEADING = """# Cut out the foreground

Drop a picture. A network that never saw a human label finds what stands out in it, and a filter
draws the mask to the picture's edges. Pictures stay on the computer that runs this page."""
_NO_PICTURE = "No picture is kept: drop one, or take an example."
_FILE_SECONDS, _PICTURE_SECONDS = 3600, 24 * 3600
"""How long files, and pictures on open pages, are kept; gradio forgets closed ones in an hour."""
_WAITING = 16
"""Calls that may wait; more are told that the page is busy."""
_CLICK_FILE = "() => document.querySelector('#file').click()"


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A visitor's picture. The network has seen it once; its mask is finished again at will.

    Attributes:
        name: what its file is called.
        photograph: the picture, its transparency and its colour profile.
        mask: what the network predicts, in [0, 1].
        seconds: what the prediction took.
    """

    name: str
    photograph: Photograph
    mask: Float[np.ndarray, "H W"]
    seconds: float


def build_page(
    predict: Predict,
    *,
    invert: str,
    examples: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    max_megabytes: float,
) -> gr.Blocks:
    """Make the page, see ``serving.serve``; at most one call of ``predict`` runs at a time."""
    with gr.Blocks(
        title="sempart_jax",
        analytics_enabled=False,
        delete_cache=(600, _FILE_SECONDS),
        fill_width=True,
    ) as page:
        gr.Markdown(_HEADING, elem_id="heading")
        kept = gr.State(None, time_to_live=_PICTURE_SECONDS)
        with gr.Row(elem_id="layout"):
            with gr.Column(elem_id="input", min_width=0):
                upload = gr.File(
                    label=f"Picture, up to {max_megabytes:g} MB",
                    file_types=["image"],
                    height=150,
                    elem_id="upload",
                )
                gallery = gr.Gallery(
                    list(examples),
                    show_label=False,
                    columns=len(examples),
                    height="auto",
                    allow_preview=False,
                    interactive=False,
                    format="png",
                    buttons=[],
                    elem_id="examples",
                )
            with gr.Column(elem_id="results", min_width=0):
                status = gr.Markdown(_message(_NO_PICTURE), elem_id="status")
                with gr.Row():
                    shown, soft = _panel("Picture", "picture"), _panel("Soft mask", "soft")
                with gr.Row():
                    refined, cutout = _panel("Refined mask", "refined"), _panel("Cut-out", "cutout")
                with gr.Row():
                    save_cutout = gr.Button(
                        "Download the cut-out", variant="primary", elem_id="save_cutout"
                    )
                    save_mask = gr.Button("Download the mask", elem_id="save_mask")
                file = gr.DownloadButton(visible="hidden", elem_id="file")
            with gr.Column(elem_id="settings", min_width=0):
                names = [("Guided", "guided"), ("Bilateral", "bilateral"), ("None", "none")]
                refine = gr.Radio(names, value="guided", label="Refine", elem_id="refine")
                with gr.Group() as guided_only:
                    radius = gr.Slider(1, 40, 9, step=1, label="Radius (pixels)", elem_id="radius")
                    eps = gr.Slider(-6, 0, -3, step=0.25, label="eps (log10)", elem_id="eps")
                with gr.Group():
                    names = [("Hard", "hard"), ("Soft", "soft")]
                    edges = gr.Radio(
                        names, value="hard", label="Edges of the cut-out", elem_id="edges"
                    )
                    threshold = gr.Slider(
                        0, 1, 0.5, step=0.01, label="Threshold", elem_id="threshold"
                    )
                inversion = gr.Radio(
                    [(name.capitalize(), name) for name in INVERSIONS],
                    value=invert,
                    label="Invert the mask",
                    info="Auto: the smaller part is the foreground.",
                    elem_id="invert",
                )
        settings = [refine, radius, eps, inversion, edges, threshold]
        panels = [shown, soft, refined, cutout]

        def finish(picture: Picture, *chosen: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            name, pixels, exponent, side, kind, level = chosen
            image, alpha, _ = picture.photograph
            chosen_side, filtered = finish_mask(
                image,
                picture.mask,
                refine=name,
                radius=int(pixels),
                eps=10.0**exponent,
                invert=side,
            )
            cut = cut_out(image, filtered, level if kind == "hard" else None, alpha)
            return eight_bits(chosen_side), eight_bits(filtered), cut

        def show(picture: Picture, *chosen: Any) -> dict[Any, Any]:
            started = time.perf_counter()
            first, second, cut = finish(picture, *chosen)
            seconds = time.perf_counter() - started
            height, width = second.shape
            told = (
                f"{picture.name} · {width} × {height} pixels · {(second > 127).mean():.0%} "
                f"foreground · network {picture.seconds:.2f} s · refinement {seconds:.2f} s"
            )
            return {
                soft: preview(first),
                refined: preview(second),
                cutout: as_file(preview(cut), picture.photograph.profile),
                status: _message(told),
                # What a choice leaves without effect is not to be seen.
                guided_only: gr.update(visible=chosen[0] == "guided"),
                threshold: gr.update(visible=chosen[4] == "hard"),
            }

        def forget(told: str = _NO_PICTURE, *, problem: bool = False) -> dict[Any, Any]:
            return {kept: None, status: _message(told, problem=problem), **dict.fromkeys(panels)}

        def segment(name: str, photograph: Photograph, *chosen: Any) -> dict[Any, Any]:
            started = time.perf_counter()
            image = photograph.pixels
            picture = Picture(name, photograph, predict(image), time.perf_counter() - started)
            logging.info("predicted %s, %dx%d pixels", name, image.shape[1], image.shape[0])
            # Another picture, another radius: the paper's, scaled to it.
            scaled = guided_radius(*image.shape[:2])
            return {
                **show(picture, chosen[0], scaled, *chosen[2:]),
                kept: picture,
                shown: as_file(preview(image), photograph.profile),
                radius: gr.update(value=scaled, maximum=max(20, 5 * scaled)),
            }

        def on_upload(path: str, *chosen: Any) -> dict[Any, Any]:
            name = Path(path).name
            try:
                return segment(name, read_photograph(path), *chosen)
            except UnreadableImageError as error:
                told = f"{name} is no picture that can be read: {error.reason}."
                return forget(told, problem=True)

        def on_example(event: gr.SelectData, *chosen: Any) -> dict[Any, Any]:
            name = f"scene_{event.index + 1}.png"
            return {upload: None, **segment(name, Photograph(examples[event.index]), *chosen)}

        def on_setting(picture: Picture | None, *chosen: Any) -> dict[Any, Any]:
            if picture is None:
                return {status: _message(_NO_PICTURE)}
            return show(picture, *chosen)

        def on_save(kind: str, picture: Picture | None, *chosen: Any) -> str:
            if picture is None:
                raise gr.Error(_NO_PICTURE, print_exception=False)
            _, mask, cut = finish(picture, *chosen)
            path = Path(tempfile.mkdtemp(dir=get_upload_folder()))
            path /= f"{Path(picture.name).stem}_{kind}.png"
            is_cutout = kind == "cutout"
            profile = picture.photograph.profile if is_cutout else None
            as_file(cut if is_cutout else mask, profile).save(path)
            return str(path)

        refreshed = [status, *panels, guided_only, threshold]
        network: dict[str, Any] = {
            "outputs": [*refreshed, kept, radius, upload],
            "concurrency_limit": 1,
            "concurrency_id": "network",
            "show_progress_on": panels[1:],
            "api_visibility": "private",
        }
        upload.upload(on_upload, [upload, *settings], **network)
        gallery.select(on_example, settings, **network)
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        upload.clear(forget, None, [*refreshed, kept], **quiet)
        state = [kept, *settings]
        for control in settings:
            control.input(on_setting, state, refreshed, trigger_mode="always_last", **quiet)
        for button, kind in ((save_cutout, "cutout"), (save_mask, "mask")):
            saved = button.click(functools.partial(on_save, kind), state, file, **quiet)
            saved.success(None, js=_CLICK_FILE, api_visibility="private")
    page.queue(max_size=_WAITING, api_open=False, default_concurrency_limit=2)
    return page


def _message(text: str, *, problem: bool = False) -> str:
    """Write a line of status, whose words may be a visitor's own."""
    attributes = ' class="problem" role="alert"' if problem else ' role="status"'
    return f"<p{attributes}>{html.escape(text)}</p>"


def _panel(label: str, name: str) -> gr.Image:
    return gr.Image(
        label=label,
        elem_id=name,
        elem_classes="panel",
        interactive=False,
        height=330,
        min_width=260,
        format="png",
        buttons=["fullscreen"],
    )
