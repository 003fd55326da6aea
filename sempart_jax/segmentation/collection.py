"""Segment a collection of images into a folder, but for what is there already."""

import contextlib
import dataclasses
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import jax
from tqdm import tqdm

from sempart_jax.data.folder import PRODUCT_FOLDERS, file_stamp
from sempart_jax.host.folder_lock import locked
from sempart_jax.predict.segmenter import Segmenter
from sempart_jax.segmentation.finishing import Finisher
from sempart_jax.segmentation.formats import (
    check_formats,
    claim_formats,
    tell_outdated,
    write_formats,
)
from sempart_jax.segmentation.inputs import ImageFile, Shard, find_inputs, name_outputs
from sempart_jax.segmentation.outputs import OutputFolder, check_settings, claim_folder, digest_of
from sempart_jax.segmentation.records import RecordFile, drop_records, is_done, read_records
from sempart_jax.segmentation.stream import Stream


@dataclasses.dataclass
class Summary:
    """How many images a call has written so far, or found written before, and what has failed.

    ``failed`` holds the absolute path of each image and why.
    """

    done: int = 0
    skipped: int = 0
    failed: dict[Path, str] = dataclasses.field(default_factory=dict)
    started: float = dataclasses.field(default_factory=time.monotonic)

    def __str__(self) -> str:
        seconds = time.monotonic() - self.started
        return (
            f"{self.done} images in {seconds:.1f} seconds, "
            f"{self.done / max(seconds, 1e-9):.2f} images/s, {self.skipped} skipped, "
            f"{len(self.failed)} failed"
        )


def segment(
    arguments: Sequence[str],
    out: Path,
    segmenter: Segmenter,
    *,
    outputs: Sequence[str] = tuple(PRODUCT_FOLDERS),
    mask: str = "binary",
    threshold: float = 0.5,
    largest_component: bool = False,
    objects: int = 1,
    least_confidence: float = 0.0,
    formats: Sequence[str] = (),
    shard: Shard | None = None,
    overwrite: bool = False,
    summary: Summary | None = None,
) -> Summary:
    """Segment images into a folder.

    Args:
        arguments: see ``find_inputs``.
        out: output folder.
        segmenter: what segments.
        outputs: kinds of files, keys of ``PRODUCT_FOLDERS``.
        mask: ``binary`` or ``soft``.
        threshold: foreground is above it, in [0, 1).
        largest_component: whether only the component of the largest box is kept.
        objects: how many objects an image may have, the largest; see ``objects.split`` and
            ``objects.choose``. 1 for one foreground, whatever it is made of.
        least_confidence: a foreground, or an object, with less is left out.
        formats: what the masks of the whole folder are written as in the end besides, see
            ``formats.write_formats``.
        shard: this process of several; that of the jax.distributed cluster if None.
        overwrite: whether all is done anew, and an output folder of other settings is taken.
        summary: counts, kept up to date for whoever catches an error.

    Raises:
        FileNotFoundError: if an argument names no image.
        ModuleNotFoundError: if the library of a format is not installed.
        ValueError: if a setting is unknown, or other than the output folder's.
        FolderInUseError: if another process writes to the folder, as this shard of it.
        OSError: if a folder cannot be listed or written; what is finished is kept.
    """
    summary = summary or Summary()
    shard = shard or Shard(jax.process_index(), jax.process_count())
    check_settings(outputs, mask, threshold, objects, largest_component, least_confidence)
    check_formats(formats, outputs, mask)
    if objects != 1 and segmenter.predictor.numbered and segmenter.invert != "never":
        raise ValueError(
            "objects that a method has numbered cannot be inverted: leave --invert out"
        )
    wanted = find_inputs(arguments)
    settings = {
        **segmenter.settings(),
        "outputs": sorted(outputs),
        "mask": mask,
        "threshold": threshold,
        "largest_component": largest_component,
        # Not where they change nothing: folders from before they were settings can be continued.
        **({} if objects == 1 else {"objects": objects}),
        **({} if least_confidence == 0 else {"least_confidence": least_confidence}),
    }
    digest = digest_of(settings)
    part = "" if shard.count == 1 else f".{shard.label}"
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(out, "--out", part=part))
        claim_folder(out, settings, overwrite=overwrite)
        claim_formats(out, formats)
        if overwrite:
            drop_records(out, shard)
        records = read_records(out)
        names = {path: lines[-1]["name"] for path, lines in records.items()}
        files = [file for file in name_outputs(wanted, names) if shard.holds(file)]
        todo = [
            file
            for file in files
            if not is_done(out, file_stamp(file.path), records.get(file.path, []), digest, outputs)
        ]
        again = {file.path for file in todo}
        kept = [
            line
            for path, lines in read_records(out, shard.record_name).items()
            if path not in again
            for line in lines
            if (line["stamp"], line["settings"]) == (lines[-1]["stamp"], digest)
        ]
        summary.skipped = len(files) - len(todo)
        finisher = Finisher(
            segmenter,
            stack.enter_context(OutputFolder(out, shard.label)),
            stack.enter_context(RecordFile(out / shard.record_name, kept)),
            kinds=outputs,
            soft=mask == "soft",
            threshold=threshold,
            only_largest=largest_component,
            most_objects=objects,
            least_confidence=least_confidence,
            settings=digest,
        )
        bar = tqdm(
            total=len(files),
            initial=summary.skipped,
            unit="image",
            dynamic_ncols=True,
            # A log file is to be read, a terminal to be watched.
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
        )
        stack.enter_context(bar)
        lock = threading.Lock()

        def report(file: ImageFile, failure: str | None) -> None:
            with lock:
                bar.update()
                if failure is None:
                    summary.done += 1
                else:
                    summary.failed[file.path] = failure

        Stream(segmenter.predictor, finisher, report).run(todo)
        write_formats(out, formats, digest)
        if summary.done:
            tell_outdated(out, formats)
    return summary
