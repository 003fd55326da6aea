"""What happens when something on the page is touched."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from jaxtyping import UInt8

from sempart_jax.data.images import UnreadableImageError
from sempart_jax.predict.postprocessing import guided_radius
from sempart_jax.segmentation.drawing import eight_bits
from sempart_jax.web.finishing import Finish, cut_out, on_checkerboard, preview
from sempart_jax.web.layout import NO_PICTURE, lay_out, message
from sempart_jax.web.sessions import Predict, Session, SessionStore, open_session, read_upload

_FORGOTTEN = "This picture is no longer kept: drop it again."
_CLEANING_INTERVAL, _OLDEST_FILE = 600, 3600  # seconds
_WAITING = 16


def build_page(
    predict: Predict,
    store: SessionStore,
    *,
    examples: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    max_megabytes: float,
) -> gr.Blocks:
    """Make the page.

    Args:
        predict: the network; at most one call runs at a time.
        store: keeps the pictures of the visitors.
        examples: pictures for those who have none at hand.
        max_megabytes: size above which a file is refused, in units of 1024² bytes.
    """
    with gr.Blocks(
        title="sempart_jax",
        analytics_enabled=False,
        delete_cache=(_CLEANING_INTERVAL, _OLDEST_FILE),
        fill_width=True,
    ) as page:
        token = gr.State(None, delete_callback=store.discard)
        given, results, settings = lay_out(examples, max_megabytes)

        def forget(old: str | None, status: str) -> dict[Any, Any]:
            store.discard(old)
            pictures = (results.picture, results.soft, results.refined, results.cutout)
            return {
                token: None,
                **dict.fromkeys(pictures),
                results.save_cutout: gr.update(link="", interactive=False),
                results.save_mask: gr.update(link="", interactive=False),
                results.status: status,
            }

        def show(session: Session) -> dict[Any, Any]:
            finished = session.finished
            cut = cut_out(session.image, finished.refined, finished.threshold)
            return {
                results.soft: preview(eight_bits(finished.soft)),
                results.refined: preview(eight_bits(finished.refined)),
                results.cutout: on_checkerboard(preview(cut)),
                results.status: message(describe(session)),
            }

        def segment(old: str | None, name: str, image: np.ndarray, *chosen: Any) -> dict[Any, Any]:
            refine, _, *others = chosen
            # Another picture, another radius: the paper's, scaled to it.
            radius = guided_radius(*image.shape[:2])
            store.discard(old)
            session = open_session(name, image, predict, chosen_finish(refine, radius, *others))
            new = store.add(session)
            return {
                **show(session),
                token: new,
                results.picture: preview(image),
                settings.radius: gr.update(value=radius, maximum=max(20, 5 * radius)),
                results.save_cutout: gr.update(link=f"/download/{new}/cutout", interactive=True),
                results.save_mask: gr.update(link=f"/download/{new}/mask", interactive=True),
            }

        def on_upload(path: str, old: str | None, *chosen: Any) -> dict[Any, Any]:
            try:
                image = read_upload(Path(path), max_megabytes)
            except UnreadableImageError as error:
                told = f"{error.path} is no picture that can be read: {error.reason}."
                return forget(old, message(told, problem=True))
            return segment(old, Path(path).name, image, *chosen)

        def on_example(event: gr.SelectData, old: str | None, *chosen: Any) -> dict[Any, Any]:
            index = int(event.index)
            shown = segment(old, f"scene_{index + 1}.png", examples[index], *chosen)
            return {**shown, given.upload: None}

        def on_clear(old: str | None) -> dict[Any, Any]:
            return forget(old, message(NO_PICTURE))

        def on_setting(here: str | None, *chosen: Any) -> dict[Any, Any]:
            session = store.get(here)
            if session is None:
                return {
                    results.status: message(NO_PICTURE)
                    if here is None
                    else message(_FORGOTTEN, problem=True)
                }
            session.finish(chosen_finish(*chosen))
            return show(session)

        refreshed = [results.soft, results.refined, results.cutout, results.status]
        everything = [
            token,
            results.picture,
            results.save_cutout,
            results.save_mask,
            settings.radius,
            *refreshed,
        ]
        state = [token, *settings.values]
        network: dict[str, Any] = {
            "concurrency_limit": 1,
            "concurrency_id": "network",
            "show_progress_on": refreshed[:3],
            "api_visibility": "private",
        }
        at_once: dict[str, Any] = {
            "concurrency_limit": None,
            "show_progress": "hidden",
            "api_visibility": "private",
        }
        given.upload.upload(on_upload, [given.upload, *state], everything, **network)
        given.upload.clear(on_clear, token, everything, **at_once)
        given.examples.select(on_example, state, [*everything, given.upload], **network)
        for control in settings.values:
            control.input(
                on_setting,
                state,
                refreshed,
                concurrency_limit=2,
                concurrency_id="filter",
                trigger_mode="always_last",
                show_progress="hidden",
                api_visibility="private",
            )
        # What a choice leaves without effect is not to be seen.
        settings.refine.input(
            lambda name: gr.update(visible=name == "guided"),
            settings.refine,
            settings.guided_only,
            **at_once,
        )
        settings.edges.input(
            lambda kind: gr.update(visible=kind == "hard"),
            settings.edges,
            settings.threshold,
            **at_once,
        )
    page.queue(max_size=_WAITING)
    return page


def describe(session: Session) -> str:
    """Say in a line what was done to a picture and how long it took."""
    height, width = session.image.shape[:2]
    share = float((session.finished.refined > 0.5).mean())
    return (
        f"{session.name} · {width} × {height} pixels · {share:.0%} foreground · "
        f"network {session.network_seconds:.2f} s · refinement {session.finish_seconds:.2f} s"
    )


def chosen_finish(
    refine: str, radius: float, exponent: float, invert: str, edges: str, threshold: float
) -> Finish:
    """Read the values of the page's controls."""
    return Finish(
        refine=refine,
        radius=int(radius),
        eps=10.0**exponent,
        invert=invert,
        threshold=float(threshold) if edges == "hard" else None,
    )
