"""`python -m energy_patch` is the command line."""

from energy_patch.cli import run

run()
