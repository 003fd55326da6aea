"""What any program needs of its machine: command line, errors, locks, files."""
