"""pytorch_lightning: the older name of lightning."""

from lightning import *  # noqa: F403
