"""energy-patch: a reversible codemod that gives a multi-GPU energy model one model and global negatives."""

__version__ = "0.1.0"
