"""What ``scripts/benchmark.py`` and ``scripts/benchmark_accelerator.py`` measure, and how."""
