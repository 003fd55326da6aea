"""What is written for people: panels of a training run, and the report of an evaluation."""
