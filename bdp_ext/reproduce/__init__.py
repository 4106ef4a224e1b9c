"""The paper's experiments: which runs they are, how they are run, and their tables."""
