"""The entry points at the border to other processes: what they leave on the disk, in no time."""

import json
import shlex
import sys
from pathlib import Path

from sempart_jax.data.segment_products import MARKER
from sempart_jax.models.pretrained import BACKBONE_FILE


class FakeProcesses:
    """Stands in for ``run_command``.

    Attributes:
        started: ``MODULE ARGUMENTS`` of each command, in order.
        failing: words; a command that has one of them among its arguments fails.
        ended: whether trainings are told to end before their last step.
    """

    def __init__(self):
        self.started = []
        self.failing = set()
        self.ended = False

    def run(self, command):
        assert command[:2] == [sys.executable, "-m"]
        module, *arguments = command[2:]
        name = module.removeprefix("sempart_jax.")
        self.started.append([name, *arguments])
        failed = not self.failing.isdisjoint([name, *arguments])
        if not failed:
            getattr(self, f"_{name}")(arguments)
        return 3 if failed else 0

    def take(self):
        """Return what was started since the last time."""
        taken, self.started = self.started, []
        return taken

    def _train(self, arguments):
        folder = Path(after(arguments, "--workdir"))
        (folder / "config.json").write_text("{}")
        record = {"last step": 10, "kept step": 4 if self.ended else 10}
        (folder / "run.json").write_text(json.dumps(record))
        # What a network has learned follows from all but where it lies.
        (folder / "network").write_text(shlex.join(w for w in arguments if w != str(folder)))

    def _pretrain(self, arguments):
        self._train(arguments)
        folder = Path(after(arguments, "--workdir"))
        (folder / "network").rename(folder / BACKBONE_FILE)

    def _segment(self, arguments):
        network = (Path(after(arguments, "--workdir")) / "network").read_text()
        (Path(after(arguments, "--out")) / MARKER).write_text(json.dumps({"network": network}))

    def _evaluate(self, arguments):
        report = Path(after(arguments, "--report"))
        datasets = after(arguments, "--datasets").split(",")
        saliency = [{"dataset": name, "masks": shlex.join(arguments)} for name in datasets]
        report.mkdir(parents=True, exist_ok=True)
        content = {"saliency": saliency, "localization": []}
        (report / "results.json").write_text(json.dumps(content))


def after(arguments, flag):
    """The value of a flag."""
    return arguments[arguments.index(flag) + 1]
