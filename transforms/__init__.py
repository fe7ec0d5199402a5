"""The numpy and Arrow core: pure functions and frozen dataclasses. Knows no Beam, no files, no clock."""
