"""What is written for people: panels of a training run, and the report of an evaluation."""

from sempart_jax.report.files import results_to_dict, write_report
from sempart_jax.report.tables import format_evaluation

__all__ = ["format_evaluation", "results_to_dict", "write_report"]
