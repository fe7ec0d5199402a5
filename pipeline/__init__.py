"""Everything that knows Beam, files or a terminal."""
